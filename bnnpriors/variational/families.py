"""Approximate laws of the weights of a linear model: what `fit` searches through."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .gaussian import Gaussian


class Family(nn.Module):
    """A law of [dim] weights whose parameters are learnt."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count dim"]:
        """Independent draws, with gradients in the parameters."""
        raise NotImplementedError

    def law(self) -> Gaussian | None:
        """The law in closed form, with gradients; None where only draws are known."""
        return None


class FullGaussian(Family):
    """N(m, LLᵀ), L lower triangular with diagonal exp(r). Begins at a normal law of standard deviation `scale`."""

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.raw_scale = nn.Parameter(torch.full((dim,), math.log(scale), dtype=torch.float64))
        self.below = nn.Parameter(torch.zeros(dim, dim, dtype=torch.float64))

    def factor(self) -> Float[Tensor, "dim dim"]:
        """L."""
        return self.raw_scale.exp().diag() + self.below.tril(-1)

    def law(self) -> Gaussian:
        factor = self.factor()
        return Gaussian(self.mean, factor @ factor.mT)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count dim"]:
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + noise @ self.factor().mT


class DiagonalGaussian(FullGaussian):
    """N(m, diag s²), the mean-field law."""

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__(dim, scale)
        self.below.requires_grad_(False)


class Implicit(Family):
    """w = m + A(ε + U tanh(Vε + b)), ε ~ N(0, I): a network's law, of which only draws are known. Begins near N(0, scale² I).

    Args:
        dim: of the weights. hidden: units of the network.
    """

    def __init__(
        self, dim: int, scale: float = 1.0, *, hidden: int = 50, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.mean = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.mixing = nn.Parameter(scale * torch.eye(dim, dtype=torch.float64))
        self.inner = nn.Parameter(normal(hidden, dim) / math.sqrt(dim))
        self.bias = nn.Parameter(normal(hidden))
        self.outer = nn.Parameter(0.1 * normal(dim, hidden) / math.sqrt(hidden))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count dim"]:
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        bent = torch.tanh(noise @ self.inner.mT + self.bias) @ self.outer.mT
        return self.mean + (noise + bent) @ self.mixing.mT
