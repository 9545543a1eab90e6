"""GGMC's Metropolis test on a quartic, against two faults: no momentum flip, minibatches in a fixed order."""

import pytest
import torch

from bnnpriors.samplers import GGMC
from bnnpriors.samplers.base import choose

from .targets import (
    LIMIT,
    QUARTIC_TERMS,
    Pooled,
    assert_mean,
    of_potential,
    of_terms,
    quartic,
    quartic_moments,
    run,
    standard_errors,
    target_of,
)


def start(chains):
    return torch.randn(chains, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class WithoutFlip(GGMC):
    """The fault: the momentum keeps its sign on rejection."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(momentum=choose(info["accepted"], new.momentum, -new.momentum)), info


def quartic_means(sampler, posterior, streams, chains, steps=300):
    theta, figures = run(sampler, target_of(posterior, chains), start(chains), streams, steps=steps, skip=100)
    return theta[..., 0], figures["acceptance"]


@pytest.mark.parametrize("temperature", [2.0, 1.0])
def test_quartic(temperature):
    posterior = of_potential(quartic, temperature=temperature)
    sampler = GGMC(step_size=0.6, momentum_decay=0.9, steps_per_test=3)
    x, acceptance = quartic_means(sampler, posterior, Pooled(0, 2000), 2000)
    mean, square = quartic_moments(temperature)
    if temperature == 1.0:
        assert abs(mean + 0.45696) < 1e-5
        assert abs(square - 1.05264) < 1e-5
        assert_mean(acceptance.mean(0), 0.84, resolution=0.02)
    assert_mean(x.mean(0), mean, resolution=0.05)
    assert_mean((x**2).mean(0), square, resolution=0.07)


def test_quartic_finds_a_missing_flip():
    """E x is then −0.526 (−0.66 if a rejection also undid the refreshment that begins the trajectory)."""
    sampler = WithoutFlip(step_size=0.6, momentum_decay=0.9, steps_per_test=3)
    x, _ = quartic_means(sampler, of_potential(quartic), Pooled(0, 2000), 2000)
    assert abs(float(x.mean()) + 0.526) < 0.02
    distance, _ = standard_errors(x.mean(0), quartic_moments(1.0)[0])
    assert distance.abs() > 4 * LIMIT


class FixedOrder(Pooled):
    """The fault: minibatch 0, 1, 2, 0, … in every trajectory."""

    calls = 0

    def integers(self, high, count):
        self.calls += 1
        return torch.full((self.chains, count), (self.calls - 1) % high)


class Palindrome(Pooled):
    """Batches i, j, i between the ends of a trajectory of four steps: as probable backwards as forwards."""

    calls = 0

    def integers(self, high, count):
        self.calls += 1
        if self.calls % 3 == 1:
            self.first = super().integers(high, count)
        return super().integers(high, count) if self.calls % 3 == 2 else self.first


@pytest.mark.parametrize(("streams", "exact"), [(Pooled, True), (Palindrome, True), (FixedOrder, False)])
def test_quartic_with_minibatches(streams, exact):
    """Independent and palindromic minibatches leave the test exact; a fixed order does not, and this test sees it."""
    chains = 1000
    posterior = of_terms(*QUARTIC_TERMS, batch_size=1)
    sampler = GGMC(step_size=0.45, momentum_decay=0.5, steps_per_test=4)
    x, _ = quartic_means(sampler, posterior, streams(0, chains), chains, steps=200)
    mean, square = quartic_moments(1.0)
    if exact:
        assert_mean(x.mean(0), mean, resolution=0.06)
        assert_mean((x**2).mean(0), square, resolution=0.12)
    else:
        distance, _ = standard_errors(x.mean(0), mean)
        assert distance.abs() > 4 * LIMIT
