"""Langevin dynamics by the splittings BAOAB and OBABO, one gradient a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, fractions, positive
from .ggmc import GGMC, half_kick, refresh


class LangevinState(NamedTuple):
    """State of `BAOAB` and `SGHMC`; `gradient` is ĝ at `theta`, of the minibatch that serves both half-kicks there."""

    theta: Tensor
    momentum: Tensor
    gradient: Tensor
    step_size: Tensor

    @classmethod
    def start(
        cls, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams, step_size: float
    ) -> LangevinState:
        """Momentum from N(0, T), and the first gradient estimate."""
        momentum = streams.normal(target.dim) * target.temperature[:, None].sqrt()
        gradient = target.gradient_estimate(theta, streams)
        return cls(theta, momentum, gradient, torch.full_like(target.temperature, step_size))


def baoa(
    theta: Tensor,
    momentum: Tensor,
    gradient: Tensor,
    noise: Tensor,
    step_size: Tensor,
    temperature: Tensor,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """B A O A, all of a step of `BAOAB` before its second half-kick: the new θ and m."""
    momentum = half_kick(momentum, gradient, step_size)
    theta = torch.addcmul(theta, step_size, momentum, value=0.5)
    momentum = refresh(momentum, noise, decay, temperature)
    return torch.addcmul(theta, step_size, momentum, value=0.5), momentum


@dataclass(frozen=True)
class OBABO(GGMC):
    """OBABO (Bussi & Parrinello 0803.4083): `GGMC` under the name of its splitting, without the Metropolis test.

    Var θ = (T/k)/(1 − h²k/4) and E m² = T in kθ²/2: the momentum has the right law and θ an error of order h².

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a = exp(−γh) in [0, 1].
        steps_per_test, target_acceptance: None. Anything else asks for the test that `GGMC` has, and raises ValueError.
    """

    def __post_init__(self) -> None:
        for name in ("steps_per_test", "target_acceptance"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"OBABO: {name} {value!r} given, but OBABO is the splitting without a Metropolis test: use "
                    "bp.samplers.GGMC(step_size, momentum_decay, steps_per_test), which is the same with it"
                )
        super().__post_init__()


@dataclass(frozen=True)
class BAOAB(Sampler):
    """BAOAB (Leimkuhler & Matthews 1203.5428), M = I, without a Metropolis test.

    B: m ← m − (h/2) ĝ(θ);  A: θ ← θ + (h/2) m;  O: m ← a m + √((1 − a²) T) ε;  A;  B.

    Var θ = T/k in kθ²/2, without error at any stable h, and E m² = T (1 − h²k/4): on the full data the most accurate of the
    uncorrected samplers in θ, and its kinetic temperature reads low by that factor.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
        momentum_decay: a = exp(−γh) in [0, 1].
    """

    step_size: float = 1e-3
    momentum_decay: float = 0.9

    state_type = LangevinState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        fractions(self, momentum_decay=self.momentum_decay)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> LangevinState:
        """Momentum from N(0, T)."""
        return LangevinState.start(target, theta, streams, self.step_size)

    def step(
        self, target: Target, state: LangevinState, streams: Streams
    ) -> tuple[LangevinState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place."""
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        noise = streams.normal(target.dim)
        theta, momentum = baoa(
            state.theta, state.momentum, state.gradient, noise, h, temperature, self.momentum_decay
        )
        gradient = target.gradient_estimate(theta, streams)
        momentum = half_kick(momentum, gradient, h)
        return state._replace(theta=theta, momentum=momentum, gradient=gradient), {}

    def harmonic_variance(self, stiffness: float) -> float | None:
        """1/k."""
        return 1 / stiffness
