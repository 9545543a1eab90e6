"""The export to ArviZ: groups, names, shapes, and figures against their definitions."""

import warnings

import arviz_stats
import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import HMC, SGLD


def regression(likelihood=None, **options):
    x = torch.linspace(-1, 1, 7)[:, None]
    priors = {
        "weight": bp.priors.Normal(0.0, bp.priors.Gamma(2.0, 1.0), centred=False),
        "bias": bp.priors.Laplace(),
    }
    model = bp.attach(torch.nn.Linear(1, 1), priors)
    likelihood = likelihood or bp.likelihoods.Gaussian(bp.priors.HalfCauchy(1.0))
    return bp.Posterior(model, likelihood, x, 2 * x, **options)


def sample(posterior, sampler=None, **options):
    options = {"num_samples": 20, "num_chains": 2} | options
    return bp.sample(posterior, sampler or HMC(step_size=0.05, num_steps=3), progress=False, **options)


def tensor(variable):
    return torch.from_numpy(variable.to_numpy().copy())


def test_regression():
    posterior = regression(temperature=0.5)
    draws = sample(posterior)
    tree = draws.to_arviz(seed=3, num_prior=50)
    assert set(tree.children) == {
        "posterior", "sample_stats", "prior", "posterior_predictive", "log_likelihood", "observed_data",
    }  # fmt: skip
    assert set(tree.posterior.data_vars) == {"weight", "bias", "weight.scale", "likelihood.scale"}
    for name in draws.names:
        assert torch.equal(tensor(tree.posterior[name]), draws[name])
        assert tree.prior[name].shape == (1, 50, *draws[name].shape[2:])
    stats = tree.sample_stats
    assert torch.equal(tensor(stats["acceptance_rate"]), draws.stats["acceptance"])
    assert stats["diverging"].dtype == bool
    assert {"energy", "step_size"} <= set(stats.data_vars)
    density = posterior.log_density(draws.theta.flatten(0, 1)).unflatten(0, (2, 20))
    torch.testing.assert_close(tensor(stats["lp"]), density)
    assert tree.posterior_predictive["y"].shape == (2, 20, 7, 1)
    assert torch.equal(tensor(tree.observed_data["y"]), posterior.data.y)


def test_log_likelihood_is_that_of_each_datum():
    posterior = regression()
    draws = sample(posterior)
    found = tensor(draws.to_arviz(num_prior=1).log_likelihood["y"])
    means = draws["weight"][..., 0] * posterior.data.x[:, 0] + draws["bias"]
    exact = torch.distributions.Normal(means, draws["likelihood.scale"][..., None]).log_prob(
        posterior.data.y[:, 0]
    )
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_posterior_predictive_follows_its_draw():
    """(y − mean)/noise of each draw is standard normal: mean within 5.2 standard errors (alarm 2e-7), and so is its square."""
    posterior = regression()
    draws = sample(posterior, num_samples=100)
    y = tensor(draws.to_arviz(num_prior=1).posterior_predictive["y"])[..., 0]
    means = draws["weight"][..., 0] * posterior.data.x[:, 0] + draws["bias"]
    z = (y - means) / draws["likelihood.scale"][..., None]
    assert abs(float(z.mean())) < 5.2 / z.numel() ** 0.5
    assert abs(float(z.square().mean()) - 1) < 5.2 * (2 / z.numel()) ** 0.5


def test_classification():
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    model = bp.attach(torch.nn.Linear(2, 3), bp.priors.Normal())
    posterior = bp.Posterior(model, bp.likelihoods.Categorical(), x, torch.arange(9) % 3)
    tree = sample(posterior).to_arviz(num_prior=5)
    assert tree.posterior_predictive["y"].shape == (2, 20, 9)
    assert set(np.unique(tree.posterior_predictive["y"])) <= {0, 1, 2}
    assert tree.observed_data["y"].shape == (9,)
    assert arviz_stats.loo(tree, var_name="y").n_data_points == 9


def test_the_seed_fixes_it_and_leaves_global_generators():
    draws = sample(regression())
    before = torch.get_rng_state()
    first, again, other = (draws.to_arviz(seed=seed, num_prior=5) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for group, name in (("prior", "weight"), ("posterior_predictive", "y")):
        assert np.array_equal(first[group][name], again[group][name])
        assert not np.array_equal(first[group][name], other[group][name])


def test_prior_draws_are_of_the_prior():
    """Bias ~ Laplace(0, 1): E|b| = 1, Var|b| = 1; 5.2 standard errors, alarm 2e-7."""
    bias = tensor(sample(regression(), num_samples=1).to_arviz(num_prior=1000).prior["bias"])
    assert abs(float(bias.abs().mean()) - 1) < 5.2 / 1000**0.5


def test_improper_parameters_are_no_part_of_the_prior():
    x = torch.ones(5, 1)
    model = bp.attach(torch.nn.Linear(1, 1), {"weight": bp.priors.Normal(), "bias": bp.priors.Improper()})
    tree = sample(bp.Posterior(model, bp.likelihoods.Gaussian(), x, x)).to_arviz(num_prior=3)
    assert set(tree.prior.data_vars) == {"weight"}
    assert set(tree.posterior.data_vars) == {"weight", "bias"}


class DensityAlone:
    """A likelihood that cannot be sampled."""

    def log_prob(self, outputs, y):
        return -(outputs - y).abs().sum(-1)


def test_a_likelihood_without_sampling_has_no_predictive():
    tree = sample(regression(DensityAlone()), SGLD(step_size=0.01)).to_arviz(num_prior=2)
    assert "posterior_predictive" not in tree.children
    assert tree.log_likelihood["y"].shape == (2, 20, 7)
    assert "lp" not in tree.sample_stats


def test_prior_alone_and_opened_stores_have_no_data(tmp_path):
    model = bp.attach(torch.nn.Linear(1, 1), bp.priors.Normal())
    posterior = regression()
    sample(posterior, store=tmp_path / "a")
    opened = bp.Draws.open(tmp_path / "a")
    with pytest.warns(UserWarning, match=r"no training data.*Draws\.open\('.*a', posterior=post\)"):
        tree = opened.to_arviz(num_prior=2)
    assert "observed_data" not in tree.children
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="to_arviz")
        alone = sample(bp.Posterior(model), store=tmp_path / "b").to_arviz(num_prior=2)
        again = bp.Draws.open(tmp_path / "b").to_arviz(num_prior=2)
        given = bp.Draws.open(tmp_path / "a", posterior=posterior).to_arviz(num_prior=2)
    assert set(alone.children) == set(again.children) == {"posterior", "sample_stats", "prior"}
    assert "observed_data" in given.children


def test_a_mixed_ladder_is_refused():
    draws = sample(regression(temperature=[0.5, 1.0]))
    with pytest.raises(
        ValueError,
        match=r"to_arviz: these draws mix temperatures \[0\.5, 1\.0\]; use draws\.at_temp.*to_arviz\(\)",
    ):
        draws.to_arviz()
    assert draws.at_temperature(0.5).to_arviz(num_prior=2).posterior.sizes["chain"] == 2
