"""The stochastic gradient Nosé–Hoover thermostat: friction that finds the noise of the gradient by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, fractions, positive
from .ggmc import half_kick


class SGNHTState(NamedTuple):
    """State of `SGNHT`; `friction` is s = ξh, the friction of a whole step."""

    theta: Tensor
    momentum: Tensor
    gradient: Tensor
    friction: Tensor
    step_size: Tensor


class Thermostat(NamedTuple):
    """The settings of `SGNHT` beside its step size: s₀ = −log a and n."""

    injected: float
    steps: float

    def start(self, numbers: Float[Tensor, " chains"], dim: int) -> Float[Tensor, " chains"]:
        """s from its law on the full data, N(s₀, s₀/(nD)), of standard normal numbers."""
        return self.injected + math.sqrt(self.injected / (self.steps * dim)) * numbers

    def badoda(
        self, theta: Tensor, momentum: Tensor, gradient: Tensor, friction: Tensor, noise: Tensor, step_size: Tensor,
        temperature: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """All of a step before its second half-kick: the new θ, m and s. `friction` and `temperature` are [chains]."""
        momentum = half_kick(momentum, gradient, step_size)
        theta = torch.addcmul(theta, step_size, momentum, value=0.5)
        friction = self._moved(friction, momentum, temperature)
        variance = self.injected * temperature * _decayed(friction)
        momentum = torch.addcmul(torch.exp(-friction)[:, None] * momentum, noise, variance.sqrt()[:, None])
        friction = self._moved(friction, momentum, temperature)
        return torch.addcmul(theta, step_size, momentum, value=0.5), momentum, friction

    def _moved(self, friction: Tensor, momentum: Tensor, temperature: Tensor) -> Tensor:
        """D; at T = 0, as in a schedule's exploration, there is nothing to regulate."""
        excess = (momentum**2).mean(1) / temperature - 1
        return torch.where(temperature > 0, friction + self.injected / (2 * self.steps) * excess, friction)


@dataclass(frozen=True)
class SGNHT(Sampler):
    """SGNHT (Ding et al. 2014, NeurIPS 27), by the symmetric splitting BADODAB (Leimkuhler & Shang 1505.06889).

    B: m ← m − (h/2) ĝ(θ);  A: θ ← θ + (h/2) m;  D: s ← s + (s₀/2n)(‖m‖²/(DT) − 1);
    O: m ← e^{−s} m + √(s₀ T (1 − e^{−2s})/s) ε;  D;  A;  B,

    with s = ξh the friction of a step and s₀ = −log a that which belongs to the noise injected. Where ĝ is noisy, ‖m‖² exceeds
    its stationary DT and s grows until friction takes out what both noises put in: where the noise of ĝ does not depend on θ,
    θ has its law at T without any estimate of that noise. On the full data s − s₀ ~ N(0, s₀/(nD)), from which s starts.

    Ding et al. and Leimkuhler & Shang give the thermostat's mass in units of time; here n is the number of steps in which the
    friction forgets an error, at every step size.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a in (0, 1], of the friction that belongs to the injected noise; 1 is Hamiltonian dynamics.
        thermostat_steps: n, at least 1.
    """

    step_size: float = 1e-3
    momentum_decay: float = 0.9
    thermostat_steps: float = 100.0

    state_type = SGNHTState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size, momentum_decay=self.momentum_decay)
        fractions(self, momentum_decay=self.momentum_decay)
        if not 1 <= self.thermostat_steps < math.inf:
            raise ValueError(
                f"SGNHT: thermostat_steps {self.thermostat_steps} given, expected a number from 1"
            )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> SGNHTState:
        """Momentum from N(0, T), friction from its law on the full data."""
        momentum = streams.normal(target.dim) * target.temperature[:, None].sqrt()
        friction = self._thermostat.start(streams.normal(1)[:, 0], target.dim)
        step_size = torch.full_like(target.temperature, self.step_size)
        return SGNHTState(theta, momentum, target.gradient_estimate(theta, streams), friction, step_size)

    def step(
        self, target: Target, state: SGNHTState, streams: Streams
    ) -> tuple[SGNHTState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place. Figure: the friction s."""
        h, noise = state.step_size[:, None], streams.normal(target.dim)
        theta, momentum, friction = self._thermostat.badoda(
            state.theta, state.momentum, state.gradient, state.friction, noise, h, target.temperature
        )
        gradient = target.gradient_estimate(theta, streams)
        momentum = half_kick(momentum, gradient, h)
        new = state._replace(theta=theta, momentum=momentum, gradient=gradient, friction=friction)
        return new, {"friction": friction}

    @property
    def _thermostat(self) -> Thermostat:
        return Thermostat(-math.log(self.momentum_decay), self.thermostat_steps)


def _decayed(friction: Tensor) -> Tensor:
    """(1 − e^{−2s})/s, and its limit 2 at s = 0; s may be negative."""
    near = friction.abs() < 1e-6
    safe = torch.where(near, torch.ones_like(friction), friction)
    return torch.where(near, 2 - 2 * friction, -torch.expm1(-2 * safe) / safe)
