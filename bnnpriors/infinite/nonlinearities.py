"""Nonlinearities under Gaussian inputs (u, u') ~ N(0, [[v, c], [c, v']]): E[φ(u)φ(u')], its derivative kernel, and E[φ(u)]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

Covariance = Float[Tensor, "*#pairs"]
Variance = Float[Tensor, "*#pairs"]


class Nonlinearity(ABC):
    """An elementwise function φ. Variances v, v' broadcast to the covariances c.

    Attributes:
        is_odd: φ(−u) = −φ(u), so that E[φ(u)] = 0.
    """

    is_odd: bool = False

    @abstractmethod
    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """E[φ(u)φ(u')]."""

    @abstractmethod
    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """E[φ'(u)φ'(u')], which is the derivative of `moment` in c (Price's theorem)."""

    @abstractmethod
    def mean(self, v: Variance) -> Variance:
        """E[φ(u)]."""

    def square(self, v: Variance) -> Variance:
        """E[φ(u)²], the moment at c = v = v'."""
        return self.moment(v, v, v)

    def slope_square(self, v: Variance) -> Variance:
        """E[φ'(u)²], the derivative at c = v = v'."""
        return self.derivative(v, v, v)


class LeakyReLU(Nonlinearity):
    """φ(u) = max(u, 0) + a min(u, 0): E[φφ'] = a c + (1−a)² V, V = (1/2π)[√(vv'−c²) + (π−θ)c], θ = arccos(c/√(vv')).

    V is the arc-cosine kernel of Cho & Saul 2009 (section 2, order 1). Its gradients are finite at θ = 0.
    """

    def __init__(self, slope: float = 0.0) -> None:
        self.slope = slope

    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        arc = _ArcCosine.apply(c, v, w)
        return arc if self.slope == 0 else self.slope * c + (1 - self.slope) ** 2 * arc

    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """a + (1−a)² (π−θ)/2π."""
        angle = torch.acos(_correlation(c, v, w)[0])
        return self.slope + (1 - self.slope) ** 2 * (math.pi - angle) / (2 * math.pi)

    def mean(self, v: Variance) -> Variance:
        """(1−a) √(v/2π)."""
        return (1 - self.slope) * torch.sqrt(_positive(v) / (2 * math.pi))

    def square(self, v: Variance) -> Variance:
        """(1+a²) v/2, without the rounding of the arc-cosine."""
        return 0.5 * (1 + self.slope**2) * v

    def slope_square(self, v: Variance) -> Variance:
        """(1+a²)/2."""
        return torch.full_like(v, 0.5 * (1 + self.slope**2))

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})" if self.slope else "ReLU()"


class Erf(Nonlinearity):
    """φ = erf: (2/π) asin(2c/√((1+2v)(1+2v'))) (Williams 1997, eq. 11)."""

    is_odd = True

    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        return 2 / math.pi * torch.asin(2 * c * torch.rsqrt(1 + 2 * v) * torch.rsqrt(1 + 2 * w))

    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """(4/π) / √((1+2v)(1+2v') − 4c²)."""
        return 4 / math.pi * torch.rsqrt((1 + 2 * v) * (1 + 2 * w) - 4 * c * c)

    def mean(self, v: Variance) -> Variance:
        return torch.zeros_like(v)


class Sin(Nonlinearity):
    """φ = sin: e^(−(v+v')/2) sinh c."""

    is_odd = True

    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        centre = 0.5 * (v + w)
        return 0.5 * (torch.exp(c - centre) - torch.exp(-c - centre))

    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """e^(−(v+v')/2) cosh c."""
        centre = 0.5 * (v + w)
        return 0.5 * (torch.exp(c - centre) + torch.exp(-c - centre))

    def mean(self, v: Variance) -> Variance:
        return torch.zeros_like(v)


