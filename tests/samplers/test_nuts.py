"""NUTS: Pyro's own trajectories, laws at two temperatures, our warm-up, and resuming."""

from __future__ import annotations

import pytest
import torch
from pyro.infer import NUTS as PyroNUTS

import bnnpriors as bp
from bnnpriors.samplers import NUTS

from ..conjugate import regression, sample
from .targets import Pooled, assert_mean, of_potential, quartic, quartic_moments, run, target_of


def test_trajectories_are_those_of_pyro():
    """Three steps, each with the seed that the stream gives it: θ, the acceptance and the gradient at the end."""
    posterior, _, _ = regression()
    target = target_of(posterior, 1)
    sampler, streams, same = NUTS(step_size=0.15), Pooled(0, 1), Pooled(0, 1)
    state = sampler.init(target, torch.zeros(1, 2, dtype=torch.float64), streams)
    for _ in range(3):
        with torch.random.fork_rng(devices=[]):
            kernel = PyroNUTS(
                potential_fn=lambda z: -posterior.log_density(z["theta"][None])[0],
                step_size=0.15,
                adapt_step_size=False,
                adapt_mass_matrix=False,
            )
            kernel.initial_params = {"theta": state.theta[0].clone()}
            kernel.setup(0)
            torch.manual_seed(int(same.integers(2**62, 1)))
            expected = kernel.sample(kernel.initial_params)["theta"]
        before = torch.get_rng_state()
        state, info = sampler.step(target, state, streams)
        assert torch.equal(before, torch.get_rng_state())
        torch.testing.assert_close(state.theta[0], expected)
        assert float(info["acceptance"]) == pytest.approx(kernel._mean_accept_prob)
        value, gradient = target.value_and_gradient(state.theta)
        torch.testing.assert_close(state.potential, value)
        torch.testing.assert_close(state.gradient, gradient)
        assert int(info["num_steps"]) in range(
            2 ** (int(info["tree_depth"]) - 1), 2 ** int(info["tree_depth"])
        )


def test_the_metric_and_the_temperature_stretch_the_space():
    """The potential T u(θ/(s√T)) with M⁻¹ = s² gives θ = s√T z, where z is the chain of u at T = 1 with M = I and the same h."""
    ends = []
    for temperature, s in ((1.0, 1.0), (0.04, 3.0)):
        length = s * temperature**0.5

        def potential(x, temperature=temperature, length=length):
            return temperature * quartic(x / length)

        target = target_of(of_potential(potential, dim=3, temperature=temperature), 2)
        theta = length * torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
        streams = Pooled(0, 2)
        state = NUTS(step_size=0.3).init(target, theta, streams)
        state = state._replace(inverse_mass=torch.full_like(theta, s**2))
        for _ in range(4):
            state, info = NUTS().step(target, state, streams)
        ends.append((state.theta / length, info["acceptance"], info["energy"] / temperature))
    torch.testing.assert_close(*ends)


@pytest.mark.slow
def test_the_law_of_the_double_well():
    """E x and E x² at two temperatures: 60 chains of 25 trajectories each, after 5."""
    chains = 60
    target = target_of(of_potential(quartic, temperature=[0.5, 1.5]), chains)
    theta = torch.randn(chains, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta, figures = run(NUTS(step_size=0.4), target, theta, Pooled(0, chains), steps=25, skip=5)
    assert float(figures["acceptance"].mean()) > 0.8
    for group, temperature in ((slice(0, 30), 0.5), (slice(30, 60), 1.5)):
        mean, square = quartic_moments(temperature)
        assert_mean(theta[:, group, 0].mean(0), mean, resolution=0.55)
        assert_mean((theta[:, group, 0] ** 2).mean(0), square, resolution=0.55)


def test_warm_up_stores_and_extension(tmp_path):
    """Steps and metric are tuned; a run that is extended has the draws of the longer run, bit for bit; figures are there."""
    posterior, _, _ = regression(temperature=[0.01, 1.0])
    options = {"num_warmup": 60, "num_chains": 1, "seed": 0}
    sampler = NUTS(step_size=1e-3, max_tree_depth=5)
    sample(posterior, sampler, num_samples=3, store=tmp_path / "a", **options)
    extended = sample(posterior, sampler, num_samples=8, store=tmp_path / "a", resume=True, **options)
    whole = sample(posterior, sampler, num_samples=8, **options)
    assert torch.equal(extended.theta, whole.theta)
    steps = whole.stats["step_size"][:, 0]
    assert float(steps.min()) > 0.1
    assert float(steps.max()) < 3.0
    assert {"acceptance", "divergent", "energy", "tree_depth", "num_steps"} <= set(whole.stats)
    assert not set(whole.stats) & {"kinetic_temperature"}
    assert int(whole.stats["tree_depth"].max()) <= 5
    spread = (whole.theta - whole.theta.mean(1, keepdim=True)).std((1, 2))
    assert 2 < float(spread[1] / spread[0]) < 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"max_tree_depth": 0}, "max_tree_depth 0 given, expected an integer from 1"),
        ({"metric": "dense"}, "metric 'dense' given, expected 'diagonal' or 'identity'"),
        ({"target_acceptance": 1.0}, r"NUTS: target_acceptance 1\.0 given"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        NUTS(**options)


def test_minibatches_are_refused():
    posterior, _, _ = regression(batch_size=5)
    with pytest.raises(ValueError, match="NUTS needs exact gradients"):
        bp.sample(posterior, NUTS(), num_samples=1)
