"""Location–scale families with a quantile function in closed form, which can be sampled through a standard normal latent."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .base import Parameter, Prior
from .location_scale import LocationScale, Normal, random_sign
from .scale_family import SOFTPLUS_THRESHOLD


class QuantileFamily(LocationScale):
    """A family whose standard member has the quantile function F⁻¹.

    Args:
        loc, scale, centred, matched: as for every location–scale family.
        normal_latent: makes the latent u ~ N(0, 1) with w = loc + scale · F⁻¹(Φ(u)). The prior is the same; what a sampler
            sees of it is a standard Gaussian, without a kink at zero or heavy tails. It implies `centred=False`.
    """

    def __init__(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        *,
        centred: bool = True,
        matched: str | None = None,
        normal_latent: bool = False,
    ) -> None:
        super().__init__(loc, scale, centred=centred and not normal_latent, matched=matched)
        self.normal_latent = normal_latent

    def standard(self) -> Prior:
        """N(0, 1) for `normal_latent`, otherwise the member of the family with loc 0 and scale 1."""
        return Normal() if self.normal_latent else super().standard()

    def from_standard(self, z: Tensor) -> Tensor:
        """w = loc + scale · z, or loc + scale · F⁻¹(Φ(z)) for `normal_latent`."""
        return super().from_standard(self._quantile(z) if self.normal_latent else z)

    def to_standard(self, w: Tensor) -> Tensor:
        """z = (w − loc)/scale, or Φ⁻¹(F(z)) of it for `normal_latent`."""
        z = super().to_standard(w)
        if not self.normal_latent:
            return z
        tail = self._tail(z.double().abs())
        return (-torch.special.ndtri(tail) * z.sign()).to(z.dtype)

    def _quantile(self, u: Tensor) -> Tensor:
        """F⁻¹(Φ(u)) of the standard member."""
        raise NotImplementedError

    def _tail(self, distance: Tensor) -> Tensor:
        """P(z > distance) of the standard member, for distances from 0."""
        raise NotImplementedError


class Laplace(QuantileFamily):
    """Double exponential: log p(w) = −|z| − log(2 scale). Variance 2 scale²."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -z.abs() - math.log(2)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.exponential_(generator=generator) * random_sign(empty, generator)

    def _standard_moments(self) -> tuple[float, float]:
        return 0.0, 2.0

    def _quantile(self, u: Tensor) -> Tensor:
        sign, tail = _sign_and_tail(u)
        return -sign * (2 * tail).log()

    def _tail(self, distance: Tensor) -> Tensor:
        return 0.5 * torch.exp(-distance)


class Logistic(QuantileFamily):
    """Logistic: log p(w) = −z − 2 log(1 + e^(−z)) − log scale. Variance scale² π²/3."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -z - 2.0 * softplus(-z, threshold=SOFTPLUS_THRESHOLD)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        other = torch.empty_like(empty).exponential_(generator=generator).log()
        return empty.exponential_(generator=generator).log() - other

    def _standard_moments(self) -> tuple[float, float]:
        return 0.0, math.pi**2 / 3

    def _quantile(self, u: Tensor) -> Tensor:
        sign, tail = _sign_and_tail(u)
        return sign * (torch.log1p(-tail) - tail.log())

    def _tail(self, distance: Tensor) -> Tensor:
        return torch.sigmoid(-distance)


def _sign_and_tail(u: Tensor) -> tuple[Tensor, Tensor]:
    """±1 (1 at zero, where |u| as sign · u keeps a derivative) and Φ(−|u|), not below the smallest normal number of the dtype.

    `torch.special.log_ndtr` would reach farther, but takes ten times as long and has no rule for `torch.vmap`.
    """
    sign = torch.where(u < 0, -1.0, 1.0).to(u.dtype)
    tail = 0.5 * torch.special.erfc(sign * u * math.sqrt(0.5))
    return sign, tail.clamp_min(torch.finfo(u.dtype).tiny)
