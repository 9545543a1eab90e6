"""Location–scale families on the real line: w = loc + scale · z, with z from the standard member of the family."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Parameter, Prior, check_broadcast, check_parameter, log, substitute, value_of


class LocationScale(Prior):
    """Density p(w) = p₀((w − loc)/scale) / scale of a family with standard density p₀.

    Args:
        loc: location, a number or a tensor that broadcasts to the weight.
        scale: a positive number or tensor, `fan_in(gain)`, or a prior on the scale.
        centred: `False` makes the latent z instead of w (the non-centred form), which removes the funnel between a weight and its
            own scale's hyperprior.
    """

    def __init__(self, loc: Parameter = 0.0, scale: Parameter = 1.0, *, centred: bool = True) -> None:
        self.loc = loc
        self.scale = scale
        self.centred = centred
        check_parameter(self, "loc", positive=False)
        check_parameter(self, "scale")

    check_shape = check_broadcast

    def standard(self) -> LocationScale:
        """The member of the family with loc 0 and scale 1: the prior of the latent of the non-centred form."""
        return substitute(self, {"loc": 0.0, "scale": 1.0})

    def from_standard(self, z: Tensor) -> Tensor:
        """w = loc + scale · z."""
        return self._shift(value_of(self.scale, self, "scale", z) * z, 1)

    def to_standard(self, w: Tensor) -> Tensor:
        """z = (w − loc) / scale."""
        return self._shift(w, -1) / value_of(self.scale, self, "scale", w)

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log p₀((w − loc)/scale) − log scale."""
        return self._standard_log_prob(self.to_standard(w)) - log(value_of(self.scale, self, "scale", w))

    def _shift(self, w: Tensor, sign: int) -> Tensor:
        loc = value_of(self.loc, self, "loc", w)
        return w if isinstance(loc, (int, float)) and loc == 0 else w + sign * loc

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """loc + scale · z for one z of the standard family."""
        z = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        return self.from_standard(self._standard_sample(z, generator))

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError


class Normal(LocationScale):
    """Gaussian: log p(w) = −z²/2 − log(scale √(2π)), z = (w − loc)/scale. Variance scale²."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z * z - 0.5 * math.log(2 * math.pi)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.normal_(generator=generator)


class Laplace(LocationScale):
    """Double exponential: log p(w) = −|z| − log(2 scale). Variance 2 scale²."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -z.abs() - math.log(2)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        sign = 2.0 * torch.empty_like(empty).bernoulli_(0.5, generator=generator) - 1.0
        return empty.exponential_(generator=generator) * sign


class StudentT(LocationScale):
    """Student's t with `df` degrees of freedom ν:

    log p(w) = −(ν+1)/2 · log(1 + z²/ν) + log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(πν) − log scale. Variance scale² ν/(ν−2) for ν > 2.
    """

    def __init__(
        self, df: Parameter = 3.0, loc: Parameter = 0.0, scale: Parameter = 1.0, *, centred: bool = True
    ) -> None:
        super().__init__(loc, scale, centred=centred)
        self.df = df
        check_parameter(self, "df")

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        df = value_of(self.df, self, "df", z)
        half = 0.5 * (df + 1)
        constant = _log_gamma(half) - _log_gamma(0.5 * df) - 0.5 * log(math.pi * df)
        return constant - half * torch.log1p(z * z / df)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        df = torch.as_tensor(value_of(self.df, self, "df", empty), dtype=empty.dtype, device=empty.device)
        chi2 = 2.0 * torch._standard_gamma((0.5 * df).expand(empty.shape).contiguous(), generator=generator)
        return empty.normal_(generator=generator) * torch.sqrt(df / chi2)


def _log_gamma(value: float | Tensor) -> float | Tensor:
    return torch.lgamma(value) if isinstance(value, Tensor) else math.lgamma(value)
