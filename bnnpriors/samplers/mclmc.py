"""Microcanonical Langevin Monte Carlo, and its form with a Metropolis test."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .adaptation import DualAveraging, Moments, metric_windows
from .base import Sampler, check_target, diverged, positive, settle, whole
from .metric import check_metric

MEMORY, TRUST = 150, 1.5
"""Steps in which the estimate of the energy's variance forgets; how far from its target, in log h, an error still counts."""


class MCLMCState(NamedTuple):
    """State of `MCLMC`: `momentum` is m ~ N(0, T) in units of `spread` = M^{−½}; the fields after `temperature`, the target's,
    belong to warm-up. `energies` [chains, 2]: weighted sums of squared energy errors over h⁶, and of the weights."""

    theta: Tensor
    potential: Tensor
    gradient: Tensor
    momentum: Tensor
    step_size: Tensor
    spread: Tensor
    temperature: Tensor
    averaging: Tensor
    energies: Tensor
    seen: Tensor
    mean: Tensor
    squares: Tensor


@dataclass(frozen=True)
class MCLMC(Sampler):
    """Microcanonical Langevin Monte Carlo (Robnik, De Luca, Silverstein & Seljak 2212.08549) at temperature T, in d ≥ 2 latents.

    The velocity has a fixed length; forces turn it. With m the momentum, u = m/‖m‖, e the direction of −M^{−½}∇U,

    B: u ← (u + e (sinh δ + e·u (cosh δ − 1)))/(cosh δ + e·u sinh δ), δ = (h/2) √(d/T) ‖M^{−½}∇U‖/(d − 1), ‖m‖ as it was;
    A: θ ← θ + h √(dT) M^{−½} u;  O: m ← a m + √((1 − a²) T) ε, a = exp(−h/L);

    a step is O B A B. So written, h and M mean what they mean in `HMC`, and m ~ N(0, T). The paper's L is √d times this one, and
    its value √d where M⁻¹ = Var θ / T is L = 1. B changes the volume of directions by the factor (cosh δ + e·u sinh δ)^{−(d−1)},
    which gives a step the energy error ΔE = ΔU + T (d − 1) Σ log(cosh δ + e·u sinh δ), Σ over its two B's.

    Without a test the draws have an error of order h². Warm-up tunes h of each chain such that E ΔE²/T² = `energy_variance` · d:
    small errors, but never none. With a test over `steps_per_test` steps (Robnik, Cohn-Gordon & Seljak 2503.01707) a trajectory
    begins with a fresh m and is accepted with min(1, exp(−Σ ΔE/T)), Σ over its steps, O between them: exact. On rejection θ is
    restored. M⁻¹ = Var θ / T is tuned as by `HMC`.

    Args:
        step_size: h, the start of the adaptation where there is warm-up.
        decoherence_length: L, the time in which the direction forgets; None for 1 without a test, and infinity with one, where
            each trajectory begins afresh. Without O the B's of neighbouring steps are one.
        steps_per_test: steps of a trajectory, which is one sampler step; None for no test, one update a step.
        jitter: with a test each trajectory's h is multiplied by a number uniform in 1 ± jitter.
        target_acceptance: with a test, what dual averaging of h aims at; None keeps h.
        energy_variance: without a test, what warm-up tunes h to; None keeps h.
        metric: what warm-up estimates: "diagonal", or "identity" for M = I.

    Raises:
        ValueError: a single latent.
    """

    step_size: float = 0.01
    decoherence_length: float | None = None
    steps_per_test: int | None = None
    jitter: float = 0.1
    target_acceptance: float | None = 0.8
    energy_variance: float | None = 5e-4
    metric: str = "diagonal"

    exact_gradients = True
    preserves_volume = False
    anneals = False
    state_type = MCLMCState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        if self.decoherence_length is not None and not self.decoherence_length > 0:
            raise ValueError(
                f"MCLMC: decoherence_length {self.decoherence_length} given, expected a positive number or infinity"
            )
        if self.steps_per_test is not None:
            whole(self, steps_per_test=self.steps_per_test)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"MCLMC: jitter {self.jitter} given, expected a number in [0, 1)")
        if self.target_acceptance is not None:
            check_target(self, self.target_acceptance)
        if self.energy_variance is not None:
            positive(self, energy_variance=self.energy_variance)
        check_metric(self, self.metric, ("diagonal", "identity"))

    @property
    def _decoherence(self) -> float:
        if self.decoherence_length is None:
            return 1.0 if self.steps_per_test is None else math.inf
        return self.decoherence_length

    def check(self, target: Target) -> None:
        """No minibatches, and directions to turn to."""
        super().check(target)
        if target.dim < 2:
            raise ValueError(
                "MCLMC: one latent given, expected two or more: on a line the velocity cannot turn. Use HMC"
            )

    def frictionless(self) -> Sampler:
        """Without O."""
        return replace(self, decoherence_length=math.inf)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> MCLMCState:
        """Evaluate the start; momentum from N(0, T)."""
        potential, gradient = target.value_and_gradient(theta)
        temperature = target.temperature
        momentum = streams.normal(target.dim) * temperature[:, None].sqrt()
        step_size = torch.full_like(temperature, self.step_size)
        averaging = torch.stack(DualAveraging.start(step_size), dim=1)
        energies = potential.new_zeros(len(theta), 2)
        spread = torch.ones_like(theta)
        return MCLMCState(
            theta, potential, gradient, momentum, step_size, spread, temperature, averaging, energies, *Moments.start(theta)
        )  # fmt: skip

    def step(
        self, target: Target, state: MCLMCState, streams: Streams
    ) -> tuple[MCLMCState, dict[str, Tensor]]:
        """One update, or one tested trajectory."""
        size, temperature, tested = state.step_size, target.temperature, self.steps_per_test is not None
        if tested:
            size = size * (1 + self.jitter * (2 * streams.uniform() - 1)).to(size)
        decay = torch.exp(-size / self._decoherence)[:, None]
        noise = ((1 - decay**2) * temperature[:, None]).sqrt()
        half = 0.5 * size.double() * (target.dim / temperature.double()).sqrt() / (target.dim - 1)
        drift = (size * (target.dim * temperature).sqrt())[:, None] * state.spread
        theta, momentum = state.theta, state.momentum
        slope, work = state.spread * state.gradient, torch.zeros_like(state.potential)
        count, glides = self.steps_per_test or 1, self._decoherence == math.inf
        for index in range(count):
            if tested and index == 0:
                momentum = streams.normal(target.dim) * temperature[:, None].sqrt()
                state = state._replace(momentum=momentum)
            elif not glides:
                momentum = torch.addcmul(decay * momentum, streams.normal(target.dim), noise)
            if index == 0 or not glides:
                momentum, change = _turned(momentum, slope, half)
                work = work + change
            theta = torch.addcmul(theta, drift, momentum / momentum.norm(dim=1, keepdim=True))
            potential, gradient = target.value_and_gradient(theta)
            slope = state.spread * gradient
            momentum, change = _turned(momentum, slope, 2 * half if glides and index + 1 < count else half)
            work = work + change
        error = potential - state.potential + temperature * work
        new = state._replace(theta=theta, potential=potential, gradient=gradient, momentum=momentum)
        if tested:
            return settle(state, new, error, temperature, streams)
        divergent = diverged(error, temperature)
        return new, {"divergent": divergent, "energy_error": error, "step_size": state.step_size}

    def adapt(
        self, state: MCLMCState, info: dict[str, Tensor], iteration: int, num_warmup: int
    ) -> MCLMCState:
        """h each step; a new metric at the end of each window, with which h is scaled as by `HMC`."""
        moments, stretch = Moments(state.seen, state.mean, state.squares), None
        first, ends = metric_windows(num_warmup)
        spread = state.spread
        if self.metric == "diagonal" and first <= iteration <= (ends[-1] if ends else -1):
            moments = moments.update(state.theta)
            if iteration in ends:
                spread = moments.inverse_mass(state.temperature).sqrt()
                moments, stretch = Moments.start(state.theta), (state.spread / spread).log().mean(1).exp()
        state = self._tuned(state, info, stretch, iteration == num_warmup - 1)
        return state._replace(spread=spread, **moments._asdict())

    def _tuned(
        self, state: MCLMCState, info: dict[str, Tensor], stretch: Tensor | None, is_end: bool
    ) -> MCLMCState:
        """h after one more acceptance or energy error, and in units `stretch` times as long."""
        size, averaging, energies = state.step_size, state.averaging, state.energies
        if self.steps_per_test is not None and self.target_acceptance is not None:
            dual = DualAveraging(*averaging.unbind(1)).update(info["acceptance"], self.target_acceptance)
            size = (dual.log_average if is_end or stretch is not None else dual.log_step).exp()
            averaging = torch.stack(dual, dim=1)
        elif self.steps_per_test is None and self.energy_variance is not None:
            size, energies = self._by_energy(state, info)
        if stretch is not None:
            size = size * stretch
            averaging = torch.stack(DualAveraging.start(size), dim=1)
            energies = torch.zeros_like(energies)
        return state._replace(step_size=size, averaging=averaging, energies=energies)

    def _by_energy(self, state: MCLMCState, info: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """E ΔE² grows as h⁶: each error says how much is due at its h, counted less the farther it is from the target."""
        size = state.step_size.double()
        error = info["energy_error"] / state.temperature.double()
        ratio = error**2 / (state.theta.shape[1] * (self.energy_variance or 0.0)) + 1e-8
        weight = torch.exp(-0.5 * (ratio.log() / (6 * TRUST)) ** 2)
        new = torch.stack([weight * ratio / size**6, weight], dim=1)
        energies = (MEMORY - 1) / (MEMORY + 1) * state.energies + new
        tuned = (energies[:, 0] / energies[:, 1]) ** (-1 / 6)
        failed = info["divergent"]
        energies = torch.where(failed[:, None], state.energies, energies)
        return torch.where(failed, 0.5 * size, tuned).to(state.step_size), energies

    def gradients(self, target: Target) -> tuple[float, float]:
        """One exact gradient an update."""
        return float(self.steps_per_test or 1), 0.0


def _turned(
    momentum: Float[Tensor, "chains dim"],
    slope: Float[Tensor, "chains dim"],
    turn: Float64[Tensor, " chains"],
) -> tuple[Float[Tensor, "chains dim"], Float64[Tensor, " chains"]]:
    """B of δ = turn ‖slope‖, without an exponential that grows: m, and (d − 1) log(cosh δ + e·u sinh δ)."""
    length, steepness = (torch.linalg.vector_norm(v, dim=1, dtype=torch.float64) for v in (momentum, slope))
    steepness = steepness.clamp(min=torch.finfo(momentum.dtype).tiny)
    cosine = -((momentum * slope).sum(1) / (length * steepness)).clamp(-1.0, 1.0)
    angle = turn * steepness
    fade = torch.exp(-angle)
    total = (1 + cosine) + (1 - cosine) * fade**2
    keep = 2 * fade / total
    pull = -length / steepness * (1 - fade) * (1 + fade + cosine * (1 - fade)) / total
    turned = torch.addcmul(keep[:, None].to(slope) * momentum, pull[:, None].to(slope), slope)
    return turned, (momentum.shape[1] - 1) * (angle + (0.5 * total).log())
