"""What a sampler under check sees: a target of known law at a chosen scale, and random numbers for thousands of chains.

A law is given in the units of z, and the sampler sees θ = s √T z with the potential T U(θ/(s √T)): the law of z is then the same
at every temperature, and a sampler of step size h takes steps of about h/s in the units of z. Whether its error vanishes with
the step size can so be seen by a longer s, with any sampler and without a change to it.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ..layout import Layout
from ..posterior import Target
from ..programs import Plan
from ..streams import Streams
from .densities import Law

TEMPERATURES = (0.25, 0.5)
"""Both below 1, so that what ignores the temperature errs to one side at both."""


class Known(Target):
    """What a sampler sees of a law, at scale s; it counts what it is asked for.

    Args:
        batch_size: terms in a minibatch; None for the full data.

    Attributes:
        counts: how often the full data ("exact") and minibatches ("estimates") were evaluated for a chain, by this target and its
            parts.
    """

    def __init__(self, law: Law, chains: int, scale: float, batch_size: int | None = None) -> None:
        self.law = law
        self.dim, self.num_data, self.batch_size = law.dim, law.num_data, batch_size
        temperature = torch.tensor(TEMPERATURES, dtype=torch.float64).repeat(-(-chains // 2))
        self.temperature = temperature[:chains]
        self.length = scale * self.temperature.sqrt()[:, None]
        self.plan = Plan(chains, 1, False)
        tensors = [("first", (1,))] + ([("rest", (law.dim - 1,))] if law.dim > 1 else [])
        self.layout = Layout(tuple(tensors))
        self.counts, self._chains = {"exact": 0.0, "estimates": 0.0}, chains

    def part(self, chains: slice | Tensor) -> Known:
        """Some of its chains."""
        new = copy.copy(self)
        new.law = self.law.part(chains)
        new.temperature, new.length = self.temperature[chains], self.length[chains]
        return new

    def start(self, generator: torch.Generator) -> Float64[Tensor, "chains dim"]:
        """Independent draws of θ."""
        return self.law.draw(len(self.temperature), generator) * self.length

    def potential(self, theta: Tensor) -> Tensor:
        """T U(θ/(s√T))."""
        self._count("exact", theta)
        return (self.temperature * self.law.potential(theta / self.length)).double()

    def value_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The potential and its gradient."""
        self._count("exact", theta)
        return self._differentiate(theta, None)

    def gradient_estimate(self, theta: Tensor, streams: Streams) -> Tensor:
        """The gradient on a fresh minibatch for each chain."""
        self._count("estimates", theta)
        if self.batch_size is None:
            return self._differentiate(theta, None)[1]
        return self._differentiate(theta, streams.integers(self.num_data, self.batch_size))[1]

    def _count(self, kind: str, theta: Tensor) -> None:
        self.counts[kind] += len(theta) / self._chains

    def _differentiate(self, theta: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
        z = (theta / self.length).detach().requires_grad_()
        with torch.enable_grad():
            value = self.law.potential(z, index)
            (slope,) = torch.autograd.grad(value.sum(), z)
        temperature = self.temperature
        return (temperature * value.detach()).double(), slope * (temperature[:, None] / self.length)


class Pooled(Streams):
    """Streams with one generator for all chains: the same law, much faster for thousands of chains."""

    def __init__(self, seed: int, chains: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(seed, [(0, 0)], dtype=dtype, device=torch.device("cpu"))
        self.chains = chains
        self.generator = self.generators[0]

    def normal(self, dim: int) -> Float[Tensor, "chains dim"]:
        """Standard normal numbers."""
        return torch.randn(self.chains, dim, generator=self.generator, dtype=self.dtype)

    def uniform(self) -> Float[Tensor, " chains"]:
        """One number in [0, 1) a chain."""
        return torch.rand(self.chains, generator=self.generator, dtype=torch.float64)

    def integers(self, high: int, count: int) -> Int[Tensor, "chains count"]:
        """`count` integers from 0 to high − 1, uniform, with replacement."""
        return torch.randint(high, (self.chains, count), generator=self.generator)


class Given(Pooled):
    """Its normal numbers are those that it is given, and every Metropolis test says yes: a step becomes a function."""

    def __init__(self, numbers: Float[Tensor, "chains dim"]) -> None:
        super().__init__(0, len(numbers))
        self.numbers = numbers

    def normal(self, dim: int) -> Tensor:
        """The given numbers, where so many are asked for, and zeros elsewhere."""
        return self.numbers if dim == self.numbers.shape[1] else self.numbers.new_zeros(self.chains, dim)

    def uniform(self) -> Tensor:
        """Zeros."""
        return self.numbers.new_zeros(self.chains)
