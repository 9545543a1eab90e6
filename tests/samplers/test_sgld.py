"""SGLD against the stationary law of its own recursion, and SGLD and GGMC on minibatches of a Gaussian mean."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import GGMC, SGLD
from bnnpriors.samplers.sgld import sgld_update

from .targets import Point, Pooled, assert_mean, of_potential, run, target_of

CHAINS = 2000


def normals(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_update_by_hand():
    """θ − (h²/2)ĝ + h√T ε, with a step size and a temperature a chain."""
    theta, gradient, noise = normals(3, 2, seed=0), normals(3, 2, seed=1), normals(3, 2, seed=2)
    temperature = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    step = torch.tensor([[0.3], [0.1], [0.2]], dtype=torch.float64)
    expected = theta - 0.5 * step**2 * gradient + step * temperature.sqrt() * noise
    torch.testing.assert_close(sgld_update(theta, gradient, noise, step, temperature), expected)


@pytest.mark.parametrize(("step", "stiffness"), [(0.5, 1.0), (1.0, 1.0), (0.7, 3.0)])
def test_harmonic(step, stiffness):
    """θ' = (1 − h²k/2) θ + h√T ε has Var θ = (T/k)/(1 − h²k/4)."""
    posterior = of_potential(lambda x: 0.5 * stiffness * x**2, temperature=[0.2, 3.0])
    target = target_of(posterior, CHAINS)
    theta, _ = run(SGLD(step_size=step), target, normals(CHAINS, 1), Pooled(0, CHAINS), steps=150, skip=150)
    for rung, temperature in zip((theta[:, :1000], theta[:, 1000:]), (0.2, 3.0), strict=True):
        exact = temperature / stiffness / (1 - step**2 * stiffness / 4)
        assert_mean((rung**2).mean(0) / exact, 1.0, resolution=0.1)
        assert_mean(rung.mean(0) / exact**0.5, 0.0, resolution=0.1)


def mean_posterior(**options):
    """y_i ~ N(θ, 2²), θ ~ N(0, 1): a potential whose minibatch noise does not depend on θ."""
    y = 3.0 + 2.0 * normals(12, 1, seed=3)
    model = bp.attach(Point(), bp.priors.Normal(0.0, 1.0))
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(2.0), torch.zeros_like(y), y, **options)
    precision = 1 + len(y) / 4
    return posterior, precision, float(y.sum() / 4 / precision), y


@pytest.mark.parametrize("batch_size", [1, 4])
def test_minibatches(batch_size):
    """ĝ rescales the likelihood by N/B and not the prior: its mean is ∇U, its variance V = (N²/B)·Var(y)/σ⁴ with replacement;
    Var θ = (h²T + h⁴V/4)/(1 − (1 − h²k/2)²)."""
    posterior, precision, mean, y = mean_posterior(batch_size=batch_size, temperature=0.5)
    step = 0.4
    variance = 12**2 / batch_size * float(y.var(correction=0)) / 16
    shrink = 1 - step**2 * precision / 2
    exact = (step**2 * 0.5 + step**4 * variance / 4) / (1 - shrink**2)
    theta, _ = run(
        SGLD(step_size=step),
        target_of(posterior, CHAINS),
        normals(CHAINS, 1),
        Pooled(0, CHAINS),
        steps=150,
        skip=60,
    )
    assert_mean(theta.mean(0), mean, resolution=0.05)
    assert_mean(((theta - mean) ** 2).mean(0) / exact, 1.0, resolution=0.05)


def test_minibatches_bias_sgld_and_not_tested_ggmc():
    posterior, precision, mean, _ = mean_posterior(batch_size=3)
    sampler = GGMC(step_size=0.25, momentum_decay=0.8, steps_per_test=3)
    theta, figures = run(
        sampler, target_of(posterior, CHAINS), normals(CHAINS, 1), Pooled(0, CHAINS), steps=150, skip=50
    )
    assert_mean(theta.mean(0), mean, resolution=0.05)
    assert_mean(((theta - mean) ** 2).mean(0) * precision, 1.0, resolution=0.05)
    assert 0.4 < float(figures["acceptance"].mean()) < 0.99


def test_batch_of_all_data_is_exact():
    posterior, *_ = mean_posterior(batch_size=12)
    assert posterior.batch_size is None
    assert SGLD().evaluations(posterior.target(1)) == 1.0


@pytest.mark.parametrize("step_size", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_step_sizes(step_size):
    with pytest.raises(ValueError, match="step_size"):
        SGLD(step_size=step_size)
