"""Stochastic weight averaging, Gaussian: a normal law fitted to the path of SGD, a baseline behind the same call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, fractions, positive, whole


class SWAGState(NamedTuple):
    """State of `SWAG`: the path of SGD (`theta` in warm-up, `slope` is ĝ there, `velocity`), and what was seen of it.

    `mean` and `square` are of θ and θ², `deviations` [chains, rank, dim] the last θ_i − θ̄_i, `seen` their number; `is_fitted`
    says that warm-up is over.
    """

    theta: Tensor
    slope: Tensor
    velocity: Tensor
    mean: Tensor
    square: Tensor
    deviations: Tensor
    seen: Tensor
    is_fitted: Tensor
    step_size: Tensor


@dataclass(frozen=True)
class SWAG(Sampler):
    """SWAG (Maddox et al. 1902.02476, algorithm 1): no sampler of the posterior, but draws from a normal law fitted to SGD's
    path.

    Warm-up is SGD on U/N at a constant learning rate lr, v ← a v + ĝ/N, θ ← θ − lr v. In its last part, `share`, every
    `every`-th θ_i enters the moments. After it each step is a draw,

    θ = θ̄ + √(½ Σ_diag) z₁ + D z₂/√(2(K − 1)),  Σ_diag = mean θ² − θ̄²,  D = (θ_i − θ̄_i) of the last K = rank,

    with z₁ and z₂ standard normal and θ̄_i the mean of the first i. With several chains this is MultiSWAG (Wilson & Izmailov
    2002.08791): each has its own path and law. Start from a trained network with `bp.sample(..., init="map")`. The prior is in U,
    and the temperature has no say where prior and likelihood are both tempered.

    Args:
        step_size: lr, which decides how wide the law is: of the size at which SGD trains well.
        momentum_decay: a in [0, 1).
        share: of the warm-up from whose end θ is collected, in (0, 1].
        every: steps from one collected θ to the next; the paper takes an epoch.
        rank: K, at least 2.
    """

    step_size: float = 0.01
    momentum_decay: float = 0.9
    share: float = 0.5
    every: int = 10
    rank: int = 20

    is_baseline = True
    state_type = SWAGState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size, share=self.share)
        fractions(self, momentum_decay=self.momentum_decay, share=self.share)
        whole(self, every=self.every, rank=self.rank)
        if self.momentum_decay == 1 or self.rank < 2:
            raise ValueError(
                f"SWAG: momentum_decay {self.momentum_decay} and rank {self.rank} given, expected less than 1, and 2 or more"
            )

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError where warm-up collects too little to fit a law to."""
        if num_warmup == 0:
            raise ValueError(
                "SWAG: num_warmup 0 given, expected some thousand steps: the law is fitted in warm-up, to the path of SGD"
            )
        count = sum(self._is_due(left, num_warmup) for left in range(num_warmup))
        if count < 2:
            raise ValueError(
                f"SWAG: a warm-up of {num_warmup} steps given, in whose last {self.share:.0%} one point in {self.every} steps is "
                f"collected: {count} in all, expected two or more; pass a larger num_warmup, or a smaller every"
            )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> SWAGState:
        """Evaluate the first gradient estimate; nothing is collected yet."""
        chains, dim = theta.shape
        zero = torch.zeros_like(theta)
        return SWAGState(
            theta,
            target.gradient_estimate(theta, streams),
            zero,
            zero,
            zero,
            theta.new_zeros(chains, self.rank, dim),
            torch.zeros(chains, dtype=torch.int64, device=theta.device),
            torch.zeros(chains, dtype=torch.bool, device=theta.device),
            torch.full_like(target.temperature, self.step_size),
        )

    def step(self, target: Target, state: SWAGState, streams: Streams) -> tuple[SWAGState, dict[str, Tensor]]:
        """A step of SGD in warm-up, a draw after it."""
        if bool(state.is_fitted.all()):
            return state._replace(theta=self._draw(state, streams)), {}
        velocity = self.momentum_decay * state.velocity + state.slope / max(target.num_data, 1)
        theta = state.theta - state.step_size[:, None] * velocity
        slope = target.gradient_estimate(theta, streams)
        return state._replace(theta=theta, slope=slope, velocity=velocity), {}

    def adapt(self, state: SWAGState, info: dict[str, Tensor], iteration: int, num_warmup: int) -> SWAGState:
        """Collect θ where it is due."""
        left = num_warmup - 1 - iteration
        if self._is_due(left, num_warmup):
            state = self._collected(state)
        return state if left else state._replace(is_fitted=torch.ones_like(state.is_fitted))

    def _is_due(self, left: int, num_warmup: int) -> bool:
        """Whether θ is collected where so many steps of warm-up are left."""
        return left < self.share * num_warmup and left % self.every == 0

    def _collected(self, state: SWAGState) -> SWAGState:
        seen = state.seen + 1
        weight = (1 / seen.to(state.theta))[:, None]
        mean = torch.lerp(state.mean, state.theta, weight)
        square = torch.lerp(state.square, state.theta**2, weight)
        newest = (state.theta - mean)[:, None]
        deviations = torch.cat([state.deviations[:, 1:], newest], dim=1)
        return state._replace(mean=mean, square=square, deviations=deviations, seen=seen)

    def _draw(self, state: SWAGState, streams: Streams) -> Tensor:
        each, common = streams.normal(state.theta.shape[1]), streams.normal(self.rank)
        spread = (0.5 * (state.square - state.mean**2).clamp(min=0)).sqrt()
        columns = min(int(state.seen[0]), self.rank)
        low_rank = torch.einsum("crd,cr->cd", state.deviations, common) / math.sqrt(2 * (columns - 1))
        return state.mean + spread * each + low_rank
