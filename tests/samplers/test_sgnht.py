"""SGNHT: the law of its friction, and the temperature under noisy gradients that it finds by itself."""

import math

import pytest
import torch

from bnnpriors.samplers import BAOAB, SGNHT
from bnnpriors.samplers.sgnht import _decayed

from .targets import Pooled, assert_mean, of_potential, of_terms, run, target_of


def start(chains, dim=1):
    return torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_step_by_hand():
    step, decay, temperature, count = 0.3, 0.7, 0.5, 20.0
    target = target_of(of_potential(lambda x: 1.5 * x**2, dim=2, temperature=temperature), 4)
    sampler = SGNHT(step_size=step, momentum_decay=decay, thermostat_steps=count)
    state = sampler.init(target, start(4, 2), Pooled(0, 4))
    new, info = sampler.step(target, state, Pooled(1, 4))
    theta, m, s = state.theta, state.momentum, state.friction
    injected = -math.log(decay)
    m = m - step / 2 * 3 * theta
    theta = theta + step / 2 * m
    s = s + injected / (2 * count) * ((m**2).mean(1) / temperature - 1)
    spread = (injected * temperature * (1 - torch.exp(-2 * s)) / s).sqrt()
    m = torch.exp(-s)[:, None] * m + spread[:, None] * Pooled(1, 4).normal(2)
    s = s + injected / (2 * count) * ((m**2).mean(1) / temperature - 1)
    theta = theta + step / 2 * m
    m = m - step / 2 * 3 * theta
    torch.testing.assert_close(new.theta, theta)
    torch.testing.assert_close(new.momentum, m)
    torch.testing.assert_close(new.friction, s)
    assert info["friction"] is new.friction


def test_friction_has_its_law_on_the_full_data():
    """s ~ N(s₀, s₀/(nD)), from its start on; and Var θ = T/k within the error of order h⁴."""
    chains, dim, decay, count = 2000, 4, 0.8, 30.0
    target = target_of(of_potential(lambda x: 0.5 * x**2, dim=dim, temperature=[0.5, 2.0]), chains)
    sampler = SGNHT(step_size=0.2, momentum_decay=decay, thermostat_steps=count)
    theta = start(chains, dim) * target.temperature[:, None].sqrt()
    injected = -math.log(decay)
    variance = injected / (count * dim)
    first = sampler.init(target, theta, Pooled(0, chains)).friction
    assert_mean(first, injected, resolution=0.01)
    assert_mean((first - injected) ** 2 / variance, 1.0, resolution=0.2)
    draws, figures = run(sampler, target, theta, Pooled(0, chains), steps=400, skip=100)
    assert_mean(figures["friction"].mean(0), injected, resolution=0.01)
    assert_mean(((figures["friction"] - injected) ** 2).mean(0) / variance, 1.0, resolution=0.06)
    assert_mean((draws**2).mean((0, 2)) / target.temperature, 1.0, resolution=0.05)


def test_friction_takes_out_the_noise_of_the_gradient():
    """With gradient noise that would double the temperature of SGHMC, Var θ = T/k, and s grows by h²c²/(2T)."""
    chains, step, decay = 500, 0.05, 0.9
    noise = (2 * -math.log(decay)) ** 0.5 / step
    posterior = of_terms(
        lambda x: 0.25 * x**2 + noise * x / 2, lambda x: 0.25 * x**2 - noise * x / 2, batch_size=1
    )
    sampler = SGNHT(step_size=step, momentum_decay=decay, thermostat_steps=300.0)
    target = target_of(posterior, chains)
    theta, figures = run(sampler, target, start(chains), Pooled(0, chains), steps=2500, skip=2000)
    assert_mean((theta**2).mean(0), 1.0, resolution=0.3)
    assert abs(float(figures["friction"].mean()) / (-2 * math.log(decay)) - 1) < 0.1
    heated, _ = run(BAOAB(step, decay), target, start(chains), Pooled(0, chains), steps=800, skip=600)
    assert float((heated**2).mean()) > 1.5


def test_decayed_is_smooth_through_zero():
    s = torch.tensor([-0.3, -2e-6, -1e-7, 0.0, 1e-7, 2e-6, 0.5], dtype=torch.float64)
    expected = torch.tensor(
        [(1 - math.exp(-2 * x)) / x if x else 2.0 for x in s.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(_decayed(s), expected, rtol=1e-8, atol=0)


def test_no_friction_is_hamiltonian():
    """a = 1: no noise and no thermostat."""
    target = target_of(of_potential(lambda x: 0.5 * x**2), 5)
    states = []
    for sampler in (SGNHT(step_size=0.3, momentum_decay=1.0), BAOAB(step_size=0.3, momentum_decay=1.0)):
        state = sampler.init(target, start(5), Pooled(0, 5))
        for _ in range(5):
            state, _ = sampler.step(target, state, Pooled(1, 5))
        states.append(state)
    torch.testing.assert_close(states[0].theta, states[1].theta)
    assert (states[0].friction == 0).all()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"momentum_decay": 0.0}, "momentum_decay"),
        ({"momentum_decay": 1.5}, "momentum_decay"),
        ({"thermostat_steps": 0.5}, r"thermostat_steps 0\.5 given, expected a number from 1"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        SGNHT(**options)
