"""Hamiltonian Monte Carlo with the leapfrog integrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .adaptation import Covariances, DualAveraging, Moments, metric_windows
from .base import Sampler, check_target, positive, settle, whole
from .metric import Dense, Diagonal, check_dense, check_metric, leapfrog
from .rungs import Rungs, deal_anew

_SHARED = ("inverse", "factor", "squares")


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


class DenseHMCState(NamedTuple):
    """State of `HMC` with a dense metric: M⁻¹ = C Cᵀ in `inverse` and C in `factor`, shared by rows (`Rungs.deal`); the momentum
    is Cᵀp, whose square is pᵀM⁻¹p."""

    theta: Tensor
    potential: Tensor
    gradient: Tensor
    momentum: Tensor
    step_size: Tensor
    inverse: Tensor
    factor: Tensor
    temperature: Tensor
    averaging: Tensor
    seen: Tensor
    mean: Tensor
    squares: Tensor


@dataclass(frozen=True)
class HMC(Sampler):
    """Leapfrog HMC (Neal 1206.1901, §5.2) at temperature T: p ~ N(0, T·M); `num_steps` times p ← p − (h/2)∇U, θ ← θ + h M⁻¹p,
    p ← p − (h/2)∇U; accept with min(1, exp(−ΔH/T)), H = U + ½ pᵀM⁻¹p.

    In warm-up each chain tunes its own h (dual averaging) and M⁻¹ = Var θ / T (doubling windows); both are then frozen.

    A dense M⁻¹ = Cov θ / T is estimated from all chains of a temperature, each about its own mean: one chain has too few draws
    for it, and a product with one matrix for all costs a fraction of one for each. The chains then no longer warm up
    independently of each other. It takes dim² numbers and, each step, dim² operations a chain. Where it fits, all directions
    have one period, 2π: with num_steps · h near a multiple of π trajectories end where they began, or opposite, unless `jitter`
    is large.

    Args:
        step_size: h, the start of the adaptation where there is warm-up.
        num_steps: leapfrog steps a trajectory.
        jitter: each trajectory's h is multiplied by a number uniform in 1 ± jitter, which breaks periodic orbits.
        target_acceptance: what dual averaging aims at.
        metric: what warm-up estimates: "diagonal", "dense", or "identity" for M = I.

    Raises:
        ValueError: a dense metric for more than 4096 latents.
    """

    step_size: float = 0.01
    num_steps: int = 20
    jitter: float = 0.1
    target_acceptance: float = 0.8
    metric: str = "diagonal"

    exact_gradients = True

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        whole(self, num_steps=self.num_steps)
        check_target(self, self.target_acceptance)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"HMC: jitter {self.jitter} given, expected a number in [0, 1)")
        check_metric(self, self.metric, ("diagonal", "dense", "identity"))

    @property
    def state_type(self) -> type[Any]:  # type: ignore[override]
        """With a dense metric the state has matrices."""
        return DenseHMCState if self.metric == "dense" else HMCState

    @property
    def independent_chains(self) -> bool:  # type: ignore[override]
        """Whether each chain has a metric of its own."""
        return self.metric != "dense"

    @property
    def independent_draws(self) -> bool:
        """They share the metric, which is frozen."""
        return True

    def check(self, target: Target) -> None:
        """No minibatches, and not too many latents for a dense metric."""
        super().check(target)
        if self.metric == "dense":
            check_dense(self, target.dim)

    def memory(self, target: Target) -> int:
        """M⁻¹, C and the sums of products, and as much again while a window ends."""
        if self.metric != "dense":
            return 0
        rungs = len(target.temperature.unique())
        return rungs * target.dim**2 * (2 * target.temperature.element_size() + 8) * 2

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """Evaluate the start."""
        potential, gradient = target.value_and_gradient(theta)
        step_size = torch.full_like(target.temperature, self.step_size)
        averaging = torch.stack(DualAveraging.start(step_size), dim=1)
        start = (theta, potential, gradient, torch.zeros_like(theta), step_size)
        if self.metric == "dense":
            rungs = Rungs(target.temperature)
            unit = rungs.deal(torch.eye(target.dim).to(theta).expand(rungs.count, -1, -1))
            moments = Covariances.start(theta, rungs)
            return DenseHMCState(*start, unit, unit, target.temperature, averaging, *moments)
        return HMCState(*start, torch.ones_like(theta), target.temperature, averaging, *Moments.start(theta))

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """One trajectory and its Metropolis test."""
        metric = self._metric(state, target)
        noise = streams.normal(target.dim)
        factor = 1 + self.jitter * (2 * streams.uniform() - 1)
        step = (state.step_size * factor.to(state.step_size))[:, None]
        start = metric.momentum(noise, target.temperature)
        theta, potential, gradient, end = leapfrog(
            target, state.theta, state.gradient, start, step, metric.mover(step), self.num_steps
        )
        old_energy = state.potential + metric.kinetic(start)
        error = potential + metric.kinetic(end) - old_energy
        old = state._replace(momentum=metric.kept(start))
        new = state._replace(theta=theta, potential=potential, gradient=gradient, momentum=metric.kept(end))
        kept, info = settle(old, new, error, target.temperature, streams)
        return kept, info | {"energy": old_energy + torch.where(info["accepted"], error, 0.0)}

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """Dual averaging each step; a new metric at the end of each window; the averaged step size at the end.

        Dual averaging then begins again, from the averaged h times √ of the geometric mean of old over new M⁻¹: on a
        logarithmic scale the steps h √M⁻¹ stay, on average, as long as they were.
        """
        averaging = DualAveraging(*state.averaging.unbind(1)).update(
            info["acceptance"], self.target_acceptance
        )
        step_size = averaging.log_step.exp()
        first, ends = metric_windows(num_warmup)
        if self.metric != "identity" and first <= iteration <= (ends[-1] if ends else -1):
            learn = _learn_dense if self.metric == "dense" else _learn_diagonal
            state, change = learn(state, iteration in ends)
            if iteration in ends:
                step_size = (averaging.log_average + 0.5 * change).exp()
                averaging = DualAveraging.start(step_size)
        if iteration == num_warmup - 1:
            step_size = averaging.log_average.exp()
        return state._replace(step_size=step_size, averaging=torch.stack(averaging, dim=1))

    def split(self, state: Any, chains: Sequence[slice]) -> list[Any]:
        """A dense metric is dealt out anew among the chains of each part."""
        if self.metric != "dense":
            return super().split(state, chains)
        whole, parts = Rungs(state.temperature), []
        for part in chains:
            rest = {name: value[part] for name, value in state._asdict().items() if name not in _SHARED}
            rungs = Rungs(rest["temperature"])
            shared = {name: deal_anew([(whole, getattr(state, name))], rungs) for name in _SHARED}
            parts.append(DenseHMCState(**rest, **shared))
        return parts

    def join(self, states: Sequence[Any]) -> Any:
        """The inverse of `split`."""
        if self.metric != "dense":
            return super().join(states)
        names = [name for name in DenseHMCState._fields if name not in _SHARED]
        rest = {name: torch.cat([getattr(state, name) for state in states]) for name in names}
        whole, rungs = Rungs(rest["temperature"]), [Rungs(state.temperature) for state in states]
        shared = {}
        for name in _SHARED:
            dealt = [getattr(state, name) for state in states]
            shared[name] = deal_anew(list(zip(rungs, dealt, strict=True)), whole)
        return DenseHMCState(**rest, **shared)

    def gradients(self, target: Target) -> tuple[float, float]:
        """One exact gradient a leapfrog step."""
        return float(self.num_steps), 0.0

    def _metric(self, state: Any, target: Target) -> Diagonal | Dense:
        if self.metric != "dense":
            return Diagonal(state.inverse_mass)
        rungs = Rungs(state.temperature, target.plan.chunk_size)
        return Dense(rungs, rungs.gather(state.inverse), rungs.gather(state.factor))


def _learn_diagonal(state: HMCState, is_end: bool) -> tuple[HMCState, Tensor]:
    """The draw added; at a window's end a new metric, and the mean logarithm of old over new M⁻¹."""
    moments = Moments(state.seen, state.mean, state.squares).update(state.theta)
    change = torch.zeros_like(state.seen)
    if is_end:
        inverse_mass = moments.inverse_mass(state.temperature)
        change = (state.inverse_mass / inverse_mass).log().mean(1)
        state, moments = state._replace(inverse_mass=inverse_mass), Moments.start(state.theta)
    return state._replace(**moments._asdict()), change


def _learn_dense(state: DenseHMCState, is_end: bool) -> tuple[DenseHMCState, Tensor]:
    """Likewise, with the mean over the eigenvalues."""
    rungs = Rungs(state.temperature)
    moments = Covariances(state.seen, state.mean, state.squares).update(state.theta, rungs)
    change = torch.zeros_like(state.seen)
    if is_end:
        inverse, factor = (part.to(state.theta) for part in moments.inverse_mass(state.temperature, rungs))
        old, new = rungs.gather(state.factor), factor
        for members, before, after in zip(rungs.members, old, new, strict=True):
            change[members] = 2 * (before.diagonal().log().mean() - after.diagonal().log().mean())
        state = state._replace(inverse=rungs.deal(inverse), factor=rungs.deal(factor))
        moments = Covariances.start(state.theta, rungs)
    return state._replace(**moments._asdict()), change
