"""The maximum of the posterior, and with several chains a deep ensemble: the baseline behind the same call."""

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


class MAPState(NamedTuple):
    """State of `MAP`; `first` and `second` are Adam's moments, `rate` what the schedule makes of the step size."""

    theta: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    step_size: Tensor
    rate: Tensor


@dataclass(frozen=True)
class MAP(Sampler):
    """Adam (Kingma & Ba 1412.6980, algorithm 1) on U/N: no sampler, but trained networks where a sampler's draws would be.

    Warm-up is the training, its step size multiplied by ½ (1 + cos(π i/num_warmup)); after it the chain stands at the maximum
    that it found. One draw is all there is: `bp.sample(post, bp.samplers.MAP(), num_samples=1, num_warmup=2000, num_chains=10)`
    is a deep ensemble (Lakshminarayanan et al. 1612.01474) of ten networks that start at draws from the prior, each with its own
    minibatches, and `num_chains=1` the MAP estimate. The prior is in U, as weight decay would be. The temperature has no say
    where prior and likelihood are both tempered.

    Args:
        step_size: Adam's learning rate.
        gradient_decay, square_decay: β₁ and β₂, in [0, 1).
        damping: Adam's ε.
    """

    step_size: float = 1e-2
    gradient_decay: float = 0.9
    square_decay: float = 0.999
    damping: float = 1e-8

    is_baseline = True
    state_type = MAPState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size, damping=self.damping)
        decays = {"gradient_decay": self.gradient_decay, "square_decay": self.square_decay}
        fractions(self, **decays)
        for name, value in decays.items():
            if value == 1:
                raise ValueError(
                    f"MAP: {name} {value} given, expected less than 1: the average would never begin"
                )

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError without a warm-up."""
        if num_warmup == 0:
            raise ValueError(
                "MAP: num_warmup 0 given, expected some hundred steps or more: warm-up is the training, and its end is the draw. "
                "Pass num_warmup=2000 and num_samples=1"
            )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> MAPState:
        """Evaluate the first gradient estimate."""
        gradient = target.gradient_estimate(theta, streams)
        zero, step_size = torch.zeros_like(theta), torch.full_like(target.temperature, self.step_size)
        return MAPState(theta, gradient, zero, zero, torch.zeros_like(step_size), step_size, step_size)

    def step(self, target: Target, state: MAPState, streams: Streams) -> tuple[MAPState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place."""
        gradient = state.gradient / max(target.num_data, 1)
        steps = state.steps + 1
        first = torch.lerp(gradient, state.first, self.gradient_decay)
        second = torch.lerp(gradient**2, state.second, self.square_decay)
        mean = first / (1 - self.gradient_decay**steps)[:, None]
        square = second / (1 - self.square_decay**steps)[:, None]
        theta = state.theta - state.rate[:, None] * mean / (square.sqrt() + self.damping)
        new = state._replace(theta=theta, first=first, second=second, steps=steps)
        return new._replace(gradient=target.gradient_estimate(theta, streams)), {}

    def adapt(self, state: MAPState, info: dict[str, Tensor], iteration: int, num_warmup: int) -> MAPState:
        """The cosine schedule of the next step, which after the last one is 0."""
        factor = 0.5 * (1 + math.cos(math.pi * (iteration + 1) / num_warmup))
        return state._replace(rate=factor * state.step_size)
