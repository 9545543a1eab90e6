"""The driver's bookkeeping on a conjugate regression, thinning, streams and recorded figures."""

import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors import SamplingError, run
from bnnpriors.samplers import GGMC, HMC, SGLD

from .conjugate import regression, sample
from .samplers.targets import Point, assert_mean, prior_alone

SAMPLERS = {
    "HMC": HMC(step_size=0.1, num_steps=4),
    "GGMC": GGMC(step_size=0.09, momentum_decay=0.7, steps_per_test=2),
    "SGLD": SGLD(step_size=0.08),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_conjugate_regression(name):
    """Mean and covariance of each rung in closed form; for SGLD those of its recursion, Var = (T/k)/(1 − h²k/4)."""
    ladder = [0.5, 2.0]
    posterior, mean, precision = regression(temperature=ladder, batch_size=10 if name == "GGMC" else None)
    draws = sample(
        posterior,
        SAMPLERS[name],
        num_samples=50,
        num_warmup=60,
        num_chains=200,
        thin=3,
        seed=1,
        chunk_size=400,
    )
    assert draws.theta.shape == (400, 50, 2)
    values, vectors = torch.linalg.eigh(precision)
    bias = 1 / (1 - 0.08**2 * values / 4) if name == "SGLD" else torch.ones(2, dtype=torch.float64)
    for temperature in ladder:
        rung = draws.at_temperature(temperature)
        assert rung.theta.shape == (200, 50, 2)
        white = (rung.theta - mean) @ vectors * (values / temperature / bias).sqrt()
        assert_mean(white.mean(1), 0.0, resolution=0.15)
        assert_mean((white**2).mean(1), 1.0, resolution=0.2)
        assert_mean((white[..., 0] * white[..., 1]).mean(1), 0.0, resolution=0.1)
    assert torch.equal(draws["weight"][:, :, 0], draws.theta)


@pytest.mark.parametrize("name", SAMPLERS)
def test_thinning_and_warm_up_choose_among_the_same_steps(name):
    """Draw j is the state after step num_warmup + (j + 1)·thin; without adaptation warm-up steps are steps like others."""
    posterior, *_ = regression()
    sampler = GGMC(step_size=0.09, steps_per_test=2) if name == "GGMC" else SAMPLERS[name]
    if name == "HMC":
        every = sample(posterior, sampler, num_samples=20, num_warmup=5, num_chains=2)
        some = sample(posterior, sampler, num_samples=5, num_warmup=5, num_chains=2, thin=4)
        offset = 0
    else:
        every = sample(posterior, sampler, num_samples=25, num_chains=2)
        some = sample(posterior, sampler, num_samples=5, num_warmup=5, num_chains=2, thin=4)
        offset = 5
    assert torch.equal(every.theta[:, offset + 3 :: 4], some.theta)
    for figure in some.stats:
        if figure == "acceptance":  # of all four steps
            mean = every.stats[figure][:, offset:].unflatten(1, (-1, 4)).mean(2)
            torch.testing.assert_close(some.stats[figure], mean)
        else:
            assert torch.equal(every.stats[figure][:, offset + 3 :: 4], some.stats[figure]), figure


def test_a_divergence_between_kept_draws_is_kept():
    class Diverging(SGLD):
        """The second of each three steps of a chain diverges."""

        def step(self, target, state, streams):
            new, _ = super().step(target, state, streams)
            self.__dict__["count"] = self.__dict__.get("count", 0) + 1
            return new, {"divergent": torch.full((2,), self.__dict__["count"] % 6 == 2)}

    posterior, *_ = regression()
    draws = sample(posterior, Diverging(step_size=0.01), num_samples=6, num_chains=2, thin=3)
    assert draws.stats["divergent"][0].tolist() == [True, False, True, False, True, False]


def test_a_chain_that_diverges_in_warm_up_is_noticed_there(monkeypatch):
    monkeypatch.setattr(run, "MEET_SECONDS", 0.0)
    posterior, *_ = regression()
    with pytest.raises(SamplingError, match=r"by step \d{1,3}:"):
        sample(posterior, SGLD(step_size=50.0), num_samples=1, num_warmup=10_000, num_chains=2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_chain_does_not_depend_on_the_others(name):
    ladder = [1.0, 0.25]
    batch = None if name == "HMC" else 5
    one, *_ = regression(batch_size=batch)
    two, *_ = regression(batch_size=batch, temperature=ladder)
    settings = {"num_samples": 10, "num_warmup": 5, "seed": 3}
    few = sample(one, SAMPLERS[name], num_chains=2, **settings)
    many = sample(one, SAMPLERS[name], num_chains=5, **settings)
    rungs = sample(two, SAMPLERS[name], num_chains=2, **settings)
    torch.testing.assert_close(few.theta, many.theta[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(few.theta, rungs.at_temperature(1.0).theta, rtol=0, atol=1e-5)
    assert (rungs.theta[:2, 0] - rungs.theta[2:, 0]).abs().min() > 1e-4
    assert (many.theta[0, 0] - many.theta[1, 0]).abs().min() > 1e-4


@pytest.mark.parametrize("name", SAMPLERS)
def test_reproducible_by_seed_with_global_generators_untouched(name):
    posterior, *_ = regression()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = sample(posterior, SAMPLERS[name], num_samples=10, num_warmup=5, seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    torch.manual_seed(99)
    assert torch.equal(
        sample(posterior, SAMPLERS[name], num_samples=10, num_warmup=5, seed=3).theta, first.theta
    )
    other = sample(posterior, SAMPLERS[name], num_samples=10, num_warmup=5, seed=4)
    assert (other.theta != first.theta).all()


def test_stats_of_each_sampler():
    posterior, *_ = regression(batch_size=5)
    common = {"configurational_temperature"}
    tested = {
        "acceptance",
        "accepted",
        "divergent",
        "energy_error",
        "step_size",
        "kinetic_temperature",
        "potential",
    }
    for sampler, expected in (
        (SGLD(step_size=0.05), common),
        (GGMC(step_size=0.05), common | {"kinetic_temperature"}),
        (GGMC(step_size=0.05, steps_per_test=2), common | tested),
    ):
        draws = sample(posterior, sampler, num_samples=4, num_chains=3)
        assert set(draws.stats) == expected
        assert all(value.shape == (3, 4) for value in draws.stats.values())
        assert all(value.shape == (3, 4, 1) for value in draws.tensor_stats.values())


def test_recorded_figures_are_those_of_the_draw():
    """Potential, mᵀm/d and θᵀ∇U/d belong to the same state as θ."""
    posterior, _, precision = regression(temperature=0.5)
    draws = sample(posterior, HMC(step_size=0.1, num_steps=3), num_samples=30, num_chains=2)
    flat = draws.theta.flatten(0, 1)
    potential = -0.5 * posterior.log_density(flat)
    torch.testing.assert_close(draws.stats["potential"].flatten(), potential)
    centre = torch.linalg.solve(precision, posterior.data.x.T @ posterior.data.y / 0.25)[:, 0]
    expected = (flat * ((flat - centre) @ precision)).sum(1) / 2
    torch.testing.assert_close(draws.stats["configurational_temperature"].flatten(), expected)
    stopped = draws.stats["acceptance"] == 0
    assert draws.stats["accepted"].dtype == torch.bool
    assert not draws.stats["accepted"][stopped].any()


def test_kinetic_temperature_of_each_tensor():
    """mᵀM⁻¹m/d has mean T over chains, overall and per tensor."""
    net = torch.nn.Linear(3, 2, dtype=torch.float64)
    posterior = bp.Posterior(bp.attach(net, bp.priors.Normal()), temperature=0.3)
    draws = sample(
        posterior, GGMC(step_size=0.5), num_samples=20, num_warmup=60, num_chains=200, thin=5, chunk_size=200
    )
    assert draws.tensor_names == ("weight", "bias")
    assert draws.tensor_stats["kinetic_temperature"].shape == (200, 20, 2)
    assert_mean(draws.tensor_stats["kinetic_temperature"].mean(1), 0.3, resolution=0.1)
    assert_mean(draws.stats["kinetic_temperature"].mean(1), 0.3, resolution=0.05)


def test_start_at_the_model():
    posterior, *_ = regression()
    posterior.model.net.weight.data.fill_(0.7)
    draws = sample(posterior, SGLD(step_size=1e-9), num_samples=1, init="model")
    torch.testing.assert_close(
        draws.theta, torch.full((4, 1, 2), 0.7, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_float32_stays_float32():
    posterior, *_ = regression(torch.float32)
    draws = sample(posterior, HMC(step_size=0.1, num_steps=2), num_samples=3)
    assert draws.theta.dtype == torch.float32
    assert draws.stats["potential"].dtype == torch.float64


def test_prior_alone_through_the_driver():
    """Gamma(2, 1) has mean 2 as a weight; its latent is the logarithm."""
    posterior = prior_alone(bp.priors.Gamma(2.0, 1.0))
    draws = sample(
        posterior,
        HMC(step_size=0.8, num_steps=3),
        num_samples=60,
        num_warmup=30,
        num_chains=200,
        chunk_size=200,
    )
    assert torch.equal(draws["theta"], draws.theta.exp())
    assert_mean(draws["theta"].mean(1), 2.0, resolution=0.25)


def test_a_likelihood_that_is_any_object():
    class Shifted:
        kind = "regression"

        def log_prob(self, outputs, y):
            return -0.5 * (outputs - y - 1).square().sum(-1)

    y = torch.zeros(8, 1, dtype=torch.float64)
    model = bp.attach(Point(), bp.priors.Improper())
    posterior = bp.Posterior(model, Shifted(), y, y)
    draws = sample(
        posterior,
        HMC(step_size=0.3, num_steps=4),
        num_samples=40,
        num_warmup=20,
        num_chains=200,
        chunk_size=200,
    )
    assert_mean(draws["theta"].mean(1), 1.0, resolution=0.1)
    assert_mean(((draws["theta"] - 1) ** 2).mean(1), 1 / 8, resolution=0.04)
