"""Metrics of Hamiltonian dynamics, and the leapfrog integrator in them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..posterior import Target
from .rungs import Rungs

Move = Callable[[Tensor, Tensor], Tensor]
"""θ and p -> θ + h M⁻¹p."""

DENSE_LIMIT = 4096
"""Latents above which a dense metric is refused."""


class Diagonal:
    """M⁻¹ = diag(inverse_mass), one a chain."""

    def __init__(self, inverse_mass: Float[Tensor, "chains dim"]) -> None:
        self.inverse_mass = inverse_mass

    def momentum(self, noise: Tensor, temperature: Float[Tensor, " chains"]) -> Float[Tensor, "chains dim"]:
        """p ~ N(0, T M) from standard normal numbers."""
        return noise * (temperature[:, None] / self.inverse_mass).sqrt()

    def mover(self, step: Float[Tensor, "chains 1"]) -> Move:
        """The drift of a step of these sizes."""
        drift = step * self.inverse_mass
        return lambda theta, momentum: torch.addcmul(theta, drift, momentum)

    def kinetic(self, momentum: Float[Tensor, "chains dim"]) -> Float64[Tensor, " chains"]:
        """½ pᵀM⁻¹p."""
        return 0.5 * (momentum * momentum * self.inverse_mass).sum(1, dtype=torch.float64)

    def kept(self, momentum: Float[Tensor, "chains dim"]) -> Float[Tensor, "chains dim"]:
        """p as a state keeps it: beside its `inverse_mass`, p itself."""
        return momentum


class Dense:
    """M⁻¹ = C Cᵀ, one for all chains of a rung.

    Args:
        inverse: M⁻¹. factor: C, lower triangular.
    """

    def __init__(
        self, rungs: Rungs, inverse: Float[Tensor, "rungs dim dim"], factor: Float[Tensor, "rungs dim dim"]
    ) -> None:
        self.rungs, self.inverse, self.factor = rungs, inverse, factor

    def momentum(self, noise: Tensor, temperature: Float[Tensor, " chains"]) -> Float[Tensor, "chains dim"]:
        """p = C⁻ᵀ √T ε ~ N(0, T M)."""
        return self.rungs.divide(noise * temperature[:, None].sqrt(), self.factor)

    def mover(self, step: Float[Tensor, "chains 1"]) -> Move:
        """The drift of a step of these sizes."""
        return lambda theta, momentum: torch.addcmul(theta, step, self.rungs.multiply(momentum, self.inverse))

    def kinetic(self, momentum: Float[Tensor, "chains dim"]) -> Float64[Tensor, " chains"]:
        """½ pᵀM⁻¹p = ½ ‖Cᵀp‖²."""
        return 0.5 * (self.kept(momentum) ** 2).sum(1, dtype=torch.float64)

    def kept(self, momentum: Float[Tensor, "chains dim"]) -> Float[Tensor, "chains dim"]:
        """p as a state keeps it: Cᵀp ~ N(0, T), whose square is pᵀM⁻¹p."""
        return self.rungs.multiply(momentum, self.factor)


def leapfrog(
    target: Target,
    theta: Float[Tensor, "chains dim"],
    gradient: Float[Tensor, "chains dim"],
    momentum: Float[Tensor, "chains dim"],
    step: Float[Tensor, "chains 1"],
    move: Move,
    num_steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`num_steps` times p ← p − (h/2)∇U, θ ← θ + h M⁻¹p, p ← p − (h/2)∇U: θ, U, ∇U and p at the end."""
    momentum = momentum - 0.5 * step * gradient
    for index in range(num_steps):
        theta = move(theta, momentum)
        potential, gradient = target.value_and_gradient(theta)
        momentum = torch.addcmul(momentum, step, gradient, value=-1.0 if index + 1 < num_steps else -0.5)
    return theta, potential, gradient, momentum


def leapfrog_each(
    target: Target,
    theta: Float[Tensor, "chains dim"],
    gradient: Float[Tensor, "chains dim"],
    momentum: Float[Tensor, "chains dim"],
    step: Float[Tensor, "chains 1"],
    inverse_mass: Float[Tensor, "chains dim"],
    steps: Float[Tensor, " chains"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`leapfrog` of every chain for its own number of steps, bit for bit. Chains that are done drop out."""
    lengths = sorted({int(number) for number in steps.tolist()})
    if len(lengths) == 1:
        move = Diagonal(inverse_mass).mover(step)
        return leapfrog(target, theta, gradient, momentum, step, move, lengths[0])
    ends = [torch.empty_like(part) for part in (theta, step[:, 0].double(), gradient, momentum)]
    on = torch.arange(len(theta), device=theta.device)
    momentum = momentum - 0.5 * step * gradient
    for done, length in pairwise([0, *lengths]):
        own, move, is_last = target.part(on), Diagonal(inverse_mass[on]).mover(step[on]), steps[on] == length
        for index in range(done + 1, length + 1):
            theta = move(theta, momentum)
            potential, gradient = own.value_and_gradient(theta)
            kick = torch.where(is_last[:, None], 0.5 * step[on], step[on]) if index == length else step[on]
            momentum = torch.addcmul(momentum, kick, gradient, value=-1.0)
        for end, value in zip(ends, (theta, potential, gradient, momentum), strict=True):
            end[on[is_last]] = value[is_last]
        theta, momentum, on = theta[~is_last], momentum[~is_last], on[~is_last]
    return ends[0], ends[1], ends[2], ends[3]


def check_metric(owner: object, metric: str, known: tuple[str, ...]) -> None:
    """Raise ValueError for a name that is none of the known metrics."""
    if metric not in known:
        names = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
        raise ValueError(f"{type(owner).__name__}: metric {metric!r} given, expected {names}")


def check_dense(owner: object, dim: int) -> None:
    """Raise ValueError for more latents than a dense metric can have."""
    if dim > DENSE_LIMIT:
        size = dim**2 * 8 / 2**30
        raise ValueError(
            f"{type(owner).__name__}: metric 'dense' given for {dim} latents, expected at most {DENSE_LIMIT}: a matrix of "
            f"{size:.2g} GiB a temperature, which no warm-up has the draws for. Use metric='diagonal'"
        )
