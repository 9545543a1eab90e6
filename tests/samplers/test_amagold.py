"""AMAGOLD: its update and energy error by hand, and its test on a quartic with minibatches, against faults."""

import pytest
import torch

from bnnpriors.samplers import AMAGOLD
from bnnpriors.samplers.base import choose

from .targets import (
    LIMIT,
    QUARTIC_TERMS,
    Accepting,
    Pooled,
    Refusing,
    assert_mean,
    of_potential,
    of_terms,
    quartic,
    quartic_moments,
    run,
    standard_errors,
    target_of,
)
from .test_ggmc import Recording
from .test_ggmc_quartic import FixedOrder, Palindrome

DECAY = 0.6


def start(chains, dim=1):
    return torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Noting(Accepting):
    """Keeps its normal numbers."""

    def __init__(self, seed, chains):
        super().__init__(seed, chains)
        self.noises = []

    def normal(self, dim):
        self.noises.append(super().normal(dim))
        return self.noises[-1]


def trajectory(temperature=0.7, length=4, chains=20, step=0.2):
    """A trajectory over minibatches, accepted, with its places, momenta, gradients and noises."""
    posterior = of_terms(*QUARTIC_TERMS, batch_size=1, temperature=temperature)
    target = Recording(target_of(posterior, chains))
    sampler = AMAGOLD(step_size=step, momentum_decay=DECAY, steps_per_test=length)
    state, streams = sampler.init(target, 0.5 * start(chains), Pooled(0, chains)), Noting(3, chains)
    new, info = sampler.step(target, state, streams)
    momenta = [state.momentum]
    theta = state.theta + step / 2 * state.momentum
    for index in range(length):
        scale = ((1 - DECAY**2) * temperature) ** 0.5
        kick = step * (1 + DECAY) / 2 * target.gradients[index]
        momenta.append(DECAY * momenta[-1] - kick + scale * streams.noises[index])
        theta = theta + step * (1.0 if index + 1 < length else 0.5) * momenta[-1]
    return target, state, new, info, theta, momenta, scale


def test_trajectory_by_hand():
    target, state, new, info, theta, momenta, _ = trajectory()
    assert len(target.gradients) == 4
    torch.testing.assert_close(new.theta, theta)
    torch.testing.assert_close(new.momentum, momenta[-1])
    torch.testing.assert_close(new.potential, target.potential(theta))
    work = sum(g * (m + n) for g, m, n in zip(target.gradients, momenta, momenta[1:], strict=False))
    change = target.potential(theta) - target.potential(state.theta)
    torch.testing.assert_close(info["energy_error"], change - 0.5 * 0.2 * work[:, 0])


def test_energy_error_is_the_ratio_of_path_densities():
    """exp(−ΔE/T) = π(θ_L, m_L) q(reverse path) / (π(θ_0, m_0) q(path)), the densities written out."""
    temperature, step = 0.7, 0.2
    target, state, _, info, theta, momenta, scale = trajectory(temperature)
    log_ratio = -(target.potential(theta) - target.potential(state.theta)) / temperature
    log_ratio = log_ratio - ((momenta[-1] ** 2 - momenta[0] ** 2) / (2 * temperature))[:, 0]
    for gradient, m, n in zip(target.gradients, momenta, momenta[1:], strict=False):
        kick = step * (1 + DECAY) / 2 * gradient
        forward = -((n - (DECAY * m - kick)) ** 2) / (2 * scale**2)
        backward = -((-m - (-DECAY * n - kick)) ** 2) / (2 * scale**2)
        log_ratio = log_ratio + (backward - forward)[:, 0]
    torch.testing.assert_close(-info["energy_error"] / temperature, log_ratio, rtol=1e-9, atol=1e-10)


def test_rejection_restores_and_negates():
    target = target_of(of_potential(quartic, dim=2), 20)
    sampler = AMAGOLD(step_size=0.5, momentum_decay=DECAY, steps_per_test=3)
    state = sampler.init(target, start(20, 2), Pooled(0, 20))
    new, info = sampler.step(target, state, Refusing(1, 20))
    assert not info["accepted"].any()
    for name in ("theta", "potential"):
        assert torch.equal(getattr(new, name), getattr(state, name))
    assert torch.equal(new.momentum, -state.momentum)


class WithoutFlip(AMAGOLD):
    """The fault: the momentum keeps its sign on rejection."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new._replace(momentum=choose(info["accepted"], new.momentum, -new.momentum)), info


def means(sampler, posterior, streams, chains=1000, steps=200):
    theta, figures = run(sampler, target_of(posterior, chains), start(chains), streams, steps=steps, skip=100)
    return theta[..., 0], float(figures["acceptance"].mean())


@pytest.mark.parametrize(("batch_size", "streams"), [(None, Pooled), (1, Pooled), (1, Palindrome)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_quartic(batch_size, streams, temperature):
    posterior = of_terms(*QUARTIC_TERMS, batch_size=batch_size, temperature=temperature)
    length = 3 if streams is Palindrome else 4
    sampler = AMAGOLD(step_size=0.45, momentum_decay=DECAY, steps_per_test=length)
    x, acceptance = means(sampler, posterior, streams(0, 1000))
    assert 0.3 < acceptance < 0.98
    mean, square = quartic_moments(temperature)
    assert_mean(x.mean(0), mean, resolution=0.12)
    assert_mean((x**2).mean(0), square, resolution=0.2)


@pytest.mark.parametrize(
    ("sampler", "batch_size", "streams"), [(WithoutFlip, None, Pooled), (AMAGOLD, 1, FixedOrder)]
)
def test_faults_are_seen(sampler, batch_size, streams):
    """No momentum flip, and minibatches in a fixed order."""
    posterior = of_terms(*QUARTIC_TERMS, batch_size=batch_size)
    kind = sampler(step_size=0.6, momentum_decay=0.9, steps_per_test=4)
    x, _ = means(kind, posterior, streams(0, 1000))
    distance, _ = standard_errors(x.mean(0), quartic_moments(1.0)[0])
    assert distance.abs() > 2 * LIMIT


def test_dual_averaging_reaches_the_acceptance():
    target = target_of(of_potential(quartic, dim=5), 100)
    sampler = AMAGOLD(step_size=0.01, steps_per_test=3, target_acceptance=0.7)
    state, streams = sampler.init(target, start(100, 5), Pooled(0, 100)), Pooled(1, 100)
    for iteration in range(400):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, iteration, 400)
    accepted = []
    for _ in range(200):
        state, info = sampler.step(target, state, streams)
        accepted.append(info["acceptance"])
    assert abs(float(torch.stack(accepted).mean()) - 0.7) < 0.08
    fixed = AMAGOLD()
    assert fixed.adapt(state, info, 0, 10) is state


def test_cost_in_full_data_gradients():
    batch = of_terms(*QUARTIC_TERMS, batch_size=1)
    assert AMAGOLD(steps_per_test=6).evaluations(batch.target(1)) == pytest.approx(1 + 6 / 3)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"momentum_decay": -0.1}, "momentum_decay"),
        ({"steps_per_test": 0}, "steps_per_test 0 given, expected an integer from 1"),
        ({"target_acceptance": 1.0}, "target_acceptance"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        AMAGOLD(**options)
