"""Priors on positive quantities, used above all as hyperpriors on a scale: s > 0, sampled as log s with its Jacobian."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from .base import Parameter, Prior, substitute
from .location_scale import Normal
from .parameters import check_broadcast, check_parameter, log_gamma, moments, tensor_of, value_of
from .scale_family import SOFTPLUS_THRESHOLD, ScaleFamily, central_square


class HalfNormal(ScaleFamily):
    """|w| of a Normal w: log p(s) = log 2 − s²/(2 scale²) − log(scale √(2π)), s > 0. Variance scale² (1 − 2/π)."""

    support = constraints.positive
    widths = ()  # the latent log s is shifted by log scale, and not widened

    def log_prob_of_log(self, log_w: Tensor) -> Tensor:
        """log p(log s) = log √(2/π) + v − e^(2v)/2, v = log(s/scale)."""
        v = self._unshift(log_w)
        return v - (2 * v - math.log(2)).exp() + 0.5 * math.log(2 / math.pi)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z * z + 0.5 * math.log(2 / math.pi)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.normal_(generator=generator).abs()

    def _standard_moments(self) -> tuple[float, float]:
        return math.sqrt(2 / math.pi), 1.0


class HalfCauchy(ScaleFamily):
    """|w| of a Cauchy w: log p(s) = log 2 − log(π scale (1 + s²/scale²)), s > 0. Mean and variance are infinite."""

    support = constraints.positive
    widths = ()  # the latent log s is shifted by log scale, and not widened

    def log_prob_of_log(self, log_w: Tensor) -> Tensor:
        """log p(log s) = log(2/π) + v − log(1 + e^(2v)), v = log(s/scale)."""
        v = self._unshift(log_w)
        half = softplus(v, beta=2, threshold=SOFTPLUS_THRESHOLD)
        return torch.sub(v, half, alpha=2) + math.log(2 / math.pi)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return math.log(2 / math.pi) - torch.log1p(z * z)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.cauchy_(generator=generator).abs()

    def _standard_moments(self) -> tuple[float, float]:
        return math.inf, math.inf


class Gamma(ScaleFamily):
    """Gamma: log p(s) = α log β + (α − 1) log s − β s − log Γ(α), s > 0. Mean α/β, variance α/β².

    Args:
        concentration: α > 0.
        rate: β > 0.
        centred: `False` makes log(β s) the latent instead of log s.
    """

    support = constraints.positive

    def __init__(
        self, concentration: Parameter = 2.0, rate: Parameter = 1.0, *, centred: bool = True
    ) -> None:
        self.concentration = concentration
        self.rate = rate
        self.centred = centred
        check_parameter(self, "concentration")
        check_parameter(self, "rate")

    def standard(self) -> Prior:
        """Gamma(α, 1)."""
        return substitute(self, {"rate": 1.0, "centred": True})

    def mean(self) -> float | Tensor:
        """α/β."""
        return moments(self.concentration, self, "concentration")[0] / _fixed(self, "rate")

    def variance(self) -> float | Tensor:
        """E[α]/β² + Var[α]/β²."""
        mean, square = moments(self.concentration, self, "concentration")
        rate = _fixed(self, "rate")
        return (mean + square - mean * mean) / (rate * rate)

    def _unit(self, like: Tensor) -> float | Tensor:
        return 1 / value_of(self.rate, self, "rate", like)

    def log_prob_of_log(self, log_w: Tensor) -> Tensor:
        """log p(log s) = α v − e^v − log Γ(α), v = log(β s)."""
        alpha = value_of(self.concentration, self, "concentration", log_w)
        v = self._unshift(log_w)
        return alpha * v - v.exp() - log_gamma(alpha)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        alpha = value_of(self.concentration, self, "concentration", z)
        return (alpha - 1) * z.log() - z - log_gamma(alpha)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        alpha = tensor_of(self.concentration, self, "concentration", empty)
        return torch._standard_gamma(alpha.expand(empty.shape).contiguous(), generator=generator)


class InverseGamma(ScaleFamily):
    """1/s of a Gamma s: log p(s) = α log β − (α + 1) log s − β/s − log Γ(α), s > 0. Mean β/(α−1), variance β²/((α−1)²(α−2)).

    Args:
        concentration: α > 0; the mean is infinite for α ≤ 1 and the variance for α ≤ 2.
        rate: β > 0, also called the scale.
        centred: `False` makes log(s/β) the latent instead of log s.
    """

    support = constraints.positive

    def __init__(
        self, concentration: Parameter = 3.0, rate: Parameter = 2.0, *, centred: bool = True
    ) -> None:
        self.concentration = concentration
        self.rate = rate
        self.centred = centred
        check_parameter(self, "concentration")
        check_parameter(self, "rate")

    def standard(self) -> Prior:
        """InverseGamma(α, 1)."""
        return substitute(self, {"rate": 1.0, "centred": True})

    def mean(self) -> float | Tensor:
        """E[β]/(α−1), infinite for α ≤ 1."""
        return moments(self.rate, self, "rate")[0] * self._powers()[0]

    def variance(self) -> float | Tensor:
        """E[β²]/((α−1)(α−2)) − E[s]², infinite for α ≤ 2."""
        return central_square(moments(self.rate, self, "rate")[1] * self._powers()[1], self.mean())

    def _powers(self) -> tuple[float | Tensor, float | Tensor]:
        alpha = torch.as_tensor(_fixed(self, "concentration"), dtype=torch.float64)
        first = torch.where(alpha > 1, 1 / (alpha - 1), math.inf)
        second = torch.where(alpha > 2, first / (alpha - 2), math.inf)
        return (first, second) if isinstance(self.concentration, Tensor) else (float(first), float(second))

    def _unit(self, like: Tensor) -> float | Tensor:
        return value_of(self.rate, self, "rate", like)

    def log_prob_of_log(self, log_w: Tensor) -> Tensor:
        """log p(log s) = −α v − e^(−v) − log Γ(α), v = log(s/β)."""
        alpha = value_of(self.concentration, self, "concentration", log_w)
        v = -self._unshift(log_w)
        return alpha * v - v.exp() - log_gamma(alpha)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        alpha = value_of(self.concentration, self, "concentration", z)
        return -(alpha + 1) * z.log() - 1 / z - log_gamma(alpha)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        alpha = tensor_of(self.concentration, self, "concentration", empty)
        return 1 / torch._standard_gamma(alpha.expand(empty.shape).contiguous(), generator=generator)


class LogNormal(Prior):
    """e^x of a Normal x: log p(s) = −(log s − loc)²/(2 scale²) − log(s scale √(2π)), s > 0.
    Variance (e^(scale²) − 1) e^(2 loc + scale²).

    Args:
        loc: mean of log s. scale: standard deviation of log s.
        centred: `False` makes (log s − loc)/scale the latent instead of log s.
    """

    support = constraints.positive

    def __init__(self, loc: Parameter = 0.0, scale: Parameter = 1.0, *, centred: bool = True) -> None:
        self.loc = loc
        self.scale = scale
        self.centred = centred
        check_parameter(self, "loc", positive=False)
        check_parameter(self, "scale")

    check_shape = check_broadcast

    @property
    def _log(self) -> Normal:
        return substitute(_NORMAL, {"loc": self.loc, "scale": self.scale})

    def standard(self) -> Prior:
        """Normal(0, 1), the prior of (log s − loc)/scale."""
        return _NORMAL

    def from_standard(self, z: Tensor) -> Tensor:
        """s = exp(loc + scale · z)."""
        return self._log.from_standard(z).exp()

    def to_standard(self, w: Tensor) -> Tensor:
        """z = (log s − loc)/scale."""
        return self._log.to_standard(w.log())

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log density for w > 0."""
        log_w = w.log()
        return self._log.log_prob(log_w) - log_w

    def log_prob_of_log(self, log_w: Tensor) -> Tensor:
        """The Normal density of log s."""
        return self._log.log_prob(log_w)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """exp of a Normal draw."""
        return self._log.sample(shape, generator=generator, dtype=dtype, device=device).exp()

    def mean(self) -> float | Tensor:
        """exp(loc + scale²/2)."""
        return _exp(_fixed(self, "loc") + 0.5 * _fixed(self, "scale") ** 2)

    def variance(self) -> float | Tensor:
        """(exp(scale²) − 1) exp(2 loc + scale²)."""
        square = _fixed(self, "scale") ** 2
        return (_exp(square) - 1) * _exp(2 * _fixed(self, "loc") + square)


_NORMAL = Normal(0.0, 1.0)


def _exp(value: float | Tensor) -> float | Tensor:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def _fixed(owner: Prior, name: str) -> float | Tensor:
    """A parameter that must be a number for a moment in closed form."""
    if isinstance(getattr(owner, name), Prior):
        raise NotImplementedError(
            f"{owner!r}: no moment in closed form under a prior on {name}; estimate it from draws"
        )
    return moments(getattr(owner, name), owner, name)[0]
