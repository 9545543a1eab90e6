"""The exact posterior against SciPy, Bayes' rule and its own objective."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from bnnpriors.variational import Gaussian, LinearRegression, functional_kl

NOISE = 0.3


def problem(n: int = 12, p: int = 4) -> LinearRegression:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, p, generator=generator, dtype=torch.float64)
    y = features @ torch.randn(p, generator=generator, dtype=torch.float64)
    y = y + math.sqrt(NOISE) * torch.randn(n, generator=generator, dtype=torch.float64)
    return LinearRegression(features, y, NOISE, torch.tensor([0.5, 1.0, 2.0, 1.5])[:p])


def optimum(model: LinearRegression, measurements: Tensor | None, *, is_diagonal: bool = False) -> Gaussian:
    """The law that maximises the objective, by L-BFGS over its mean and factor."""
    p = model.features.shape[1]
    mean, raw = (torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in ((p,), (p, p)))

    def law() -> Gaussian:
        factor = raw.diagonal().exp().diag() + (0 if is_diagonal else raw.tril(-1))
        return Gaussian(mean, factor @ factor.mT)

    settings = {"tolerance_grad": 1e-10, "tolerance_change": 1e-14, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([mean, raw], max_iter=500, **settings)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -model.objective(law(), measurements)
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return Gaussian(*(part.clone() for part in law()))


def test_posterior_evidence_and_predictive_are_those_of_the_joint_normal_law() -> None:
    model = problem()
    phi, prior = model.features, model.prior.covariance
    joint = phi @ prior @ phi.mT + NOISE * torch.eye(12, dtype=torch.float64)
    evidence = stats.multivariate_normal(torch.zeros(12).numpy(), joint.numpy()).logpdf(model.y.numpy())
    assert model.log_evidence().item() == pytest.approx(evidence, rel=1e-12)
    gain = prior @ phi.mT @ torch.linalg.inv(joint)
    posterior = model.posterior()
    torch.testing.assert_close(posterior.mean, gain @ model.y, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(posterior.covariance, prior - gain @ phi @ prior, rtol=1e-9, atol=1e-12)
    new = torch.eye(4, dtype=torch.float64)
    predictive = model.predict(new)
    torch.testing.assert_close(predictive.mean[:, 0], posterior.mean)
    torch.testing.assert_close(predictive.variance[:, 0], posterior.covariance.diagonal() + NOISE)
    assert model.predict(new, model.prior).epistemic_variance[2, 0].item() == pytest.approx(4.0)


def test_the_expected_log_likelihood_is_that_of_samples() -> None:
    """40,000 draws; 6 standard errors, a false-alarm rate of 2e-9."""
    model, count = problem(), 40_000
    q = model.posterior()
    w = q.sample(count, torch.Generator().manual_seed(1))
    each = torch.distributions.Normal(w @ model.features.mT, math.sqrt(NOISE)).log_prob(model.y).sum(1)
    error = each.mean() - model.expected_log_likelihood(q)
    assert abs(error) < 6 * each.std() / math.sqrt(count)


def test_with_all_training_inputs_the_gap_is_the_divergence_from_the_posterior() -> None:
    """log Z − L = KL(q(f_X̃)‖p(f_X̃ | y)) ≥ 0, for any q; and it is zero at the posterior."""
    model = problem()
    posterior, q = model.posterior(), Gaussian(torch.ones(4).double(), 0.1 * torch.eye(4).double())
    for measurements in (model.features, torch.cat([model.features, torch.eye(4, dtype=torch.float64)])):
        gap = model.log_evidence() - model.objective(q, measurements)
        own = functional_kl(q.image(measurements), posterior.image(measurements))
        assert gap.item() == pytest.approx(own.item(), rel=1e-6)
        assert abs(model.log_evidence() - model.objective(posterior, measurements)) < 1e-6


def test_without_them_it_is_no_bound() -> None:
    """One measurement point: the objective goes above log Z."""
    model = problem()
    single = model.features[:1]
    assert model.objective(model.posterior(), single) > model.log_evidence() + 1


@pytest.mark.parametrize("extra", [0, 5])
def test_maximising_the_objective_over_full_laws_recovers_the_posterior(extra: int) -> None:
    model = problem()
    more = torch.randn(extra, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, exact = optimum(model, torch.cat([model.features, more])), model.posterior()
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.covariance, exact.covariance, rtol=1e-4, atol=1e-6)


def test_the_best_diagonal_law_has_the_posteriors_own_precisions() -> None:
    """Mean-field: variances 1/(S*⁻¹)_ii, the mean exact, and a gap that is positive."""
    model = problem()
    found, exact = optimum(model, None, is_diagonal=True), model.posterior()
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-5, atol=1e-6)
    expected = 1 / torch.linalg.inv(exact.covariance).diagonal()
    torch.testing.assert_close(found.covariance.diagonal(), expected, rtol=1e-5, atol=1e-8)
    assert model.log_evidence() - model.objective(found) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(3)}, r"features \(12, 4\) and targets \(3,\)"),
        ({"features": torch.full((12, 4), math.nan)}, "NaN"),
        ({"noise": 0.0}, "noise 0.0"),
        ({"prior_scale": -1.0}, "prior_scale -1.0"),
        ({"prior_scale": torch.ones(3)}, r"a number or \[4\]"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    model = problem()
    given = {"features": model.features, "y": model.y, "noise": NOISE, "prior_scale": 1.0}
    with pytest.raises(ValueError, match=message):
        LinearRegression(**(given | change))
    with pytest.raises(ValueError, match=r"\[points, 4\]"):
        model.predict(torch.zeros(2, 3))
