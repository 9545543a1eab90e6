"""ChEES-HMC: chains that find the length of their trajectories together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .adaptation import DualAveraging, Moments, metric_windows
from .base import Sampler, check_target, positive, settle, whole
from .metric import Diagonal, check_metric, leapfrog_each
from .rungs import Rungs

ADAM_DECAY, LARGEST_UPDATE = 0.95, 0.35
"""β₂ of Adam, whose β₁ is 0, and the most that log τ moves at once."""
FIRST_LENGTH = 0.5 * math.pi
"""τ where the ascent begins in a metric M⁻¹ = Var θ / T: the widest direction has a variance of T or more in it, so that this is
below the first maximum. There are further, lower ones beyond."""


class ChEESState(NamedTuple):
    """State of `ChEES`; `trajectories` is their number so far, and the fields after it belong to warm-up.

    `ascent` [chains, 3]: Adam's mean square, the averaged log τ, and the updates so far; `before`, `proposal`, `ending`: θ, θ′,
    and p′ of the last trajectory, accepted or not.
    """

    theta: Tensor
    potential: Tensor
    gradient: Tensor
    momentum: Tensor
    step_size: Tensor
    trajectory_length: Tensor
    inverse_mass: Tensor
    temperature: Tensor
    trajectories: Tensor
    averaging: Tensor
    ascent: Tensor
    before: Tensor
    proposal: Tensor
    ending: Tensor
    seen: Tensor
    mean: Tensor
    squares: Tensor


@dataclass(frozen=True)
class ChEES(Sampler):
    """ChEES-HMC (Hoffman, Radul & Sountsov 2021, AISTATS, PMLR 130): `HMC` whose chains of one temperature share h, M⁻¹ and a
    trajectory length τ. A trajectory takes ⌈u τ/h⌉ leapfrog steps, u the Halton sequence of base 2, the same for all.

    Warm-up ascends the Change in the Estimator of the Expected Square, ¼ E[(‖θ′ − E θ′‖² − ‖θ − E θ‖²)²] of proposals θ′, by Adam
    on log τ (β₁ = 0, β₂ = 0.95) along its derivative

        u τ E[(‖θ′ − E θ′‖² − ‖θ − E θ‖²) (θ′ − E θ′)·p′],

    with E the mean over chains, that of proposals weighted by their probability of acceptance, and ‖·‖ in the metric M.
    h follows dual averaging of the harmonic mean of the chains' acceptances; M⁻¹ = Var θ / T is that of all chains, each about
    its own mean, in doubling windows. Until the first window ends τ/h stays `num_steps`, and the ascent begins at τ = π/2; with
    M = I it begins at `num_steps` · h, which is to be below the optimum. At the end all are frozen, h and τ at their averages. On
    N(0, I) the optimum is τ = 2.247, where tan 2τ = 2τ.

    Every rung of a ladder adapts for itself. Trajectories of different lengths begin together, and the chains that are done drop
    out: no gradient is wasted.

    Args:
        step_size: h, the start of the adaptation where there is warm-up.
        num_steps: leapfrog steps of the longest trajectory, τ/h, at the start; without warm-up throughout.
        target_acceptance: what dual averaging aims at.
        learning_rate: of Adam on log τ.
        max_steps: that no trajectory exceeds.
        metric: what warm-up estimates: "diagonal", or "identity" for M = I.

    Raises:
        ValueError: fewer than two chains at a temperature.
    """

    step_size: float = 0.01
    num_steps: int = 20
    target_acceptance: float = 0.651
    learning_rate: float = 0.025
    max_steps: int = 1000
    metric: str = "diagonal"

    exact_gradients = True
    independent_chains = False
    independent_draws = True
    state_type = ChEESState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size, learning_rate=self.learning_rate)
        whole(self, num_steps=self.num_steps, max_steps=self.max_steps)
        check_target(self, self.target_acceptance)
        check_metric(self, self.metric, ("diagonal", "identity"))

    def check(self, target: Target) -> None:
        """No minibatches, and chains to compare."""
        super().check(target)
        if (count := Rungs(target.temperature).smallest) < 2:
            raise ValueError(
                f"ChEES: {count} chain a temperature given, expected at least 2, which it compares: raise num_chains, "
                "or use HMC"
            )

    def memory(self, target: Target) -> int:
        """The last trajectories' ends."""
        return 3 * len(target.temperature) * target.dim * target.temperature.element_size()

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> ChEESState:
        """Evaluate the start."""
        potential, gradient = target.value_and_gradient(theta)
        step_size = torch.full_like(target.temperature, self.step_size)
        momentum = torch.zeros_like(theta)
        return ChEESState(
            theta,
            potential,
            gradient,
            momentum,
            step_size,
            self.num_steps * step_size,
            torch.ones_like(theta),
            target.temperature,
            torch.zeros_like(step_size, dtype=torch.int64),
            torch.stack(DualAveraging.start(step_size), dim=1),
            step_size.new_zeros(len(theta), 3, dtype=torch.float64),
            theta,
            theta,
            momentum,
            *Moments.start(theta),
        )

    def step(
        self, target: Target, state: ChEESState, streams: Streams
    ) -> tuple[ChEESState, dict[str, Tensor]]:
        """One trajectory and its Metropolis test."""
        metric = Diagonal(state.inverse_mass)
        start = metric.momentum(streams.normal(target.dim), target.temperature)
        steps = halton(state.trajectories) * state.trajectory_length / state.step_size
        steps = steps.ceil().clamp(1, self.max_steps)
        step = state.step_size[:, None]
        theta, potential, gradient, end = leapfrog_each(
            target, state.theta, state.gradient, start, step, state.inverse_mass, steps
        )
        old_energy = state.potential + metric.kinetic(start)
        error = potential + metric.kinetic(end) - old_energy
        state = state._replace(
            momentum=start,
            trajectories=state.trajectories + 1,
            before=state.theta,
            proposal=theta,
            ending=end,
        )
        new = state._replace(theta=theta, potential=potential, gradient=gradient, momentum=end)
        kept, info = settle(state, new, error, target.temperature, streams)
        energy = old_energy + torch.where(info["accepted"], error, 0.0)
        return kept, info | {
            "energy": energy, "num_steps": steps, "trajectory_length": state.trajectory_length
        }  # fmt: skip

    def adapt(
        self, state: ChEESState, info: dict[str, Tensor], iteration: int, num_warmup: int
    ) -> ChEESState:
        """Dual averaging and Adam each step, a new metric at the end of each window, the averages at the end.

        With a new metric h and τ are multiplied by √ of the geometric mean of old over new M⁻¹, and both begin again.
        """
        rungs, acceptance = Rungs(state.temperature), info["acceptance"]
        averaging = DualAveraging(*state.averaging.unbind(1)).update(
            1 / rungs.mean(1 / acceptance), self.target_acceptance
        )
        step_size = averaging.log_step.exp()
        length, ascent = self.num_steps * step_size, state.ascent
        first, ends = metric_windows(num_warmup)
        begin = ends[0] + 1 if self.metric == "diagonal" and ends else first
        if iteration >= begin:
            length, ascent = self._ascend(state, acceptance, rungs)
        moments, inverse_mass = Moments(state.seen, state.mean, state.squares), state.inverse_mass
        if self.metric == "diagonal" and first <= iteration <= (ends[-1] if ends else -1):
            moments = moments.update(state.theta)
            if iteration in ends:
                inverse_mass = moments.pooled(rungs).inverse_mass(state.temperature)
                moments = Moments.start(state.theta)
                stretch = (0.5 * (state.inverse_mass / inverse_mass).log().mean(1)).exp()
                length = length * stretch if iteration >= begin else torch.full_like(length, FIRST_LENGTH)
                step_size = averaging.log_average.exp() * stretch
                averaging, ascent = DualAveraging.start(step_size), torch.zeros_like(ascent)
        if iteration == num_warmup - 1:
            step_size = averaging.log_average.exp()
            length = ascent[:, 1].exp().to(length) if iteration >= begin else self.num_steps * step_size
        return state._replace(
            step_size=step_size,
            trajectory_length=torch.minimum(torch.maximum(length, step_size), self.max_steps * step_size),
            inverse_mass=inverse_mass,
            averaging=torch.stack(averaging, dim=1),
            ascent=ascent,
            **moments._asdict(),
        )

    def _ascend(self, state: ChEESState, acceptance: Tensor, rungs: Rungs) -> tuple[Tensor, Tensor]:
        """τ and `ascent` after a step of Adam; its slope may be zero, where all proposals were refused."""
        slope = _slope(state, acceptance, rungs) * state.trajectory_length
        square, average, count = state.ascent.unbind(1)
        count = count + 1
        square = ADAM_DECAY * square + (1 - ADAM_DECAY) * slope**2
        scale = (square / (1 - ADAM_DECAY**count)).sqrt().clamp(min=torch.finfo(square.dtype).tiny)
        update = (self.learning_rate * slope / scale).clamp(-LARGEST_UPDATE, LARGEST_UPDATE)
        log_length = state.trajectory_length.double().log() + update
        share = count**-0.5
        average = share * log_length + (1 - share) * average
        return log_length.exp().to(state.step_size), torch.stack([square, average, count], dim=1)

    def gradients(self, target: Target) -> tuple[float, float]:
        """One exact gradient a leapfrog step, at the first length: warm-up changes it."""
        return 0.5 * (self.num_steps + 1), 0.0


