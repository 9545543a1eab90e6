"""Scale families, the common ground of location–scale and positive priors: w = scale · z, with z from the standard member."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Parameter, Prior, substitute
from .parameters import check_broadcast, check_parameter, log, moments, value_of

SOFTPLUS_THRESHOLD = 40.0
"""Where log(1 + e^x) is x to double precision; torch's own 20 is not that far out."""


class ScaleFamily(Prior):
    """Density p(w) = p₀(w/scale) / scale of a family with standard density p₀.

    Args:
        scale: a positive number or tensor, `fan_in(gain)` or another rule, or a prior on the scale.
        centred: `False` makes the latent z = w/scale instead of w (the non-centred form), which removes the funnel between w
            and its own scale's hyperprior.
    """

    def __init__(self, scale: Parameter = 1.0, *, centred: bool = True) -> None:
        self.scale = scale
        self.centred = centred
        check_parameter(self, "scale")

    check_shape = check_broadcast

    def standard(self) -> Prior:
        """The member of the family with scale 1: the prior of the latent of the non-centred form."""
        return substitute(self, {"scale": 1.0, "centred": True})

    def from_standard(self, z: Tensor) -> Tensor:
        """w = scale · z."""
        return self._stretch(z)

    def to_standard(self, w: Tensor) -> Tensor:
        """z = w / scale."""
        return self._unstretch(w)

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log p₀(z) − log scale."""
        standard = self._standard_log_prob(self._unstretch(w))
        log_unit = log(self._unit(w))
        return standard if _is_number(log_unit, 0) else standard - log_unit

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """The weight of one z of the standard family."""
        z = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        return self._stretch(self._standard_sample(z, generator))

    def mean(self) -> float | Tensor:
        """E[scale] E[z]."""
        return moments(self.scale, self, "scale")[0] * self._standard_moments()[0]

    def variance(self) -> float | Tensor:
        """E[scale²] E[z²] − E[w]²; infinite where a moment is."""
        square = moments(self.scale, self, "scale")[1] * self._standard_moments()[1]
        return central_square(square, self.mean())

    def _stretch(self, z: Tensor) -> Tensor:
        unit = self._unit(z)
        return z if _is_number(unit, 1) else unit * z

    def _unstretch(self, w: Tensor) -> Tensor:
        unit = self._unit(w)
        return w if _is_number(unit, 1) else w / unit

    def _unshift(self, log_w: Tensor) -> Tensor:
        """log z = log w − log scale."""
        unit = self._unit(log_w)
        return log_w if _is_number(unit, 1) else log_w - log(unit)

    def _unit(self, like: Tensor) -> float | Tensor:
        """What z is multiplied by, on the dtype and device of `like`."""
        return value_of(self.scale, self, "scale", like)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def _standard_moments(self) -> tuple[float | Tensor, float | Tensor]:
        """E[z] and E[z²]."""
        raise NotImplementedError


def _is_number(value: float | Tensor, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number


def central_square(square: float | Tensor, mean: float | Tensor) -> float | Tensor:
    """E[w²] − E[w]², infinite where E[w²] is."""
    if isinstance(square, Tensor) or isinstance(mean, Tensor):
        square = torch.as_tensor(square)
        return torch.where(square.isinf(), square, square - mean * mean)
    return square if square == float("inf") else square - mean * mean
