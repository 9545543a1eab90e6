"""HMC against closed forms, Jacobians and adaptation."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import LogNormal

import bnnpriors as bp
from bnnpriors.samplers import HMC
from bnnpriors.samplers.adaptation import DualAveraging, metric_windows
from bnnpriors.samplers.base import metropolis

from .targets import (
    Accepting,
    Point,
    Pooled,
    Refusing,
    assert_mean,
    of_potential,
    prior_alone,
    quartic,
    quartic_moments,
    run,
    target_of,
)


def start(chains, dim=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(chains, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_quartic(temperature):
    chains = 2000
    target = target_of(of_potential(quartic, temperature=temperature), chains)
    sampler = HMC(step_size=0.7, num_steps=3)
    theta, figures = run(sampler, target, start(chains), Pooled(0, chains), steps=200, skip=50)
    mean, square = quartic_moments(temperature)
    assert 0.5 < float(figures["acceptance"].mean()) < 0.97
    assert_mean(theta[..., 0].mean(0), mean, resolution=0.05)
    assert_mean((theta[..., 0] ** 2).mean(0), square, resolution=0.05)


def test_metric_changes_the_path_and_not_the_target():
    """With M⁻¹ = diag(4, 1/4) and p ~ N(0, T M): Var θ = T/k and E pᵀM⁻¹p/d = T at the start of each trajectory."""
    chains, temperature = 2000, 0.5
    stiffness = torch.tensor([0.25, 4.0], dtype=torch.float64)
    posterior = of_potential(lambda x: 0.5 * stiffness * x**2, dim=2, temperature=temperature)
    target, streams = target_of(posterior, chains), Pooled(0, chains)
    sampler = HMC(step_size=0.9, num_steps=2)
    state = sampler.init(target, start(chains, 2), streams)
    state = state._replace(inverse_mass=torch.tensor([4.0, 0.25], dtype=torch.float64).expand(chains, 2))
    squares, kinetic = [], []
    for _ in range(150):
        state, _ = sampler.step(target, state, streams)
        squares.append(state.theta**2 * stiffness / temperature)
        kinetic.append((state.momentum**2 * state.inverse_mass / temperature).mean(1))
    assert_mean(torch.stack(squares[50:]).mean(0), 1.0, resolution=0.1)
    assert_mean(torch.stack(kinetic[50:]).mean(0), 1.0, resolution=0.2)


def test_step_by_hand():
    """Leapfrog, ΔH and the acceptance of one trajectory of a quadratic, written out."""
    chains, step, temperature, inverse_mass = 20, 0.3, 0.7, 1.7
    target = target_of(of_potential(lambda x: 1.5 * x**2, temperature=temperature), chains)
    sampler = HMC(step_size=step, num_steps=4, jitter=0.0)
    theta = start(chains)
    state = sampler.init(target, theta, Pooled(0, chains))
    state = state._replace(inverse_mass=torch.full_like(theta, inverse_mass))
    new, info = sampler.step(target, state, Accepting(2, chains))
    momentum = first = Pooled(2, chains).normal(1) * (temperature / inverse_mass) ** 0.5
    for _ in range(4):
        momentum = momentum - step / 2 * 3 * theta
        theta = theta + step * inverse_mass * momentum
        momentum = momentum - step / 2 * 3 * theta
    error = 1.5 * (theta**2 - state.theta**2) + 0.5 * inverse_mass * (momentum**2 - first**2)
    torch.testing.assert_close(new.theta, theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new.momentum, momentum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info["energy_error"], error[:, 0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(info["acceptance"], (-error[:, 0] / temperature).exp().clamp(max=1.0))
    energy = 1.5 * new.theta**2 + 0.5 * inverse_mass * new.momentum**2
    torch.testing.assert_close(info["energy"], energy[:, 0])
    torch.testing.assert_close(new.potential, 1.5 * new.theta[:, 0] ** 2)
    torch.testing.assert_close(new.gradient, 3 * new.theta)


def test_jitter_is_uniform_in_its_range():
    """With one step from θ = 0 of a flat potential, θ = h(1 + jitter·u) p."""
    chains = 4000
    target = target_of(of_potential(lambda x: 0.0 * x), chains)
    sampler = HMC(step_size=0.5, num_steps=1, jitter=0.4)
    state = sampler.init(target, torch.zeros(chains, 1, dtype=torch.float64), Pooled(0, chains))
    new, _ = sampler.step(target, state, Pooled(1, chains))
    factor = (new.theta / new.momentum)[:, 0] / 0.5
    assert 0.6 <= float(factor.min()) < 0.61
    assert 1.39 < float(factor.max()) <= 1.4
    assert_mean(factor, 1.0, resolution=0.03)


def test_rejection_restores_and_negates():
    chains = 20
    target = target_of(of_potential(quartic, dim=2), chains)
    sampler = HMC(step_size=0.5, num_steps=3)
    state = sampler.init(target, start(chains, 2), Pooled(0, chains))
    new, info = sampler.step(target, state, Refusing(1, chains))
    assert not info["accepted"].any()
    for name in ("theta", "potential", "gradient"):
        assert torch.equal(getattr(new, name), getattr(state, name))
    assert torch.equal(new.momentum, -Pooled(1, chains).normal(2))


def test_metropolis_refuses_nan_and_keeps_probabilities():
    error = torch.tensor([-1.0, 0.0, math.log(4.0), math.nan, math.inf], dtype=torch.float64)
    temperature = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0])
    probability, accept = metropolis(error, temperature, Accepting(0, 5))
    torch.testing.assert_close(probability, torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0], dtype=torch.float64))
    assert accept.tolist() == [True, True, True, False, False]


def test_constrained_latents_carry_their_jacobian():
    """Gamma(2, 1) has mean 2 and LogNormal(−1, 0.2) has E log = −1; without the Jacobian 1 and −1.04."""
    for prior, statistic, exact in (
        (bp.priors.Gamma(2.0, 1.0), lambda u: u.exp(), 2.0),
        (LogNormal(-1.0, 0.2), lambda u: u, -1.0),
    ):
        chains = 1000
        posterior = prior_alone(prior)
        step = 0.8 if exact == 2.0 else 0.15
        theta, _ = run(
            HMC(step_size=step, num_steps=3),
            target_of(posterior, chains),
            start(chains),
            Pooled(0, chains),
            steps=200,
            skip=60,
        )
        assert_mean(statistic(theta[..., 0]).mean(0), exact, resolution=0.08 if exact == 2.0 else 0.005)


def test_warm_up_tunes_and_then_freezes():
    """Acceptance reaches its target, M⁻¹ the posterior variances, and neither moves after warm-up."""
    scales = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    posterior = prior_alone(bp.priors.Normal(0.0, scales), dim=3)
    sampler = HMC(step_size=1.0, num_steps=8, target_acceptance=0.8)
    draws = bp.sample(
        posterior,
        sampler,
        num_samples=100,
        num_warmup=300,
        num_chains=10,
        seed=0,
        progress=False,
        chunk_size=10,
    )
    steps = draws.stats["step_size"]
    assert (steps == steps[:, :1]).all()
    assert len(steps[:, 0].unique()) == 10
    assert (steps != 1.0).all()
    assert 0.7 < float(draws.stats["acceptance"].mean()) < 0.95
    inverse_mass = draws._store.checkpoint["state"]["inverse_mass"]
    assert ((inverse_mass / scales**2).log().abs() < math.log(2.5)).all()
    assert set(draws.stats) == {
        "acceptance", "accepted", "configurational_temperature", "divergent", "energy", "energy_error",
        "kinetic_temperature", "potential", "step_size",
    }  # fmt: skip
    assert all(value.shape == (10, 100) for value in draws.stats.values())
    assert draws.tensor_stats["kinetic_temperature"].shape == (10, 100, 1)


def acceptance_after(num_warmup, step_size, *, chains=100, dim=60):
    """Acceptance and h of each chain after a warm-up from N(0, 1) on N(0, diag σ²), log σ uniform between log 0.03 and 0."""
    scales = torch.logspace(math.log10(0.03), 0, dim, dtype=torch.float64)
    target = target_of(of_potential(lambda x: 0.5 * (x / scales) ** 2, dim=dim), chains)
    sampler, streams = HMC(step_size=step_size, num_steps=10), Pooled(0, chains)
    state, found = sampler.init(target, start(chains, dim), streams), []
    for iteration in range(num_warmup + 40):
        state, info = sampler.step(target, state, streams)
        if iteration < num_warmup:
            state = sampler.adapt(state, info, iteration, num_warmup)
        else:
            found.append(info["acceptance"])
    return torch.stack(found).mean(0), state.step_size


@pytest.mark.parametrize("step_size", [0.002, 0.02, 0.2])
@pytest.mark.parametrize("num_warmup", [20, 50, 100, 200])
def test_acceptance_is_near_its_target(num_warmup, step_size):
    """From good and bad starts of h, on average within 0.1 of the target 0.8, and no chain is stuck."""
    acceptance, _ = acceptance_after(num_warmup, step_size, chains=50)
    assert float(acceptance.mean()) == pytest.approx(0.8, abs=0.1)
    assert float(acceptance.min()) > 0.4


def test_a_short_warm_up_does_not_spoil_the_step_size():
    for num_warmup in (1, 2, 3, 5, 10):
        acceptance, step_size = acceptance_after(num_warmup, 0.01, chains=20)
        assert float(acceptance.min()) > 0.5
        assert (step_size > 0.01 * 0.48**num_warmup).all()
        assert (step_size < 0.01 * 2**num_warmup).all()


def test_a_new_metric_keeps_the_length_of_steps():
    """At the end of a window log h + ½ mean log M⁻¹ is that of the averaged h before."""
    target = target_of(of_potential(lambda x: 0.5 * x**2, dim=3), 4)
    sampler, streams, num_warmup = HMC(step_size=0.1, num_steps=3), Pooled(0, 4), 40
    end = metric_windows(num_warmup)[1][-1]
    state = sampler.init(target, start(4, 3), streams)
    for iteration in range(end + 1):
        before = state
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, iteration, num_warmup)
    averaging = DualAveraging(*before.averaging.unbind(1)).update(info["acceptance"], 0.8)
    assert (before.inverse_mass == 1).all()
    assert not (state.inverse_mass == 1).any()
    torch.testing.assert_close(
        state.step_size.log() + 0.5 * state.inverse_mass.log().mean(1), averaging.log_average
    )


@pytest.mark.parametrize("exponent", [-5, 3])
def test_warm_up_is_the_same_at_every_temperature(exponent):
    """At T = 4ᵏ a quadratic potential from 2ᵏ θ₀ gives 2ᵏ θ, and the same h, M⁻¹ and acceptance: powers of two scale exactly."""
    chains, num_warmup, factor = 20, 120, 2.0**exponent
    stiffness = torch.tensor([1e4, 1.0, 1e-2], dtype=torch.float64)
    found = []
    for scale in (1.0, factor):
        posterior = of_potential(lambda x: 0.5 * stiffness * x**2, dim=3, temperature=scale**2)
        target, streams = target_of(posterior, chains), Pooled(0, chains)
        sampler = HMC(step_size=0.005, num_steps=5)
        state = sampler.init(target, scale * start(chains, 3), streams)
        for iteration in range(num_warmup):
            state, info = sampler.step(target, state, streams)
            state = sampler.adapt(state, info, iteration, num_warmup)
        found.append((state.theta / scale, state.step_size, state.inverse_mass, info["acceptance"]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_adaptation_of_the_metric_can_be_left_out():
    posterior = prior_alone(bp.priors.Normal(0.0, 3.0), dim=2)
    sampler = HMC(step_size=0.1, num_steps=3, metric="identity")
    draws = bp.sample(posterior, sampler, num_samples=1, num_warmup=60, num_chains=2, progress=False)
    assert (draws._store.checkpoint["state"]["inverse_mass"] == 1).all()


def test_minibatches_are_refused():
    x = torch.zeros(10, 1, dtype=torch.float64)
    model = bp.attach(Point(), bp.priors.Normal())
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(), x, x, batch_size=2)
    with pytest.raises(ValueError, match=r"exact gradients, but the posterior has batch_size=2.*GGMC"):
        bp.sample(posterior, HMC(), num_samples=1, progress=False)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": -0.1}, "step_size"),
        ({"num_steps": 0}, "num_steps"),
        ({"jitter": 1.0}, "jitter"),
        ({"target_acceptance": 0.0}, "target_acceptance"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        HMC(**options)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_steps_are_whole():
    with pytest.raises(ValueError, match=r"HMC: num_steps 2\.5 given, expected an integer from 1"):
        HMC(num_steps=2.5)
    assert repr(HMC(num_steps=np.int64(3))) == repr(HMC(num_steps=3))
