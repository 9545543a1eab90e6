"""Gaussian fits against a posterior that is Gaussian, and on networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import FullRank, LinearRegression, LowRank, MeanField
from bnnpriors.variational.gaussian_fit import GaussianFit

from ..conjugate import regression

QUICK = {"num_steps": 400, "learning_rate": 0.05, "num_draws": 16, "progress": False}


def covariance(fit: GaussianFit) -> Tensor:
    law = fit.law()
    if isinstance(fit, MeanField):
        return law.variance.detach().diag()
    return law.covariance_matrix.detach()


def evidence(posterior: bp.Posterior) -> float:
    x, y = posterior.data.x, posterior.data.y
    return float(LinearRegression(x, y[:, 0], 0.25, 1.0).log_evidence())


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("make", [FullRank, lambda post: LowRank(post, rank=1)], ids=["full", "low"])
def test_laws_with_correlations_recover_the_tempered_posterior(make, temperature: float) -> None:
    """The noise of stochastic gradients is left: a tenth of a standard deviation, and of a variance."""
    posterior, mean, precision = regression(temperature=temperature)
    fit = make(posterior).fit(**QUICK)
    exact = temperature * torch.linalg.inv(precision)
    assert float(((fit.loc.detach() - mean) / exact.diagonal().sqrt()).abs().max()) < 0.1
    torch.testing.assert_close(covariance(fit), exact, rtol=0.1, atol=0.05 * float(exact.diagonal().max()))
    assert fit.pareto_k() < 0.5
    if temperature == 1:
        found = fit.bound(num_draws=4000)
        assert found.value == pytest.approx(evidence(posterior), abs=6 * found.error + 0.01)


def test_mean_field_has_the_posteriors_own_precisions_and_a_bound_below_the_evidence() -> None:
    """KL(q‖p) = ½ log (Π A_ii / |A|) is what the bound lacks."""
    posterior, mean, precision = regression()
    fit = MeanField(posterior).fit(**QUICK)
    deviations = torch.linalg.inv(precision).diagonal().sqrt()
    assert float(((fit.loc.detach() - mean) / deviations).abs().max()) < 0.1
    torch.testing.assert_close(covariance(fit).diagonal(), 1 / precision.diagonal(), rtol=0.1, atol=0.0)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    assert gap > 0.1
    found = fit.bound(num_draws=20_000)
    assert evidence(posterior) - found.value == pytest.approx(float(gap), abs=6 * found.error + 0.01)
    assert fit.history[-1].value > fit.history[0].value + 0.5


def test_minibatches_lead_to_the_same_place() -> None:
    posterior, mean, precision = regression(batch_size=5)
    fit = MeanField(posterior).fit(**QUICK)
    deviations = torch.linalg.inv(precision).diagonal().sqrt()
    assert float(((fit.loc.detach() - mean) / deviations).abs().max()) < 0.3
    torch.testing.assert_close(covariance(fit).diagonal(), 1 / precision.diagonal(), rtol=0.2, atol=0.0)


def test_a_seed_decides_and_draws_are_those_of_a_run() -> None:
    posterior, *_ = regression()
    one, other = (MeanField(posterior, seed=3).fit(num_steps=20, seed=5, progress=False) for _ in range(2))
    assert torch.equal(one.loc, other.loc)
    assert not torch.equal(
        one.loc, MeanField(posterior, seed=3).fit(num_steps=20, seed=6, progress=False).loc
    )
    draws = one.draws(50, seed=1)
    assert draws.theta.shape == (1, 50, 2)
    assert torch.equal(draws.theta[0], one.sample(50, seed=1))
    x, y = posterior.data.x, posterior.data.y
    assert bp.evaluate(one.predict(x, num_draws=50, seed=1), y)["nll"] == pytest.approx(
        bp.evaluate(draws.predict(x), y)["nll"]
    )


def test_a_network_with_a_learnt_scale_and_noise() -> None:
    """Any prior, hyperpriors included: the bound rises, and the predictive is better than the prior's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, generator=generator) * 4 - 2
    y = torch.sin(2 * x) + 0.1 * torch.randn(40, 1, generator=generator)
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    model = bp.attach(
        net, {"*.weight": P.Normal(0.0, P.HalfCauchy(1.0), centred=False), "*": P.StudentT(5.0)}
    )
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(P.HalfNormal(1.0)), x, y)
    fit = MeanField(posterior)
    before = bp.evaluate(fit.predict(x), y)["rmse"]
    fit.fit(num_steps=600, learning_rate=0.02, num_draws=4, progress=False)
    assert bp.evaluate(fit.predict(x), y)["rmse"] < 0.5 * before
    assert fit.history[-1].value > fit.history[0].value + 20
    assert math.isfinite(fit.pareto_k(num_draws=200))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 0.0}, "scale 0.0"),
        ({"init": "map"}, "init 'map'"),
        ({"rank": 3}, "rank 3 given, expected an integer from 1 to 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict, message: str) -> None:
    posterior, *_ = regression()
    with pytest.raises(ValueError, match=message):
        (LowRank if "rank" in given else MeanField)(posterior, **given)


def test_ladders_and_bad_fits_are_refused() -> None:
    ladder, *_ = regression(temperature=[0.1, 1.0])
    with pytest.raises(ValueError, match="expected one; fit each by itself"):
        MeanField(ladder)
    posterior, *_ = regression()
    with pytest.raises(ValueError, match="num_steps 0"):
        MeanField(posterior).fit(num_steps=0)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        MeanField(posterior).fit(num_steps=50, learning_rate=1e6, progress=False)
