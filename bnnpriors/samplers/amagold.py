"""AMAGOLD: minibatch Langevin dynamics whose Metropolis test needs the potential alone, once in many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .adaptation import DualAveraging, adapt_step_size
from .base import Sampler, check_target, fractions, need_warmup, positive, settle, whole
from .ggmc import refresh


class AMAGOLDState(NamedTuple):
    """State of `AMAGOLD`; `averaging` belongs to warm-up."""

    theta: Tensor
    momentum: Tensor
    potential: Tensor
    step_size: Tensor
    averaging: Tensor


@dataclass(frozen=True)
class AMAGOLD(Sampler):
    """AMAGOLD (Zhang, Cooper & De Sa 2003.00193, algorithm 1), M = I, over L = steps_per_test steps.

    θ ← θ + (h/2) m; then L times m′ ← a m − h (1 + a)/2 · ĝ(θ) + √((1 − a²) T) ε with θ ← θ + h m′ between; θ ← θ + (h/2) m′.
    In the paper's symbols a = (1 − εβ)/(1 + εβ).

    The momentum's update is as probable as its reverse, with both momenta negated, times exp((‖m′‖² − ‖m‖² + h ĝ·(m + m′))/2T),
    which gives ΔE = U(θ_L) − U(θ_0) − (h/2) Σ ĝ_t·(m_t + m_{t+1}), accepted with min(1, exp(−ΔE/T)). On rejection θ is
    restored and the momentum that the trajectory began with is negated. The minibatches are independent, so as probable
    backwards as forwards, and the test is exact. Beside `GGMC`, the ends need U alone on the full data, and no gradients.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a in [0, 1].
        steps_per_test: L; one sampler step is a trajectory of L updates and its test.
        target_acceptance: warm-up tunes h of each chain towards this acceptance, and has to be there; None keeps h.
    """

    step_size: float = 1e-3
    momentum_decay: float = 0.9
    steps_per_test: int = 10
    target_acceptance: float | None = None

    state_type = AMAGOLDState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        fractions(self, momentum_decay=self.momentum_decay)
        whole(self, steps_per_test=self.steps_per_test)
        if self.target_acceptance is not None:
            check_target(self, self.target_acceptance)

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError where there is no warm-up to tune h in."""
        need_warmup(self, self.target_acceptance, num_warmup)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> AMAGOLDState:
        """Momentum from N(0, T)."""
        momentum = streams.normal(target.dim) * target.temperature[:, None].sqrt()
        step_size = torch.full_like(target.temperature, self.step_size)
        averaging = torch.stack(DualAveraging.start(step_size), dim=1)
        return AMAGOLDState(theta, momentum, target.potential(theta), step_size, averaging)

    def step(
        self, target: Target, state: AMAGOLDState, streams: Streams
    ) -> tuple[AMAGOLDState, dict[str, Tensor]]:
        """One trajectory and its test."""
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        momentum = state.momentum
        theta = torch.addcmul(state.theta, h, momentum, value=0.5)
        work = torch.zeros_like(state.potential)
        for index in range(self.steps_per_test):
            if index > 0:
                theta = torch.addcmul(theta, h, momentum)
            noise = streams.normal(target.dim)
            kick = h * target.gradient_estimate(theta, streams)
            new = refresh(momentum, noise, self.momentum_decay, temperature)
            new = new.sub_(kick, alpha=0.5 * (1 + self.momentum_decay))
            work = work + 0.5 * (kick * (momentum + new)).sum(1, dtype=torch.float64)
            momentum = new
        theta = torch.addcmul(theta, h, momentum, value=0.5)
        potential = target.potential(theta)
        moved = state._replace(theta=theta, momentum=momentum, potential=potential)
        return settle(state, moved, potential - state.potential - work, target.temperature, streams)

    @property
    def tunes(self) -> bool:
        """Whether there is an acceptance to aim at."""
        return self.target_acceptance is not None

    def adapt(
        self, state: AMAGOLDState, info: dict[str, Tensor], iteration: int, num_warmup: int
    ) -> AMAGOLDState:
        """Dual averaging of h, between tests."""
        if self.target_acceptance is None:
            return state
        return adapt_step_size(state, info["acceptance"], self.target_acceptance, iteration, num_warmup)

    def gradients(self, target: Target) -> tuple[float, float]:
        """L estimates, and the potential on the full data, which counts as a gradient: it takes a part of one's time."""
        return 1.0, float(self.steps_per_test)
