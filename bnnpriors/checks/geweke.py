"""The joint law of a network's weights and its data: the density of a check that draws both in turn."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .densities import Law, normal


class Network(Law):
    """Geweke's joint test (2004, JASA 99) of a network f of one input, three tanh units and one output; all z ~ N(0, 1).

    Data y ~ N(f(x; z), ½²) at six inputs are drawn anew, given z, after every third step of a sampler of p(z | y). If these are
    right, the law of z stays that of the prior.
    """

    dim = 10
    fineness = 2.0
    names = (*(f"weight {k}" for k in range(10)), "the radius")
    measured = ("a weight", "the radius", "the likelihood", "a prediction", "the change of predictions")

    def __init__(self) -> None:
        self.inputs = torch.linspace(-1.5, 1.5, 6, dtype=torch.float64)
        self.data = torch.zeros(0, 6, dtype=torch.float64)

    def outputs(self, z: Tensor) -> Float[Tensor, "chains inputs"]:
        """f(x; z) = z₉ + Σ_k z_{6+k} tanh(z_k x + z_{3+k})/√3."""
        slope, shift, weight = z[:, :9].view(-1, 3, 3, 1).unbind(1)
        return z[:, 9:] + (weight * torch.tanh(slope * self.inputs.to(z) + shift)).sum(1) / 3**0.5

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """‖z‖²/2 + 2 ‖y − f(x; z)‖²."""
        return 0.5 * (z**2).sum(1) + 2 * ((self.data.to(z) - self.outputs(z)) ** 2).sum(1)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """From the prior, with data."""
        z = normal(chains, 10, generator)
        self.renew(z, generator)
        return z

    def positions(self, z: Tensor) -> Tensor:
        """Φ(z) and F_χ²(‖z‖²)."""
        radius = torch.special.gammainc(z.new_tensor(5.0), 0.5 * (z**2).sum(1))
        return torch.cat([torch.special.ndtr(z), radius[:, None]], dim=1)

    def quantities(self, z: Tensor) -> Float64[Tensor, "chains measured"]:
        """Functions of z and the data, for calibration."""
        f = self.outputs(z)
        fit = -((self.data.to(z) - f) ** 2).sum(1)
        return torch.stack([z[:, 6], (z**2).sum(1), fit, f[:, 2], f[:, -1] - f[:, 0]], dim=1)

    def renew(self, z: Tensor, generator: torch.Generator) -> bool:
        """y ~ N(f(x; z), ½²)."""
        self.data = self.outputs(z) + 0.5 * normal(len(z), 6, generator)
        return True

    def part(self, chains: slice | Tensor) -> Network:
        """With their data."""
        new = Network()
        new.data = self.data[chains]
        return new
