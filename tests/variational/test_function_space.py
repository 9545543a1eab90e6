"""Function-space inference of networks: against linear models whose posterior is known."""

from __future__ import annotations

import math

import gpytorch
import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import (
    FullRank,
    FunctionSpace,
    Gaussian,
    IllDefinedError,
    LinearRegression,
    LowRank,
    MeanField,
    kl_divergence,
)

from ..conjugate import regression
from .function_space import QUICK, divergence, own_kernel


def evidence(posterior: bp.Posterior) -> float:
    x, y = posterior.data.x, posterior.data.y
    return float(LinearRegression(x, y[:, 0], 0.25, 1.0).log_evidence())


def linear_kernel(posterior: bp.Posterior) -> gpytorch.kernels.Kernel:
    kernel = gpytorch.kernels.LinearKernel()
    kernel.variance = 1.0
    return kernel


def check_recovery(fit: FunctionSpace, mean: Tensor, exact: Tensor, slack: float) -> None:
    found = fit.q.law().covariance_matrix.detach()
    assert float(((fit.q.loc.detach() - mean) / exact.diagonal().sqrt()).abs().max()) < slack
    torch.testing.assert_close(found, exact, rtol=slack, atol=0.5 * slack * float(exact.diagonal().max()))


@pytest.mark.parametrize("make", [own_kernel, linear_kernel])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_a_linear_network_recovers_the_exact_posterior(make, temperature: float) -> None:
    """With the prior of its own functions, no jitter, and all training points: N(m*, T S*), and L = log Z at T = 1."""
    posterior, mean, precision = regression(temperature=temperature)
    fit = FunctionSpace(posterior, prior=make(posterior), jitter=0.0, family=FullRank).fit(
        num_draws=100, **QUICK
    )
    check_recovery(fit, mean, temperature * torch.linalg.inv(precision), 0.1)
    assert fit.is_bound
    if temperature == 1:
        found = fit.bound(num_draws=4000)
        assert found.value == pytest.approx(evidence(posterior), abs=6 * found.error + 0.01)


@pytest.mark.parametrize("estimator", ["closed form", "ssge"])
def test_so_it_does_against_draws_of_its_own_prior(estimator: str) -> None:
    """SSGE is biased: to a fifth of a standard deviation."""
    posterior, mean, precision = regression()
    fit = FunctionSpace(posterior, jitter=0.01, estimator=estimator, family=FullRank).fit(
        num_draws=100, **QUICK
    )
    check_recovery(fit, mean, torch.linalg.inv(precision), 0.2)


def test_minibatches_of_data_and_of_points_lead_near() -> None:
    posterior, mean, precision = regression(batch_size=5)
    given = {"prior": own_kernel(posterior), "jitter": 0.0, "family": FullRank}
    fit = FunctionSpace(posterior, measurement=["training", "minibatch"], **given).fit(num_draws=100, **QUICK)
    check_recovery(fit, mean, torch.linalg.inv(precision), 0.3)
    assert fit.is_bound
    assert not FunctionSpace(posterior, measurement="minibatch", **given).is_bound


def test_points_that_miss_the_data_give_no_bound() -> None:
    """One point: q collapses where it does not look, and L goes above log Z."""
    posterior, *_ = regression()
    single = posterior.data.x[:1]
    fit = FunctionSpace(
        posterior, prior=own_kernel(posterior), jitter=0.0, measurement=single, family=FullRank
    ).fit(**QUICK)
    assert not fit.is_bound
    assert fit.bound().value > evidence(posterior) + 1


def test_both_divergences_are_one_for_a_linear_network() -> None:
    """KL_X̃ = KL of the weights with as many independent points as weights, less with fewer; noise scale learnt or not."""
    posterior, *_ = regression()
    for family in (MeanField, FullRank, LowRank):
        q = family(posterior, scale=0.3, **({"rank": 1} if family is LowRank else {}))
        fit = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.0, family=q)
        unit = torch.eye(2, dtype=torch.float64)
        root = q.spread(unit).detach()
        law = Gaussian(q.loc.detach(), root @ root.mT)
        weights = float(kl_divergence(law, Gaussian(torch.zeros(2).double(), unit)))
        assert divergence(fit, posterior.data.x) == pytest.approx(weights, rel=1e-6)
        assert divergence(fit, posterior.data.x[:1]) < weights


def test_with_a_learnt_noise_the_bound_is_that_of_weight_space() -> None:
    """KL of (f, u) jointly, u the latent of the noise: as many nats as of (w, u); 5,000 draws, 6 standard errors."""
    x, y = regression()[0].data[:2]
    model = bp.attach(nn.Linear(2, 1, bias=False).double(), P.Normal(0.0, 1.0))
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(P.HalfNormal(1.0)), x, y)
    q = FullRank(posterior, scale=0.2)
    with torch.no_grad():
        q.below.copy_(torch.full((3, 3), 0.5))
    fit = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.0, family=q)
    here, there = fit.bound(num_draws=5000), q.bound(num_draws=5000)
    assert here.value == pytest.approx(there.value, abs=6 * math.hypot(here.error, there.error))
    assert there.error < 0.1
    for estimator in ("closed form", "ssge"):
        fit = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.0, estimator=estimator)
        fit.fit(**QUICK)
        noise = fit.draws(200)["likelihood.scale"].mean()
        assert float(noise) == pytest.approx(0.5, abs=0.2), estimator