class GELU(Nonlinearity):
    """φ(u) = u Φ(u): c F + D [vv' + c²(1/(1+v) + 1/(1+v') − 1)] (cf. Tsuchida et al. 2021, 2002.08517), by Stein's lemma from
    F = E[Φ(u)Φ(u')] = ¼ + asin(c/√((1+v)(1+v')))/2π and D = E[N(u)N(u')] = 1/(2π√((1+v)(1+v')−c²)), N the normal density.
    """

    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        both, density = self._parts(c, v, w)
        return c * both + density * (v * w + c * c * (1 / (1 + v) + 1 / (1 + w) - 1))

    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """F + D c [1/(1+v) + 1/(1+v') + 1/((1+v)(1+v')−c²)]."""
        both, density = self._parts(c, v, w)
        return both + density * c * (1 / (1 + v) + 1 / (1 + w) + 1 / ((1 + v) * (1 + w) - c * c))

    def mean(self, v: Variance) -> Variance:
        """v/√(2π(1+v))."""
        return v * torch.rsqrt(2 * math.pi * (1 + v))

    def _parts(self, c: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        both = 0.25 + torch.asin(c * torch.rsqrt(1 + v) * torch.rsqrt(1 + w)) / (2 * math.pi)
        return both, torch.rsqrt((1 + v) * (1 + w) - c * c) / (2 * math.pi)


NUM_TERMS = 96
_NODES = torch.linspace(-12.0, 12.0, 481, dtype=torch.float64)


class Smooth(Nonlinearity):
    """Any smooth φ, by Mehler's expansion: E[φφ'] = Σ_k a_k(v) a_k(v') ρ^k, a_k(v) = E[φ(√v z) h_k(z)], h_k the orthonormal
    Hermite polynomials and ρ = c/√(vv').

    The first 96 terms, with a_k by the trapezoidal rule. Each term is positive semi-definite, hence so is what is left of the
    sum. For tanh the error is below 1e-12 for variances up to 0.5, 3e-7 up to 4 and 1e-3 up to 25, largest at ρ = ±1.

    Args:
        function: φ. name: for messages. is_odd: as for `Nonlinearity`.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str, *, is_odd: bool = False) -> None:
        self.function = function
        self.name = name
        self.is_odd = is_odd

    def moment(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        rho, _ = _correlation(c, v, w)
        return _series(rho, self._coefficients(v), self._coefficients(w))

    def derivative(self, c: Covariance, v: Variance, w: Variance) -> Covariance:
        """Σ_k k a_k(v) a_k(v') ρ^(k−1) / √(vv')."""
        rho, inverse = _correlation(c, v, w)
        order = torch.arange(1, NUM_TERMS, dtype=c.dtype, device=c.device)
        return inverse * _series(rho, order * self._coefficients(v)[..., 1:], self._coefficients(w)[..., 1:])

    def mean(self, v: Variance) -> Variance:
        """a_0(v)."""
        return self._coefficients(v)[..., 0]

    def square(self, v: Variance) -> Variance:
        """Σ_k a_k(v)²: as `moment`, so that a diagonal is consistent with what is beside it."""
        return self._coefficients(v).square().sum(-1)

    def _coefficients(self, v: Tensor) -> Tensor:
        values = self.function(torch.sqrt(_positive(v))[..., None] * _NODES.to(v))
        return values @ _hermite().to(v)

    def __repr__(self) -> str:
        return self.name


@cache
def _hermite() -> Float[Tensor, "nodes terms"]:
    """Quadrature weight times h_k(z) at each node."""
    spacing = float(_NODES[1] - _NODES[0])
    terms = [torch.exp(-0.5 * _NODES**2) / math.sqrt(2 * math.pi) * spacing]
    terms.append(_NODES * terms[0])
    for k in range(1, NUM_TERMS - 1):
        terms.append((_NODES * terms[k] - math.sqrt(k) * terms[k - 1]) / math.sqrt(k + 1))
    return torch.stack(terms, -1)


def _series(rho: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_k a_k b_k ρ^k by Horner's rule; a and b have the terms last."""
    total = (a[..., -1] * b[..., -1]).expand(rho.shape)
    for k in range(a.shape[-1] - 2, -1, -1):
        total = torch.addcmul(a[..., k] * b[..., k], total, rho)
    return total


def _positive(v: Tensor) -> Tensor:
    return v.clamp_min(torch.finfo(v.dtype).tiny)


def _correlation(c: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """ρ, cut to [−1, 1], and 1/√(vv'); ρ = 0 where a variance is 0."""
    inverse = torch.rsqrt(_positive(v)) * torch.rsqrt(_positive(w))
    return (c * inverse).clamp(-1, 1), inverse


class _ArcCosine(torch.autograd.Function):
    """V of `LeakyReLU`, with derivatives that do not cancel: ∂V/∂c = (π−θ)/2π, ∂V/∂v = √(v'/v) sin θ/4π."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, c: Tensor, v: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(c, v, w)
        rho, _ = _correlation(c, v, w)
        spread = torch.sqrt(v.clamp_min(0)) * torch.sqrt(w.clamp_min(0))
        sine = torch.sqrt((1 - rho) * (1 + rho))
        angle = torch.acos(rho)
        return spread * sine.sub_(angle.sub_(math.pi).mul_(rho)).mul_(1 / (2 * math.pi))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        c, v, w = ctx.saved_tensors  # type: ignore[attr-defined]
        rho, _ = _correlation(c, v, w)
        by_c = grad * (math.pi - torch.acos(rho)) / (2 * math.pi)
        by_v = by_w = None
        if any(ctx.needs_input_grad[1:]):  # type: ignore[attr-defined]
            sine = grad * torch.sqrt((1 - rho) * (1 + rho)) / (4 * math.pi)
            ratio = torch.sqrt(_positive(w)) * torch.rsqrt(_positive(v))
            by_v = (sine * ratio).sum_to_size(v.shape)
            by_w = (sine / ratio).sum_to_size(w.shape)
        return by_c, by_v, by_w
