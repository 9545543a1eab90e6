"""Stochastic gradient Hamiltonian Monte Carlo: symplectic Euler steps with exact friction noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, fractions, positive
from .ggmc import refresh
from .langevin import LangevinState


def sghmc_update(
    theta: Tensor,
    momentum: Tensor,
    gradient: Tensor,
    noise: Tensor,
    step_size: Tensor,
    temperature: Tensor,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """m ← a m − h √((1 + a)/2) ĝ + √((1 − a²) T) ε;  θ ← θ + h √(2/(1 + a)) m: the new θ and m."""
    factor = math.sqrt(0.5 * (1 + decay))
    momentum = refresh(momentum, noise, decay, temperature).addcmul_(step_size, gradient, value=-factor)
    return torch.addcmul(theta, step_size, momentum, value=1 / factor), momentum


@dataclass(frozen=True)
class SGHMC(Sampler):
    """SGHMC (Chen et al. 1402.4102, eq. 15; Wenzel et al. 2002.02405, algorithm 1), M = I.

    m ← a m − h √((1 + a)/2) ĝ(θ) + √((1 − a²) T) ε;  θ ← θ + h √(2/(1 + a)) m.

    In θ alone this is SGD with momentum a and learning rate h²N, and noise: Δθ ← a Δθ − h² ĝ + h √(2 (1 − a) T) ε, the papers'
    dynamics. In m the noise is exact, that of friction over a whole step, under which N(0, T) is stationary. The factors are what
    makes both true: without them the exact noise gives θ the temperature T (1 + a)/2 however small h is, and the papers' noise
    gives m the temperature 2T/(1 + a). They are 1 for a → 1.

    In kθ²/2: Var θ = (T/k)/(1 − h²k/(2(1 + a))) and E m² = T/(1 − h²k/(2(1 + a))). The noise of ĝ is not subtracted: it adds to
    the temperature, as `draws.summary` shows.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a = exp(−γh) in [0, 1].
        steps_per_test: None. Anything else asks for a Metropolis test, which cannot exist, and raises ValueError.
    """

    step_size: float = 1e-3
    momentum_decay: float = 0.9
    steps_per_test: int | None = None

    reversible = False
    state_type = LangevinState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        fractions(self, momentum_decay=self.momentum_decay)
        if self.steps_per_test is not None:
            raise ValueError(
                f"SGHMC: steps_per_test {self.steps_per_test} given, but no Metropolis test can correct SGHMC: from (θ′, −m′) a "
                "step comes back to θ only with a new momentum of exactly −m′, while the flipped start of the step has −m, so "
                "the reverse move has density zero and every move would be rejected. Use bp.samplers.GGMC(step_size, "
                "momentum_decay, steps_per_test), which splits the same dynamics so that the test exists"
            )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> LangevinState:
        """Momentum from N(0, T)."""
        return LangevinState.start(target, theta, streams, self.step_size)

    def step(
        self, target: Target, state: LangevinState, streams: Streams
    ) -> tuple[LangevinState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place."""
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        noise = streams.normal(target.dim)
        theta, momentum = sghmc_update(
            state.theta, state.momentum, state.gradient, noise, h, temperature, self.momentum_decay
        )
        gradient = target.gradient_estimate(theta, streams)
        return state._replace(theta=theta, momentum=momentum, gradient=gradient), {}

    def harmonic_variance(self, stiffness: float) -> float | None:
        """(1/k)/(1 − h²k/(2(1 + a)))."""
        return 1 / stiffness / (1 - self.step_size**2 * stiffness / (2 * (1 + self.momentum_decay)))
