"""Location–scale families on the real line: w = loc + scale · z, with z from the standard member of the family."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Parameter, Prior, substitute
from .parameters import check_parameter, moments, value_of
from .scale_family import ScaleFamily


class LocationScale(ScaleFamily):
    """Density p(w) = p₀((w − loc)/scale) / scale of a family with symmetric standard density p₀.

    Args:
        loc: location, a number or a tensor that broadcasts to the weight, or a prior.
        scale: a positive number or tensor, `fan_in(gain)` or another rule, or a prior on the scale.
        centred: `False` makes the latent z instead of w (the non-centred form), which removes the funnel between a weight and its
            own scale's hyperprior.
        matched: "variance" makes `scale` the standard deviation of w, so that families can be compared at equal variance.

    Raises:
        ValueError: a parameter out of range, or `matched="variance"` in a family whose variance is infinite.
    """

    def __init__(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        *,
        centred: bool = True,
        matched: str | None = None,
    ) -> None:
        self.loc = loc
        super().__init__(scale, centred=centred)
        self.matched = matched
        check_parameter(self, "loc", positive=False)
        if matched not in (None, "variance"):
            raise ValueError(f"{type(self).__name__}: matched {matched!r} given, expected 'variance' or None")
        if matched:
            self._check_matched()

    def standard(self) -> Prior:
        """The member of the family with loc 0 and scale 1: the prior of the latent of the non-centred form."""
        return substitute(self, {"loc": 0.0, "scale": 1.0, "matched": None, "centred": True})

    def mean(self) -> float | Tensor:
        """E[loc]; NaN where the standard member has no mean."""
        return moments(self.loc, self, "loc")[0] + self._standard_moments()[0]

    def variance(self) -> float | Tensor:
        """E[scale²] Var[z] + Var[loc]; E[scale²] + Var[loc] where the variance is matched."""
        mean, square = moments(self.loc, self, "loc")
        spread = moments(self.scale, self, "scale")[1]
        return spread * (1.0 if self.matched else self._standard_moments()[1]) + (square - mean * mean)

    def _stretch(self, z: Tensor) -> Tensor:
        return self._shift(super()._stretch(z), 1)

    def _unstretch(self, w: Tensor) -> Tensor:
        return super()._unstretch(self._shift(w, -1))

    def _unit(self, like: Tensor) -> float | Tensor:
        scale = super()._unit(like)
        if not self.matched:
            return scale
        variance = self._standard_variance(like)
        return scale / (variance.sqrt() if isinstance(variance, Tensor) else math.sqrt(variance))

    def _shift(self, w: Tensor, sign: int) -> Tensor:
        loc = value_of(self.loc, self, "loc", w)
        return w if isinstance(loc, (int, float)) and loc == 0 else w + sign * loc

    def _check_matched(self) -> None:
        """Raise ValueError where the variance is infinite."""

    def _standard_variance(self, like: Tensor) -> float | Tensor:
        """Var[z] at the present parameters; what `matched` divides by."""
        return self._standard_moments()[1]


class Normal(LocationScale):
    """Gaussian: log p(w) = −z²/2 − log(scale √(2π)), z = (w − loc)/scale. Variance scale²."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z * z - 0.5 * math.log(2 * math.pi)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.normal_(generator=generator)

    def _standard_moments(self) -> tuple[float, float]:
        return 0.0, 1.0


def random_sign(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """±1 with equal probability, in the shape of `like`."""
    return 2.0 * torch.empty_like(like).bernoulli_(0.5, generator=generator) - 1.0
