"""Samplers with one fault each, by the check of `check_sampler` that is there for it."""

from __future__ import annotations

from typing import ClassVar

import torch

from bnnpriors.samplers import GGMC, HMC, SGLD, ChEES, Sampler
from bnnpriors.samplers.base import choose
from bnnpriors.streams import Streams

TESTED = {"step_size": 0.01, "steps_per_test": 4}


class ChangesItsState(SGLD):
    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        state.theta.add_(1.0)
        return new, info


class OneFigureForAll(SGLD):
    def step(self, target, state, streams):
        return super().step(target, state, streams)[0], {"mean": state.theta.mean()}


class CheapByItsWord(HMC):
    def gradients(self, target):
        return 1.0, 0.0


class GlobalGenerator(SGLD):
    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(theta=new.theta + 1e-3 * self.step_size * torch.randn_like(new.theta)), info


class LooksAtTheOthers(SGLD):
    """Its noise has a part that all chains share."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(theta=new.theta + 0.1 * (new.theta - state.theta).mean(0)), info


class RemembersOutsideItsState(SGLD):
    """Steps that shorten with a count that no checkpoint has."""

    counts: ClassVar = [0]

    def init(self, target, theta, streams):
        self.counts[0] = 0
        return super().init(target, theta, streams)

    def step(self, target, state, streams):
        self.counts[0] += 1
        new, info = super().step(target, state, streams)
        return new._replace(theta=torch.lerp(state.theta, new.theta, 1 / self.counts[0])), info


class OneKick(GGMC):
    """The second half-kick is forgotten."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        half = torch.addcmul(new.momentum, state.step_size[:, None], new.gradient, value=0.5)
        return new._replace(momentum=half), info


class Shrinking(GGMC):
    """The momentum loses one part in a thousand at every step."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(momentum=0.999 * new.momentum), info


class ExactByItsWord(GGMC):
    def harmonic_variance(self, stiffness):
        return 1 / stiffness


class _HalfNoise(Streams):
    def __init__(self, streams: Streams) -> None:
        self.__dict__.update(vars(streams))
        self.streams = streams

    def normal(self, dim):
        return 0.5 * self.streams.normal(dim)

    def uniform(self):
        return self.streams.uniform()

    def integers(self, high, count):
        return self.streams.integers(high, count)


class HalfTheNoise(SGLD):
    def step(self, target, state, streams):
        return super().step(target, state, _HalfNoise(streams))


class HalfTheNoiseGGMC(GGMC):
    def step(self, target, state, streams):
        return super().step(target, state, _HalfNoise(streams))


class HalfTheNoiseHMC(HMC):
    def step(self, target, state, streams):
        return super().step(target, state, _HalfNoise(streams))


class WithoutTemperature(SGLD):
    """The noise is that of T = 1."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        drift = state.theta - 0.5 * self.step_size**2 * state.gradient
        return new._replace(theta=drift + (new.theta - drift) / target.temperature[:, None].sqrt()), info


class WithoutFlip(GGMC):
    """The momentum keeps its sign on rejection."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(momentum=choose(info["accepted"], new.momentum, -new.momentum)), info


class StalePotential(HMC):
    """On rejection the potential stays that of the proposal."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        rejected = state.potential + info["energy_error"]
        return new._replace(potential=choose(info["accepted"], new.potential, rejected)), info


class AlwaysAccepts(HMC):
    """It reports an acceptance and ignores it."""

    def step(self, target, state, streams):
        class Yes(_HalfNoise):
            def normal(self, dim):
                return self.streams.normal(dim)

            def uniform(self):
                return 0.0 * self.streams.uniform()

        return super().step(target, state, Yes(streams))


class LengthByPlace(ChEES):
    """Trajectories are longer where θ is large: the way back has another number of steps."""

    def step(self, target, state, streams):
        longer = state._replace(trajectory_length=state.trajectory_length * (1 + 3 * (state.theta[:, 0] > 0)))
        new, info = super().step(target, longer, streams)
        return new._replace(trajectory_length=state.trajectory_length), info


class NeverMoves(SGLD):
    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(theta=state.theta), info


class WithoutRescaling(SGLD):
    """The gradient of a minibatch is not multiplied by N/B."""

    def step(self, target, state, streams):
        share = 1.0 if target.batch_size is None else target.batch_size / target.num_data
        new, info = super().step(target, state._replace(gradient=share * state.gradient), streams)
        return new, info


class WithoutRescalingGGMC(GGMC):
    def step(self, target, state, streams):
        share = 1.0 if target.batch_size is None else target.batch_size / target.num_data
        return super().step(target, state._replace(gradient=share * state.gradient), streams)


class _FixedOrder(_HalfNoise):
    calls = 0

    def normal(self, dim):
        return self.streams.normal(dim)

    def integers(self, high, count):
        drawn = self.streams.integers(high, count)
        self.calls += 1
        return torch.full_like(drawn, (self.calls - 1) % high)


class FixedOrder(GGMC):
    """Minibatch 0, 1, 2, … in every trajectory."""

    def step(self, target, state, streams):
        return super().step(target, state, _FixedOrder(streams))


FAULTS: dict[str, list[Sampler]] = {
    "interface": [ChangesItsState(), OneFigureForAll(), CheapByItsWord()],
    "seeds": [GlobalGenerator()],
    "chains": [LooksAtTheOthers()],
    "resume": [RemembersOutsideItsState()],
    "time reversal": [OneKick()],
    "volume": [Shrinking()],
    "harmonic": [ExactByItsWord(), HalfTheNoise()],
    "Gaussian": [HalfTheNoise(), HalfTheNoiseGGMC(), HalfTheNoiseHMC(), WithoutTemperature(), NeverMoves()],
    "double well": [
        WithoutFlip(**TESTED),
        HalfTheNoiseGGMC(**TESTED),
        AlwaysAccepts(),
        StalePotential(0.1, 3),
    ],
    "funnel": [AlwaysAccepts(0.1, 5), HalfTheNoiseHMC()],
    "banana": [LengthByPlace(0.1, 4), WithoutFlip(**TESTED), StalePotential(0.1, 3), HalfTheNoise()],
    "minibatches": [WithoutRescaling(), WithoutRescalingGGMC()],
    "order of minibatches": [FixedOrder(**TESTED)],
    "Geweke": [HalfTheNoise(), AlwaysAccepts()],
    "calibration": [HalfTheNoise(), HalfTheNoiseHMC(), WithoutTemperature()],
}
