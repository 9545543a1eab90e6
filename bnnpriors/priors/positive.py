"""Priors on positive quantities, used above all as hyperpriors on a scale: s > 0, sampled as log s with its Jacobian."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from .base import Parameter, Prior, check_broadcast, check_parameter, log, substitute, value_of
from .location_scale import LocationScale, Normal, StudentT


class _Folded(Prior):
    """|w| for a symmetric w of the family: log p(s) = log 2 + log p_w(s) on s > 0."""

    _family: LocationScale
    support = constraints.positive

    def __init__(self, scale: Parameter = 1.0) -> None:
        self.scale = scale
        check_parameter(self, "scale")

    check_shape = check_broadcast

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log density for w > 0."""
        return math.log(2) + substitute(self._family, {"scale": self.scale}).log_prob(w)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """The absolute value of a draw of the unfolded family."""
        unfolded = substitute(self._family, {"scale": self.scale})
        return unfolded.sample(shape, generator=generator, dtype=dtype, device=device).abs()


class HalfNormal(_Folded):
    """log p(s) = log 2 − s²/(2 scale²) − log(scale √(2π)), s > 0."""

    _family = Normal(0.0, 1.0)


class HalfCauchy(_Folded):
    """log p(s) = log 2 − log(π scale (1 + s²/scale²)), s > 0."""

    _family = StudentT(1.0, 0.0, 1.0)


class Gamma(Prior):
    """log p(s) = α log β + (α − 1) log s − β s − log Γ(α), s > 0; mean α/β.

    Args:
        concentration: α > 0.
        rate: β > 0.
    """

    support = constraints.positive

    def __init__(self, concentration: Parameter = 2.0, rate: Parameter = 1.0) -> None:
        self.concentration = concentration
        self.rate = rate
        check_parameter(self, "concentration")
        check_parameter(self, "rate")

    check_shape = check_broadcast

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log density for w > 0."""
        alpha = value_of(self.concentration, self, "concentration", w)
        rate = value_of(self.rate, self, "rate", w)
        normaliser = torch.lgamma(alpha) if isinstance(alpha, Tensor) else math.lgamma(alpha)
        return alpha * log(rate) - normaliser + (alpha - 1) * w.log() - rate * w

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A draw of the gamma distribution."""
        like = torch.empty((), dtype=dtype, device=device or (generator.device if generator else None))
        alpha = torch.as_tensor(value_of(self.concentration, self, "concentration", like)).to(like)
        draw = torch._standard_gamma(alpha.expand(shape).contiguous(), generator=generator)
        return draw / value_of(self.rate, self, "rate", like)
