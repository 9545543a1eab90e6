"""Stochastic gradient Langevin dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, positive


class SGLDState(NamedTuple):
    """State of `SGLD`; `gradient` is ĝ at `theta`, the estimate that the next step uses."""

    theta: Tensor
    gradient: Tensor
    step_size: Tensor


def sgld_update(
    theta: Tensor, gradient: Tensor, noise: Tensor, step_size: Tensor, temperature: Tensor
) -> Tensor:
    """θ − (h²/2) ĝ + h √T ε (Welling & Teh 2011, eq. 4, with ε_t = h²)."""
    noisy = torch.addcmul(theta, noise, step_size * temperature.sqrt())
    return noisy.addcmul_(gradient, step_size**2, value=-0.5)


@dataclass(frozen=True)
class SGLD(Sampler):
    """θ ← θ − (h²/2) ĝ + h √T ε, with no Metropolis test: its stationary distribution is biased at order
    h² and by the noise of ĝ.

    Args:
        step_size: h; a deep-learning learning rate lr corresponds to h = √(lr/N).
    """

    step_size: float = 1e-3

    state_type = SGLDState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> SGLDState:
        """Evaluate the first gradient estimate."""
        step_size = torch.full_like(target.temperature, self.step_size)
        return SGLDState(theta, target.gradient_estimate(theta, streams), step_size)

    def step(self, target: Target, state: SGLDState, streams: Streams) -> tuple[SGLDState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place."""
        noise = streams.normal(target.dim)
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        theta = sgld_update(state.theta, state.gradient, noise, h, temperature)
        return state._replace(theta=theta, gradient=target.gradient_estimate(theta, streams)), {}

    def harmonic_variance(self, stiffness: float) -> float | None:
        """(1/k)/(1 − h²k/4)."""
        return 1 / stiffness / (1 - self.step_size**2 * stiffness / 4)
