"""Hamiltonian Monte Carlo with the leapfrog integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..counts import as_integer
from ..posterior import Target
from ..streams import Streams
from .adaptation import DualAveraging, Moments, metric_windows
from .base import Sampler, choose, metropolis, positive


class HMCState(NamedTuple):
    """State of `HMC`; the fields after `inverse_mass` belong to warm-up, `temperature` is the target's."""

    theta: Tensor
    potential: Tensor
    gradient: Tensor
    momentum: Tensor
    step_size: Tensor
    inverse_mass: Tensor
    temperature: Tensor
    averaging: Tensor
    seen: Tensor
    mean: Tensor
    squares: Tensor


@dataclass(frozen=True)
class HMC(Sampler):
    """Leapfrog HMC (Neal 1206.1901, §5.2) at temperature T: p ~ N(0, T·M); `num_steps` times p ← p − (h/2)∇U, θ ← θ + h M⁻¹p,
    p ← p − (h/2)∇U; accept with min(1, exp(−ΔH/T)), H = U + ½ pᵀM⁻¹p.

    In warm-up each chain tunes its own h (dual averaging) and diagonal M⁻¹ = Var θ / T (doubling windows); both are then frozen.

    Args:
        step_size: h, the start of the adaptation where there is warm-up.
        num_steps: leapfrog steps a trajectory.
        jitter: each trajectory's h is multiplied by a number uniform in 1 ± jitter, which breaks periodic orbits.
        target_acceptance: what dual averaging aims at.
        adapt_metric: whether warm-up estimates M; M = I otherwise.
    """

    step_size: float = 0.01
    num_steps: int = 20
    jitter: float = 0.1
    target_acceptance: float = 0.8
    adapt_metric: bool = True

    exact_gradients = True
    state_type = HMCState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        num_steps = as_integer(self.num_steps)
        if num_steps is None or num_steps < 1:
            raise ValueError(f"HMC: num_steps {self.num_steps!r} given, expected an integer from 1")
        object.__setattr__(self, "num_steps", num_steps)
        if not 0 <= self.jitter < 1 or not 0 < self.target_acceptance < 1:
            raise ValueError(
                f"HMC: jitter {self.jitter} and target_acceptance {self.target_acceptance} given, expected [0, 1) and (0, 1)"
            )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> HMCState:
        """Evaluate the start."""
        potential, gradient = target.value_and_gradient(theta)
        step_size = torch.full_like(target.temperature, self.step_size)
        averaging = torch.stack(DualAveraging.start(step_size), dim=1)
        momentum = torch.zeros_like(theta)
        return HMCState(
            theta,
            potential,
            gradient,
            momentum,
            step_size,
            torch.ones_like(theta),
            target.temperature,
            averaging,
            *Moments.start(theta),
        )

    def step(self, target: Target, state: HMCState, streams: Streams) -> tuple[HMCState, dict[str, Tensor]]:
        """One trajectory and its Metropolis test."""
        inverse_mass = state.inverse_mass
        temperature = target.temperature
        noise = streams.normal(target.dim)
        factor = 1 + self.jitter * (2 * streams.uniform() - 1)
        step = (state.step_size * factor.to(state.step_size))[:, None]
        drift = step * inverse_mass

        start = noise * (temperature[:, None] / inverse_mass).sqrt()
        theta, gradient, potential = state.theta, state.gradient, state.potential
        momentum = start - 0.5 * step * gradient
        for index in range(self.num_steps):
            theta = torch.addcmul(theta, drift, momentum)
            potential, gradient = target.value_and_gradient(theta)
            momentum = torch.addcmul(
                momentum, step, gradient, value=-1.0 if index + 1 < self.num_steps else -0.5
            )

        old_energy = state.potential + _kinetic(start, inverse_mass)
        error = potential + _kinetic(momentum, inverse_mass) - old_energy
        probability, accept = metropolis(error, temperature, streams)
        new = state._replace(
            theta=choose(accept, theta, state.theta),
            potential=choose(accept, potential, state.potential),
            gradient=choose(accept, gradient, state.gradient),
            momentum=choose(accept, momentum, -start),
        )
        divergent = ~(error / temperature.double() < 1000)
        info = {
            "acceptance": probability,
            "accepted": accept,
            "divergent": divergent,
            "energy": old_energy + torch.where(accept, error, 0.0),
            "energy_error": error,
            "step_size": state.step_size,
        }
        return new, info

    def adapt(self, state: HMCState, info: dict[str, Tensor], iteration: int, num_warmup: int) -> HMCState:
        """Dual averaging each step; a new metric at the end of each window; the averaged step size at the end.

        Dual averaging then begins again, from the averaged h times √ of the geometric mean of old over new M⁻¹: on a
        logarithmic scale the steps h √M⁻¹ stay, on average, as long as they were.
        """
        averaging = DualAveraging(*state.averaging.unbind(1)).update(
            info["acceptance"], self.target_acceptance
        )
        moments = Moments(state.seen, state.mean, state.squares)
        inverse_mass = state.inverse_mass
        step_size = averaging.log_step.exp()
        first, ends = metric_windows(num_warmup)
        if self.adapt_metric and first <= iteration <= (ends[-1] if ends else -1):
            moments = moments.update(state.theta)
            if iteration in ends:
                inverse_mass = moments.inverse_mass(state.temperature)
                moments = Moments.start(state.theta)
                change = (state.inverse_mass / inverse_mass).log().mean(1)
                step_size = (averaging.log_average + 0.5 * change).exp()
                averaging = DualAveraging.start(step_size)
        if iteration == num_warmup - 1:
            step_size = averaging.log_average.exp()
        return state._replace(
            step_size=step_size,
            inverse_mass=inverse_mass,
            averaging=torch.stack(averaging, dim=1),
            seen=moments.seen,
            mean=moments.mean,
            squares=moments.squares,
        )

    def gradients(self, target: Target) -> tuple[float, float]:
        """One exact gradient a leapfrog step."""
        return float(self.num_steps), 0.0


def _kinetic(momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    return 0.5 * (momentum * momentum * inverse_mass).sum(1, dtype=torch.float64)
