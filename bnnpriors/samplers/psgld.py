"""Preconditioned stochastic gradient Langevin dynamics, with the metric of RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, fractions, positive


class PSGLDState(NamedTuple):
    """State of `PSGLD`; `square` is the running mean of ĝ², and `gradient` ĝ at `theta`."""

    theta: Tensor
    gradient: Tensor
    square: Tensor
    step_size: Tensor


def psgld_update(
    theta: Tensor, gradient: Tensor, noise: Tensor, metric: Tensor, step_size: Tensor, temperature: Tensor
) -> Tensor:
    """θ − (h²/2) G ĝ + h √(T G) ε, with a constant G."""
    noisy = torch.addcmul(theta, noise, step_size * (temperature * metric).sqrt())
    return noisy.addcmul_(metric * gradient, step_size**2, value=-0.5)


def rmsprop_metric(square: Tensor, num_data: int, damping: float) -> Tensor:
    """G = 1/(λ + √V), V of the size of a mean gradient's square: `square` is of ĝ²."""
    return 1 / (damping + square.sqrt() / max(num_data, 1))


def mean_squares(gradient: Tensor, sizes: Sequence[int]) -> Tensor:
    """For every element the mean of ĝ² over its tensor; tensors of these sizes lie one after the other."""
    means = [
        piece.mean(1, keepdim=True).expand_as(piece) for piece in (gradient**2).split(list(sizes), dim=1)
    ]
    return torch.cat(means, dim=1)


@dataclass(frozen=True)
class PSGLD(Sampler):
    """pSGLD (Li et al. 1512.07666, algorithm 1), with ε_t = h²:

    V ← α V + (1 − α) ĝ²/N²;  G = 1/(λ + √V);  θ ← θ − (h²/2)(G ĝ − T Γ) + h √(T G) ε,  Γ_i = ∂G_i/∂θ_i.

    Γ is what makes exp(−U/T) stationary where G depends on θ. Here V is learnt in warm-up and then frozen: G is constant, Γ = 0,
    and what is left is the error of SGLD, of order h² and by the noise of ĝ. With `freeze=False` V follows the chain for ever and
    Γ is left out, as in the paper: the draws then keep an error that no step size removes, of order 1 where G varies much.

    N is the number of data, 1 without any: √V is of the size of a mean gradient. V starts at the mean of ĝ² over each tensor, so
    a run without warm-up has one step size a tensor.

    Args:
        step_size: h; the paper's step size is h².
        square_decay: α in [0, 1], of the running mean.
        damping: λ, which bounds G by 1/λ.
        freeze: whether V is frozen after warm-up.
    """

    step_size: float = 1e-3
    square_decay: float = 0.99
    damping: float = 1e-5
    freeze: bool = True

    state_type = PSGLDState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size, damping=self.damping)
        fractions(self, square_decay=self.square_decay)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> PSGLDState:
        """Evaluate the first gradient estimate."""
        gradient = target.gradient_estimate(theta, streams)
        step_size = torch.full_like(target.temperature, self.step_size)
        return PSGLDState(theta, gradient, mean_squares(gradient, target.layout.sizes), step_size)

    def step(
        self, target: Target, state: PSGLDState, streams: Streams
    ) -> tuple[PSGLDState, dict[str, Tensor]]:
        """One update, and the gradient estimate at the new place."""
        if not self.freeze:
            state = self._averaged(state)
        h, temperature = state.step_size[:, None], target.temperature[:, None]
        metric = rmsprop_metric(state.square, target.num_data, self.damping)
        theta = psgld_update(state.theta, state.gradient, streams.normal(target.dim), metric, h, temperature)
        return state._replace(theta=theta, gradient=target.gradient_estimate(theta, streams)), {}

    @property
    def tunes(self) -> bool:
        """Whether V is learnt in warm-up."""
        return self.freeze

    def adapt(
        self, state: PSGLDState, info: dict[str, Tensor], iteration: int, num_warmup: int
    ) -> PSGLDState:
        """Learn V, where it is frozen afterwards."""
        return self._averaged(state) if self.freeze else state

    def _averaged(self, state: PSGLDState) -> PSGLDState:
        return state._replace(square=torch.lerp(state.gradient**2, state.square, self.square_decay))
