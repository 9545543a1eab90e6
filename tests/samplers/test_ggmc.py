"""GGMC against closed forms, against leapfrog HMC and MALA, and against its own faulty versions."""

import math

import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors.posterior import Target
from bnnpriors.samplers import GGMC, HMC

from .targets import (
    QUARTIC_TERMS,
    Accepting,
    Pooled,
    Refusing,
    assert_mean,
    of_potential,
    of_terms,
    quartic,
    run,
    target_of,
)


class Quartic(Target):
    """U = Σ_d quartic(θ_d) + θ_0 θ_1, written out so that a step is differentiable."""

    def __init__(self, chains: int, dim: int = 2, temperature: float = 1.0) -> None:
        self.temperature = torch.full((chains,), temperature, dtype=torch.float64)
        self.dim, self.batch_size, self.num_data = dim, None, 0

    def value_and_gradient(self, theta):
        other = theta.flip(1)
        value = quartic(theta).sum(1) + 0.5 * (theta * other).sum(1)
        return value, theta**3 - 0.8 * theta + 0.5 + other


def start(chains, dim=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(chains, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("stiffness", [1.0, 4.0])
def test_harmonic_without_test(decay, stiffness):
    """Var θ = (T/k)/(1 − h²k/4) and E m² = T."""
    chains, step = 4000, 1.2 / stiffness**0.5
    posterior = of_potential(lambda x: 0.5 * stiffness * x**2, temperature=[0.5, 2.0])
    target = target_of(posterior, chains)
    sampler = GGMC(step_size=step, momentum_decay=decay)
    theta, figures = run(sampler, target, start(chains, 1), Pooled(0, chains), steps=100, skip=100)
    for rung, temperature in zip((theta[:, :2000], theta[:, 2000:]), (0.5, 2.0), strict=True):
        exact = temperature / stiffness / (1 - step**2 * stiffness / 4)
        assert_mean((rung**2).mean(0) / exact, 1.0, resolution=0.1)
    squares = (figures["momentum"] ** 2).mean(0)[:, 0] / target.temperature
    assert_mean(squares, 1.0, resolution=0.1)


def test_no_refreshment_is_leapfrog_hmc():
    chains, target = 50, Quartic(50, temperature=0.7)
    theta = start(chains)
    guided = GGMC(step_size=0.2, momentum_decay=1.0, steps_per_test=7)
    leapfrog = HMC(step_size=0.2, num_steps=7, jitter=0.0)
    ours, info = guided.step(target, guided.init(target, theta, Accepting(0, chains)), Accepting(1, chains))
    streams = Accepting(0, chains)
    theirs, expected = leapfrog.step(target, leapfrog.init(target, theta, streams), streams)
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.momentum, theirs.momentum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info["energy_error"], expected["energy_error"], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(info["acceptance"], expected["acceptance"], rtol=1e-10, atol=1e-11)


def test_full_refreshment_is_mala():
    """θ' = θ − (h²/2)∇U + h√T ε with the acceptance of Metropolis–Hastings for that proposal."""
    chains, step, temperature = 50, 0.4, 0.7
    target, theta = Quartic(chains, temperature=temperature), start(chains)
    sampler = GGMC(step_size=step, momentum_decay=0.0, steps_per_test=1)
    state = sampler.init(target, theta, Pooled(0, chains))
    new, info = sampler.step(target, state, Accepting(5, chains))
    noise = Pooled(5, chains).normal(2)
    potential, gradient = target.value_and_gradient(theta)
    proposal = theta - step**2 / 2 * gradient + step * math.sqrt(temperature) * noise
    torch.testing.assert_close(new.theta, proposal, rtol=1e-12, atol=1e-12)
    new_potential, new_gradient = target.value_and_gradient(proposal)
    variance = step**2 * temperature
    forward = -((proposal - theta + step**2 / 2 * gradient) ** 2).sum(1) / (2 * variance)
    backward = -((theta - proposal + step**2 / 2 * new_gradient) ** 2).sum(1) / (2 * variance)
    ratio = (potential - new_potential) / temperature + backward - forward
    torch.testing.assert_close(info["acceptance"], ratio.exp().clamp(max=1.0), rtol=1e-10, atol=1e-12)
    assert 0.05 < float((info["acceptance"] < 1).double().mean()) < 0.95


@pytest.mark.parametrize("steps_per_test", [None, 6])
def test_reversible_without_noise(steps_per_test):
    chains, target, theta = 50, Quartic(50), start(50)
    sampler = GGMC(step_size=0.3, momentum_decay=1.0, steps_per_test=steps_per_test)
    first = sampler.init(target, theta, Pooled(0, chains))
    state = first
    for _ in range(3):
        state, _ = sampler.step(target, state, Accepting(1, chains))
    assert (state.theta - theta).abs().max() > 0.1
    state = state._replace(momentum=-state.momentum)
    for _ in range(3):
        state, _ = sampler.step(target, state, Accepting(1, chains))
    torch.testing.assert_close(state.theta, theta, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.momentum, -first.momentum, rtol=0, atol=1e-10)


def test_volume_is_preserved():
    target, sampler = Quartic(1), GGMC(step_size=0.4, momentum_decay=1.0, steps_per_test=4)
    initial = sampler.init(target, start(1), Pooled(0, 1))

    def flow(both):
        theta, momentum = both[None, :2], both[None, 2:]
        potential, gradient = target.value_and_gradient(theta)
        state = initial._replace(theta=theta, momentum=momentum, potential=potential, gradient=gradient)
        new, _ = sampler.step(target, state, Accepting(1, 1))
        return torch.cat([new.theta[0], new.momentum[0]])

    for seed in range(5):
        jacobian = torch.autograd.functional.jacobian(flow, start(1, 4, seed)[0])
        assert abs(abs(float(torch.linalg.det(jacobian))) - 1) < 1e-10
        assert (jacobian - torch.eye(4)).abs().max() > 0.1


class Recording(Target):
    """Notes every gradient that a step asks for."""

    def __init__(self, target):
        self.__dict__.update(target.__dict__)
        self.target, self.gradients = target, []

    def value_and_gradient(self, theta):
        value, gradient = self.target.value_and_gradient(theta)
        self.gradients.append(gradient)
        return value, gradient

    def gradient_estimate(self, theta, streams):
        self.gradients.append(self.target.gradient_estimate(theta, streams))
        return self.gradients[-1]


def test_energy_error_is_the_sum_over_blocks():
    """ΔE = Σ_t of the change of U + ½‖m‖² over each B-A-B block, with minibatch gradients between the exact ends."""
    chains, step, decay, length = 20, 0.3, 0.6, 5
    target = Recording(target_of(of_terms(*QUARTIC_TERMS, batch_size=1), chains))
    sampler = GGMC(step_size=step, momentum_decay=decay, steps_per_test=length)
    state = sampler.init(target, start(chains, 1), Pooled(0, chains))
    noises = []

    class Noting(Accepting):
        def normal(self, dim):
            noises.append(super().normal(dim))
            return noises[-1]

    new, info = sampler.step(target, state, Noting(3, chains))
    theta, momentum = state.theta, state.momentum
    change = target.potential(new.theta) - target.potential(state.theta)
    assert len(target.gradients) == length + 1
    for index in range(length):
        momentum = before = decay * momentum + (1 - decay**2) ** 0.5 * noises[index]
        momentum = momentum - step / 2 * target.gradients[index]
        theta = theta + step * momentum
        momentum = momentum - step / 2 * target.gradients[index + 1]
        change = change + 0.5 * (momentum**2 - before**2).sum(1)
    torch.testing.assert_close(new.theta, theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new.momentum, momentum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info["energy_error"], change, rtol=1e-10, atol=1e-11)


def test_rejection_restores_and_negates():
    """The momentum that comes back is the one after the first refreshment, with the other sign."""
    chains, target = 30, Quartic(30)
    sampler = GGMC(step_size=0.5, momentum_decay=0.8, steps_per_test=3)
    state = sampler.init(target, start(chains), Pooled(0, chains))
    new, info = sampler.step(target, state, Refusing(1, chains))
    assert not info["accepted"].any()
    assert torch.equal(new.theta, state.theta)
    assert torch.equal(new.potential, state.potential)
    assert torch.equal(new.gradient, state.gradient)
    refreshed = 0.8 * state.momentum + 0.6 * Pooled(1, chains).normal(2)
    torch.testing.assert_close(new.momentum, -refreshed, rtol=1e-12, atol=1e-12)


def test_two_refreshments_are_one():
    """O twice, m ← √a m + √((1−a)T) ε, is m ← a m + √((1−a²)T) ε in law: one step from m = 1 at a flat potential."""
    chains, decay, temperature = 4000, 0.6, 2.0
    target = target_of(of_potential(lambda x: 0.0 * x, temperature=temperature), chains)
    sampler = GGMC(step_size=0.5, momentum_decay=decay)
    state = sampler.init(target, torch.zeros(chains, 1, dtype=torch.float64), Pooled(0, chains))
    new, _ = sampler.step(target, state._replace(momentum=torch.ones(chains, 1).double()), Pooled(1, chains))
    assert_mean(new.momentum, decay, resolution=0.2)
    assert_mean((new.momentum - decay) ** 2, (1 - decay**2) * temperature, resolution=0.2)
    torch.testing.assert_close(new.theta, 0.5 * new.momentum)


def test_infinite_energy_is_rejected_and_called_divergent():
    chains = 10
    target = target_of(of_potential(lambda x: torch.where(x > 3, torch.inf, 0.5 * x**2)), chains)
    sampler = GGMC(step_size=100.0, momentum_decay=0.5, steps_per_test=5)
    state = sampler.init(target, start(chains, 1), Pooled(0, chains))
    new, info = sampler.step(target, state, Accepting(1, chains))
    assert info["divergent"].all()
    assert torch.equal(new.theta, state.theta)


def test_dual_averaging_reaches_the_acceptance():
    chains, target = 100, target_of(of_potential(quartic, dim=5), 100)
    sampler = GGMC(step_size=0.01, momentum_decay=0.9, steps_per_test=3, target_acceptance=0.7)
    streams = Pooled(0, chains)
    state = sampler.init(target, start(chains, 5), streams)
    for iteration in range(400):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, iteration, 400)
    accepted = []
    for _ in range(200):
        state, info = sampler.step(target, state, streams)
        accepted.append(info["acceptance"])
    assert abs(float(torch.stack(accepted).mean()) - 0.7) < 0.08


def test_no_adaptation_unless_asked():
    target = Quartic(3)
    sampler = GGMC(step_size=0.1, steps_per_test=2)
    state = sampler.init(target, start(3), Pooled(0, 3))
    assert sampler.adapt(state, {"acceptance": torch.ones(3)}, 0, 10) is state


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": math.nan}, "step_size"),
        ({"momentum_decay": 1.5}, "momentum_decay"),
        ({"steps_per_test": 0}, "steps_per_test"),
        ({"target_acceptance": 0.8}, "target_acceptance 0.8 given without steps_per_test"),
        ({"target_acceptance": 1.0, "steps_per_test": 2}, "target_acceptance"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        GGMC(**options)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_steps_are_whole():
    with pytest.raises(ValueError, match=r"steps_per_test 2\.5 given, expected an integer from 1, or None"):
        GGMC(steps_per_test=2.5)
    assert repr(GGMC(steps_per_test=np.int64(3))) == repr(GGMC(steps_per_test=3))


def test_cost_in_full_data_gradients():
    full, batch = of_terms(*QUARTIC_TERMS), of_terms(*QUARTIC_TERMS, batch_size=1)
    assert GGMC().evaluations(batch.target(1)) == pytest.approx(1 / 3)
    assert GGMC(steps_per_test=4).evaluations(batch.target(1)) == pytest.approx(1 + 3 / 3)
    assert GGMC(steps_per_test=4).evaluations(full.target(1)) == 4
    assert isinstance(GGMC(), bp.samplers.Sampler)
