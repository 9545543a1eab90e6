"""BAOAB, OBABO and SGHMC against their updates by hand and the closed forms of the harmonic potential."""

import numpy as np
import pytest
import torch

from bnnpriors.samplers import BAOAB, GGMC, OBABO, SGHMC

from .targets import LIMIT, Pooled, assert_mean, of_potential, of_terms, run, standard_errors, target_of

CHAINS = 2000


def start(chains, dim=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(chains, dim, generator=generator, dtype=torch.float64)


def quadratic(stiffness, **options):
    return of_potential(lambda x: 0.5 * stiffness * x**2, **options)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("kind", [BAOAB, OBABO, SGHMC])
def test_harmonic(kind, decay):
    """Var θ and E m² in kθ²/2, over T/k and T, with w = h²k. BAOAB: 1 and 1 − w/4; OBABO: 1/(1 − w/4) and 1; SGHMC: both
    1/(1 − w/(2(1+a)))."""
    stiffness, step = 4.0, 0.45
    w = step**2 * stiffness
    sampler = kind(step_size=step, momentum_decay=decay)
    target = target_of(quadratic(stiffness, temperature=[0.5, 2.0]), CHAINS)
    theta, figures = run(sampler, target, start(CHAINS), Pooled(0, CHAINS), steps=150, skip=100)
    slope = 1 / (1 - w / (2 * (1 + decay)))
    position, kinetic = {BAOAB: (1.0, 1 - w / 4), OBABO: (1 / (1 - w / 4), 1.0), SGHMC: (slope, slope)}[kind]
    assert sampler.harmonic_variance(stiffness) * stiffness == pytest.approx(position)
    squares = (theta**2).mean(0)[:, 0] * stiffness / target.temperature
    momenta = (figures["momentum"] ** 2).mean(0)[:, 0] / target.temperature
    assert_mean(squares, position, resolution=0.1)
    assert_mean(momenta, kinetic, resolution=0.1)


def test_baoab_by_hand():
    step, decay, temperature = 0.3, 0.7, 0.5
    target = target_of(quadratic(3.0, temperature=temperature), 5)
    sampler = BAOAB(step_size=step, momentum_decay=decay)
    state = sampler.init(target, start(5), Pooled(0, 5))
    torch.testing.assert_close(state.momentum, temperature**0.5 * Pooled(0, 5).normal(1))
    theta, momentum = state.theta, state.momentum
    new, _ = sampler.step(target, state, Pooled(1, 5))
    momentum = momentum - step / 2 * 3 * theta
    theta = theta + step / 2 * momentum
    momentum = decay * momentum + ((1 - decay**2) * temperature) ** 0.5 * Pooled(1, 5).normal(1)
    theta = theta + step / 2 * momentum
    momentum = momentum - step / 2 * 3 * theta
    torch.testing.assert_close(new.theta, theta)
    torch.testing.assert_close(new.momentum, momentum)
    torch.testing.assert_close(new.gradient, 3 * theta)


def test_obabo_is_ggmc_without_its_test():
    target = target_of(quadratic(3.0), 5)
    samplers = OBABO(step_size=0.3, momentum_decay=0.7), GGMC(step_size=0.3, momentum_decay=0.7)
    ours, theirs = (_last(sampler, target) for sampler in samplers)
    assert torch.equal(ours.theta, theirs.theta)
    assert torch.equal(ours.momentum, theirs.momentum)
    for options in ({"steps_per_test": 3}, {"target_acceptance": 0.8}):
        with pytest.raises(
            ValueError,
            match=r"OBABO: .* given, but OBABO .* without a Metropolis test: use bp\.samplers\.GGMC",
        ):
            OBABO(**options)


def _last(sampler, target):
    streams = Pooled(0, 5)
    state = sampler.init(target, start(5), streams)
    for _ in range(3):
        state, _ = sampler.step(target, state, streams)
    return state


def test_sghmc_is_sgd_with_momentum_and_noise():
    """Δθ' = a Δθ − h²ĝ + h √(2(1 − a)T) ε, and m' = a m − h √((1 + a)/2) ĝ + √((1 − a²)T) ε."""
    step, decay, temperature = 0.3, 0.8, 0.5
    target, streams = target_of(quadratic(3.0, temperature=temperature), 5), Pooled(1, 5)
    sampler = SGHMC(step_size=step, momentum_decay=decay)
    first = sampler.init(target, start(5), Pooled(0, 5))
    second, _ = sampler.step(target, first, streams)
    third, _ = sampler.step(target, second, streams)
    same = Pooled(1, 5)
    same.normal(1)
    noise = same.normal(1)
    change = decay * (second.theta - first.theta) - step**2 * 3 * second.theta
    change = change + step * (2 * (1 - decay) * temperature) ** 0.5 * noise
    torch.testing.assert_close(third.theta - second.theta, change)
    momentum = decay * second.momentum - step * ((1 + decay) / 2) ** 0.5 * 3 * second.theta
    torch.testing.assert_close(third.momentum, momentum + ((1 - decay**2) * temperature) ** 0.5 * noise)


@pytest.mark.parametrize(("factor", "position", "kinetic"), [(1.0, 0.75, 1.0), (None, 1.0, 1.0)])
def test_why_sghmc_has_factors(factor, position, kinetic):
    """With the exact noise and without its factors, Var θ → (T/k)(1 + a)/2 as h → 0: here a = ½ and h²k = 10⁻⁴.

    The stationary covariance solves S = A S Aᵀ + b bᵀ.
    """
    step, decay = 1e-2, 0.5
    factor = factor or ((1 + decay) / 2) ** 0.5
    move = step / factor
    a = np.array([[1 - move * step * factor, move * decay], [-step * factor, decay]])
    b = np.array([move, 1.0]) * (1 - decay**2) ** 0.5
    s = np.linalg.solve(np.eye(4) - np.kron(a, a), np.outer(b, b).ravel()).reshape(2, 2)
    assert s[0, 0] == pytest.approx(position, abs=1e-3)
    assert s[1, 1] == pytest.approx(kinetic, abs=1e-3)


def test_the_test_of_sghmc_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"no Metropolis test can correct SGHMC.*density zero.*GGMC"):
        SGHMC(step_size=0.1, steps_per_test=5)
    assert not SGHMC().reversible


def test_gradient_noise_heats_sghmc():
    """Gradients ±c at a quadratic: the temperature of θ is T + h²c²/(2(1 − a)) for a → 1, twice T here."""
    step, decay = 0.05, 0.9
    noise = (2 * (1 - decay)) ** 0.5 / step
    posterior = of_terms(
        lambda x: 0.25 * x**2 + noise * x / 2, lambda x: 0.25 * x**2 - noise * x / 2, batch_size=1
    )
    sampler = SGHMC(step_size=step, momentum_decay=decay)
    theta, _ = run(sampler, target_of(posterior, 500), 1.4 * start(500), Pooled(0, 500), steps=3000, skip=800)
    assert_mean((theta**2).mean(0), 2.0, resolution=0.5)
    distance, _ = standard_errors((theta**2).mean(0), 1.0)
    assert float(distance) > 3 * LIMIT


@pytest.mark.parametrize("kind", [BAOAB, OBABO, SGHMC])
@pytest.mark.parametrize(
    ("options", "word"),
    [({"step_size": -1.0}, "step_size"), ({"momentum_decay": 1.1}, r"momentum_decay 1\.1 given, expected a number in \[0, 1\]")],
)  # fmt: skip
def test_bad_arguments(kind, options, word):
    with pytest.raises(ValueError, match=word):
        kind(**options)
