"""Gradient-guided Monte Carlo: OBABO Langevin dynamics with a Metropolis test that is exact over minibatch steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..counts import as_integer
from ..posterior import Target
from ..streams import Streams
from .adaptation import DualAveraging, adapt_step_size
from .base import Sampler, check_target, fractions, need_warmup, positive, settle


class GGMCState(NamedTuple):
    """State of `GGMC`; `potential` is NaN without a Metropolis test, `averaging` belongs to warm-up."""

    theta: Tensor
    momentum: Tensor
    potential: Tensor
    gradient: Tensor
    step_size: Tensor
    averaging: Tensor


def refresh(momentum: Tensor, noise: Tensor, decay: float, temperature: Tensor) -> Tensor:
    """Friction and its exact noise: m ← a m + √((1 − a²) T) ε."""
    return (decay * momentum).addcmul_(noise, ((1 - decay**2) * temperature).sqrt())


def half_kick(momentum: Tensor, gradient: Tensor, step_size: Tensor) -> Tensor:
    """B: m ← m − (h/2) ĝ."""
    return torch.addcmul(momentum, step_size, gradient, value=-0.5)


def kick_and_drift(
    theta: Tensor, momentum: Tensor, gradient: Tensor, step_size: Tensor
) -> tuple[Tensor, Tensor]:
    """B A, with A: θ ← θ + h m."""
    momentum = half_kick(momentum, gradient, step_size)
    return torch.addcmul(theta, step_size, momentum), momentum


@dataclass(frozen=True)
class GGMC(Sampler):
    """OBABO (Horowitz 1991; Garriga-Alonso & Fortuin 2102.01691) with a = momentum_decay and M = I.

    O: m ← √a m + √((1−a)T) ε;  B: m ← m − (h/2) ĝ(θ);  A: θ ← θ + h m;  B;  O, with one gradient for the two
    half-kicks at one θ. Neighbouring O's are done as one, so a step is O² B A B.

    Metropolis over L = steps_per_test steps, with U and the gradients at both ends exact and independent minibatches
    between: ΔE = U(θ_L) − U(θ_0) + (h²/8)(‖g_L‖² − ‖g_0‖²) − ½ Σ_t (θ_{t+1} − θ_t)·(g_t + g_{t+1}); accept with
    min(1, exp(−ΔE/T)). On rejection θ is restored and the momentum that the trajectory began with, after its first O²,
    is negated. The part between, B A B (O² B A B)^{L−1}, is a palindrome, and independent minibatches are as probable
    backwards as forwards: both are what makes the test exact. a = 0 with L = 1 is MALA; a = 1 is Hamiltonian dynamics
    without refreshment.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a = exp(−γh) in [0, 1].
        steps_per_test: L; one sampler step is then a trajectory of L updates and its test. None: no test, one update a step.
        target_acceptance: with a test, warm-up tunes h of each chain towards this acceptance, and has to be there; None keeps h.
    """

    step_size: float = 1e-3
    momentum_decay: float = 0.9
    steps_per_test: int | None = None
    target_acceptance: float | None = None

    state_type = GGMCState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        fractions(self, momentum_decay=self.momentum_decay)
        steps_per_test = as_integer(self.steps_per_test)
        if self.steps_per_test is not None and (steps_per_test is None or steps_per_test < 1):
            raise ValueError(
                f"GGMC: steps_per_test {self.steps_per_test!r} given, expected an integer from 1, or None for no test"
            )
        object.__setattr__(self, "steps_per_test", steps_per_test)
        if self.target_acceptance is not None:
            check_target(self, self.target_acceptance)
        if self.target_acceptance is not None and self.steps_per_test is None:
            raise ValueError(
                f"GGMC: target_acceptance {self.target_acceptance} given without steps_per_test: it is the acceptance of the "
                "Metropolis test, so pass steps_per_test too"
            )

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError where there is no warm-up to tune h in."""
        need_warmup(self, self.target_acceptance, num_warmup)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> GGMCState:
        """Momentum from its stationary distribution N(0, T)."""
        momentum = streams.normal(target.dim) * target.temperature[:, None].sqrt()
        if self.steps_per_test is None:
            gradient = target.gradient_estimate(theta, streams)
            potential = torch.full_like(target.temperature, math.nan, dtype=torch.float64)
        else:
            potential, gradient = target.value_and_gradient(theta)
        step_size = torch.full_like(target.temperature, self.step_size)
        averaging = torch.stack(DualAveraging.start(step_size), dim=1)
        return GGMCState(theta, momentum, potential, gradient, step_size, averaging)

    def step(self, target: Target, state: GGMCState, streams: Streams) -> tuple[GGMCState, dict[str, Tensor]]:
        """One update, or one tested trajectory."""
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        theta, momentum, gradient = state.theta, state.momentum, state.gradient
        potential = state.potential
        work = torch.zeros_like(potential)
        length = self.steps_per_test or 1
        for index in range(length):
            momentum = refresh(momentum, streams.normal(target.dim), self.momentum_decay, temperature)
            if index == 0:
                state = state._replace(momentum=momentum)
            new_theta, half = kick_and_drift(theta, momentum, gradient, h)
            if self.steps_per_test is not None and index + 1 == length:
                potential, new_gradient = target.value_and_gradient(new_theta)
            else:
                new_gradient = target.gradient_estimate(new_theta, streams)
            if self.steps_per_test is not None:
                work = work + (h * half * (gradient + new_gradient)).sum(1, dtype=torch.float64)
            theta, gradient = new_theta, new_gradient
            momentum = half_kick(half, gradient, h)
        new = state._replace(theta=theta, momentum=momentum, potential=potential, gradient=gradient)
        return self._test(target, state, new, work, streams) if self.steps_per_test is not None else (new, {})

    def _test(
        self, target: Target, old: GGMCState, new: GGMCState, work: Tensor, streams: Streams
    ) -> tuple[GGMCState, dict[str, Tensor]]:
        ends = (new.gradient.double() ** 2 - old.gradient.double() ** 2).sum(1)
        error = new.potential - old.potential + old.step_size.double() ** 2 / 8 * ends - 0.5 * work
        return settle(old, new, error, target.temperature, streams)

    @property
    def tunes(self) -> bool:
        """Whether there is an acceptance to aim at."""
        return self.target_acceptance is not None

    def adapt(self, state: GGMCState, info: dict[str, Tensor], iteration: int, num_warmup: int) -> GGMCState:
        """Dual averaging of h, between tests only: a step size that changed inside a trajectory would not be reversible."""
        if self.target_acceptance is None:
            return state
        return adapt_step_size(state, info["acceptance"], self.target_acceptance, iteration, num_warmup)

    def gradients(self, target: Target) -> tuple[float, float]:
        """L − 1 estimates and one exact gradient, or one estimate without a test."""
        return (0.0, 1.0) if self.steps_per_test is None else (1.0, self.steps_per_test - 1.0)

    def harmonic_variance(self, stiffness: float) -> float | None:
        """(1/k)/(1 − h²k/4) without a test."""
        exact = self.steps_per_test is not None
        return None if exact else 1 / stiffness / (1 - self.step_size**2 * stiffness / 4)