def halton(index: Int[Tensor, " chains"]) -> Float[Tensor, " chains"]:
    """Number `index` + 1 of the sequence ½, ¼, ¾, ⅛, ⅝, …, periodic in 2¹⁶ − 1: the binary digits, read backwards."""
    number = index % (2**16 - 1) + 1
    return sum(((number >> bit) & 1).double() * 2.0 ** -(bit + 1) for bit in range(16))  # type: ignore[return-value]


def _slope(state: ChEESState, acceptance: Tensor, rungs: Rungs) -> Float64[Tensor, " chains"]:
    """u E[(‖θ′ − E θ′‖² − ‖θ − E θ‖²) (θ′ − E θ′)·p′], of each chain's rung."""
    usable = (acceptance > 0) & state.proposal.isfinite().all(1) & state.ending.isfinite().all(1)
    weight = torch.where(usable, acceptance, 0.0)
    total = rungs.sum(weight).clamp(min=torch.finfo(weight.dtype).tiny)
    proposal, ending = (
        torch.where(usable[:, None], part, 0.0).double() for part in (state.proposal, state.ending)
    )
    before, mass = state.before.double(), 1 / state.inverse_mass.double()
    proposal = proposal - rungs.sum(weight[:, None] * proposal) / total[:, None]
    before = before - rungs.mean(before)
    change = ((proposal**2 - before**2) * mass).sum(1)
    each = weight * change * (proposal * ending).sum(1)
    return halton(state.trajectories - 1) * rungs.sum(each) / total
