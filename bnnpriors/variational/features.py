"""Features for Bayesian linear regression: maps from inputs [n, in] to Φ [n, p]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Features = Callable[[Tensor], Tensor]


def polynomial(degree: int) -> Features:
    """1, x, x², …, x^degree of each input coordinate, without products of two: p = 1 + in · degree.

    Raises ValueError for a degree below one.
    """
    if degree < 1:
        raise ValueError(f"polynomial: degree {degree} given, expected an integer from 1")

    def features(x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n p"]:
        powers = [x**k for k in range(1, degree + 1)]
        return torch.cat([torch.ones_like(x[:, :1]), *powers], 1)

    return features


def radial(centres: Float[Tensor, "p inputs"], lengthscale: float) -> Features:
    """exp(−|x − c|²/(2ℓ²)) for each centre c. Raises ValueError for a lengthscale that is not positive."""
    if not lengthscale > 0:
        raise ValueError(f"radial: lengthscale {lengthscale} given, expected a positive number")
    return lambda x: torch.exp(-0.5 * (torch.cdist(x, centres.to(x)) / lengthscale).square())


def random_relu(inputs: int, count: int, generator: torch.Generator) -> Features:
    """√(2/p) ReLU(a·x + b), a and b standard normal: as p grows the features of the arc-cosine kernel (Cho & Saul 2009)."""
    weight = torch.randn(count, inputs, generator=generator, dtype=torch.float64)
    bias = torch.randn(count, generator=generator, dtype=torch.float64)
    return lambda x: math.sqrt(2 / count) * torch.relu(x @ weight.to(x).mT + bias.to(x))


def random_fourier(inputs: int, count: int, lengthscale: float, generator: torch.Generator) -> Features:
    """√(2/p) cos(a·x/ℓ + b), a standard normal, b uniform: of the squared exponential kernel (Rahimi & Recht 2007)."""
    if not lengthscale > 0:
        raise ValueError(f"random_fourier: lengthscale {lengthscale} given, expected a positive number")
    weight = torch.randn(count, inputs, generator=generator, dtype=torch.float64) / lengthscale
    phase = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return lambda x: math.sqrt(2 / count) * torch.cos(x @ weight.to(x).mT + phase.to(x))


def network(net: nn.Module) -> Features:
    """What a network that is frozen makes of the inputs, such as a trained one without its last layer."""

    def features(x: Float[Tensor, "n *inputs"]) -> Float[Tensor, "n p"]:
        dtype = next((p.dtype for p in net.parameters()), x.dtype)
        with torch.no_grad():
            return net(x.to(dtype)).to(x.dtype)

    return features
