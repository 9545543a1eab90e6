"""A sampler under check, and its runs on known laws."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from ..samplers import Sampler
from ..samplers.base import choose
from .densities import Gaussian, Law
from .geweke import Network
from .known import Known, Pooled
from .report import NotApplicable

CHAINS = 1000
TRIAL_CHAINS = 200
ONE_BY_ONE, TRIAL_ONE_BY_ONE, STEPS_ONE_BY_ONE = 96, 8, 12
"""Chains of samplers that step one after the other, those of trials, and their steps, in warm-up too."""
UPDATES = 800
"""Gradients of a run after its warm-up, about; samplers that take many a step make fewer steps, `LEAST_STEPS` at least."""
LEAST_STEPS = 60
NUM_WARMUP = 60
ACCEPTANCE = 0.75
"""At which samplers with a Metropolis test are judged: rejections are part of what can be wrong."""
MOVE = 0.4
"""Of samplers without one: the root of the mean square of a step in a standard normal law."""


class Run(NamedTuple):
    """What is compared.

    Attributes:
        names, statistics: functions of the positions, averaged over the steps, whose expectation is 0: [chains, functions].
        last: positions at the end, [chains, positions]. persistence: correlation of first and last positions.
        acceptance: mean probability, NaN without a test. steps: their number.
    """

    names: list[str]
    statistics: Float64[Tensor, "chains functions"]
    last: Float64[Tensor, "chains positions"]
    persistence: float
    acceptance: float
    steps: int


class Subject:
    """A sampler under check.

    Args:
        exact: whether it must leave every law as it is; whether its steps report an acceptance, if None.
        scale: the length s of the laws; found for each law by trial steps, if None.
    """

    def __init__(self, sampler: Sampler, seed: int, exact: bool | None, scale: float | None) -> None:
        self.sampler, self.seed = sampler, seed
        self.chains, self.trial_chains = CHAINS, TRIAL_CHAINS
        if not sampler.vectorised:
            self.chains, self.trial_chains = ONE_BY_ONE, TRIAL_ONE_BY_ONE
        self._given = scale
        self._scales: dict[tuple[type[Law], int | None], float] = {}
        trial = scale or 1.0
        if not sampler.vectorised:  # whose steps in a law that is far too wide would take minutes
            trial = self._guess(Gaussian())
        self.tested = exact is not False and "acceptance" in self._trial(Gaussian(), trial, None)[1]
        self.exact = self.tested if exact is None else exact

    def generator(self, stream: int) -> torch.Generator:
        """A fresh generator; the same stream gives the same numbers."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    def need(self, law: Law) -> None:
        """Raise NotApplicable, with its reason, where the sampler refuses the law."""
        try:
            self.sampler.check(Known(law, self.trial_chains, 1.0))
        except ValueError as reason:
            raise NotApplicable(str(reason)) from reason

    def scale(self, law: Law, batch_size: int | None = None) -> float:
        """A length of the law that suits the sampler's steps: the shortest at which they are not too coarse."""
        if self._given is not None:
            return self._given * law.fineness
        key = (type(law), batch_size)
        if key not in self._scales:
            low, high = -40.0, 40.0
            if not self.sampler.vectorised:
                middle = math.log2(self._guess(law))
                low, high = middle - 2.0, middle + 3.0
            for _ in range(10 if self.sampler.vectorised else 4):
                middle = 0.5 * (low + high)
                coarse = self._is_coarse(law, 2.0**middle, batch_size)
                low, high = (middle, high) if coarse else (low, middle)
            self._scales[key] = 2.0**high
        return self._scales[key]

    def run(
        self, law: Law, scale: float, *, batch_size: int | None = None, num_warmup: int | None = None
    ) -> Run:
        """From independent draws of the law through warm-up to averages over every other step, the first quarter left out.

        Raises:
            FloatingPointError: a chain that leaves the finite numbers.
        """
        sampler, generator = self.sampler, self.generator(law.dim)
        target, streams = Known(law, self.chains, scale, batch_size), Pooled(self.seed, self.chains)
        steps, num_warmup = self._lengths(target, num_warmup)
        theta = target.start(generator)
        first = law.positions(theta / target.length)
        state = sampler.init(target, theta, streams)
        sums, acceptance, count = torch.zeros(self.chains, len(_names(law)), dtype=theta.dtype), 0.0, 0
        for index in range(num_warmup + steps):
            state, info = sampler.step(target, state, streams)
            if index < num_warmup:
                state = sampler.adapt(state, info, index, num_warmup)
            z = state.theta / target.length
            if index % 3 == 0 and law.renew(z, generator):
                state = sampler.reevaluate(target, state, streams)
            if index % 2 == 0 and index >= num_warmup + steps // 4:
                last = law.positions(z)
                sums, count = sums + _functions(last), count + 1
                acceptance += float(info["acceptance"].mean()) if "acceptance" in info else math.nan
        if not bool(z.isfinite().all()):
            raise FloatingPointError(f"chains left the finite numbers within {num_warmup + steps} steps")
        ends = zip(first.T, last.T, strict=True)
        persistence = min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in ends)
        return Run(_names(law), sums / count, last, persistence, acceptance / count, steps)

    def calibrate(
        self, law: Network, scale: float, *, batch_size: int | None = None, num_warmup: int | None = None
    ) -> Run:
        """Where the weights that made the data rank among a chain's (Talts et al. 1804.06788), in place of positions under the
        law.

        The truth is a draw of its own posterior, and so at a random place of a stationary chain: some steps lead away from it
        with its momentum turned round, back in time, and the rest forward (Modrák et al. 2211.02383). Warm-up is on other data.
        """
        sampler, generator = self.sampler, self.generator(law.dim + 1)
        target, streams = Known(law, self.chains, scale, batch_size), Pooled(self.seed + 1, self.chains)
        steps, num_warmup = self._lengths(target, num_warmup)
        warm = sampler.init(target, target.start(generator), streams)
        for index in range(num_warmup):
            warm, info = sampler.step(target, warm, streams)
            warm = sampler.adapt(warm, info, index, num_warmup)
        theta = target.start(generator)
        fresh = sampler.init(target, theta, streams)
        place = ("theta", "momentum", "potential", "gradient")
        start = warm._replace(**{name: getattr(fresh, name) for name in place if hasattr(fresh, name)})
        turned = start._replace(momentum=-start.momentum) if hasattr(start, "momentum") else start
        turn = torch.randint(steps + 1, (self.chains,), generator=generator)
        truth = law.quantities(theta / target.length)
        below, ties, acceptance, state = torch.zeros_like(truth), torch.zeros_like(truth), 0.0, turned
        for index in range(steps):
            here = zip(state, start, strict=True)
            state = type(state)(*(choose(turn == index, forward, now) for now, forward in here))
            state, info = sampler.step(target, state, streams)
            now = law.quantities(state.theta / target.length)
            below, ties = below + (now < truth), ties + (now == truth)
            acceptance += float(info["acceptance"].mean()) / steps if "acceptance" in info else math.nan
        if not bool(state.theta.isfinite().all()):
            raise FloatingPointError(f"chains left the finite numbers within {num_warmup + steps} steps")
        ranks = (below + torch.rand(truth.shape, generator=generator, dtype=truth.dtype) * (ties + 1)) / (
            steps + 1
        )
        names = [f"{what} of the rank of {name}" for what in ("location", "spread") for name in law.measured]
        ends = zip(truth.T, now.T, strict=True)
        persistence = min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in ends)
        v = 2 * ranks - 1
        return Run(names, torch.cat([v, v**2 - 1 / 3], dim=1), ranks, persistence, acceptance, steps)

    def _guess(self, law: Law) -> float:
        """A length of the law from the sampler's own step size."""
        return float(getattr(self.sampler, "step_size", 1.0)) * law.fineness

    def _lengths(self, target: Known, num_warmup: int | None) -> tuple[int, int]:
        """Steps after warm-up, and those of warm-up where they are not given."""
        if not self.sampler.vectorised:
            return STEPS_ONE_BY_ONE, STEPS_ONE_BY_ONE if num_warmup is None else num_warmup
        steps = max(LEAST_STEPS, math.ceil(UPDATES / max(sum(self.sampler.gradients(target)), 1.0)))
        return steps, NUM_WARMUP if num_warmup is None else num_warmup

    def _is_coarse(self, law: Law, scale: float, batch_size: int | None) -> bool:
        move, info = self._trial(law, scale, batch_size)
        if self.tested:
            return not (float(info["acceptance"].mean()) > ACCEPTANCE and move < 10)
        return not move < MOVE / law.fineness

    def _trial(self, law: Law, scale: float, batch_size: int | None) -> tuple[float, dict[str, Any]]:
        """The root of the mean square of a few steps, and the figures of the last."""
        chains = self.trial_chains
        target, streams = Known(law, chains, scale, batch_size), Pooled(self.seed, chains)
        state = self.sampler.init(target, target.start(self.generator(99)), streams)
        squares = []
        for _ in range(4):
            before = state.theta
            state, info = self.sampler.step(target, state, streams)
            squares.append((((state.theta - before) / target.length) ** 2).mean())
        return float(torch.stack(squares).mean().sqrt()), info


def _names(law: Law) -> list[str]:
    names = [f"location of {name}" for name in law.names] + [f"spread of {name}" for name in law.names]
    return names + [f"correlation of {a} and {b}" for a, b in combinations(law.names[:3], 2)]


def _functions(u: Float64[Tensor, "chains positions"]) -> Float64[Tensor, "chains functions"]:
    """With v = 2u − 1, uniform on [−1, 1]: v, v² − ⅓, products of the first three. All are bounded, of expectation 0."""
    v = 2 * u - 1
    pairs = [v[:, a] * v[:, b] for a, b in combinations(range(min(3, v.shape[1])), 2)]
    return torch.cat([v, v**2 - 1 / 3, *(pair[:, None] for pair in pairs)], dim=1)