def test_a_finite_network_against_a_process_is_ill_defined() -> None:
    """Three weights at eight points: the bound falls by 5 ln 10 = 11.51 nats for every decade of jitter."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    features = torch.stack([x**0, x, x * x], 1)
    model = bp.attach(nn.Linear(3, 1, bias=False).double(), P.Normal(0.0, 1.0))
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(0.1), features, features.sum(1, keepdim=True))
    process = gpytorch.kernels.RBFKernel()
    process.lengthscale = 0.4

    def bound(jitter: float) -> float:
        return FunctionSpace(posterior, prior=process, jitter=jitter).bound().value

    assert bound(1e-4) - bound(1e-5) == pytest.approx(5 * math.log(10), abs=0.01)
    for estimator in ("closed form", "ssge"):
        fit = FunctionSpace(posterior, prior=process, jitter=0.0, estimator=estimator)
        before = fit.q.loc.detach().clone()
        with pytest.raises(IllDefinedError, match=r"q has rank 3 in the 8 dimensions .* \(jitter\)"):
            fit.fit(**QUICK)
        assert torch.equal(before, fit.q.loc)
    fit = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.0)
    assert math.isfinite(fit.bound().value)


def test_what_a_fit_says_of_itself_and_a_fitted_family() -> None:
    posterior, *_ = regression()
    start = MeanField(posterior).fit(num_steps=20, progress=False)
    fit = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.02, family=start)
    assert "InfiniteWidthKernel" in repr(fit)
    assert "measured at all training inputs, a bound; closed form; jitter 0.02" in repr(fit)
    assert torch.equal(fit.sample(3), start.sample(3))
    fit.fit(num_steps=60, progress=False)
    assert len(fit.history) == 60
    assert "onverged" in fit.verdict
    x, y = posterior.data.x, posterior.data.y
    assert bp.evaluate(fit.predict(x), y)["nll"] == pytest.approx(
        bp.evaluate(fit.draws().predict(x), y)["nll"]
    )
    other = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.02).fit(
        num_steps=60, progress=False
    )
    again = FunctionSpace(posterior, prior=own_kernel(posterior), jitter=0.02).fit(
        num_steps=60, progress=False
    )
    assert torch.equal(other.q.loc, again.q.loc)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"estimator": "mc"}, ValueError, "estimator 'mc'"),
        ({"jitter": -1.0}, ValueError, "jitter -1.0"),
        ({"prior": nn.Identity()}, TypeError, "prior Identity given"),
        ({"prior": None, "num_prior_draws": 1}, ValueError, "num_prior_draws 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, error, message: str) -> None:
    posterior, *_ = regression()
    with pytest.raises(error, match=message):
        FunctionSpace(posterior, **({"prior": own_kernel(posterior), "jitter": 0.1} | change))


def test_posteriors_and_priors_that_do_not_fit_are_refused() -> None:
    posterior, *_ = regression()
    other, *_ = regression()
    with pytest.raises(ValueError, match="another posterior"):
        FunctionSpace(posterior, jitter=0.1, family=MeanField(other))
    with pytest.raises(ValueError, match="without data"):
        FunctionSpace(bp.Posterior(posterior.model), jitter=0.1)
    with pytest.raises(ValueError, match="num_prior_draws 10 given for 20"):
        FunctionSpace(posterior, jitter=0.1, num_prior_draws=10).bound()
    model = bp.attach(nn.Linear(2, 1, bias=False).double(), P.Improper())
    improper = bp.Posterior(model, bp.likelihoods.Gaussian(1.0), posterior.data.x, posterior.data.y)
    with pytest.raises(ValueError, match="improper"):
        FunctionSpace(improper, jitter=0.1)
    ladder, *_ = regression(temperature=[0.1, 1.0])
    with pytest.raises(ValueError, match="expected one; fit each by itself"):
        FunctionSpace(ladder, jitter=0.1)


def test_an_augmented_likelihood_is_averaged_over_fresh_transformations() -> None:
    x = torch.randn(6, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 1)).double()
    copies = bp.likelihoods.Augmented(
        bp.likelihoods.Gaussian(scale=0.5), bp.transforms.AdditiveNoise(0.1), num_samples=2
    )
    posterior = bp.Posterior(bp.attach(net, P.Normal(0.0, 1.0)), copies, x, x.sum((2, 3)), batch_size=4)
    first, again = (
        FunctionSpace(posterior, prior=None, measurement=x[:2], jitter=0.1).fit(
            num_steps=2, num_draws=3, progress=False
        )
        for _ in range(2)
    )
    assert torch.equal(first.q.loc, again.q.loc)
    generator = torch.Generator().manual_seed(1)
    one, other = (first._log_likelihood(first.sample(3), x, x.sum((2, 3)), generator) for _ in range(2))
    assert not torch.equal(one, other)
    assert len(first.predict(x).mean) == 6
