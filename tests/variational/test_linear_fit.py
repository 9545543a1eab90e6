"""Fits of linear models in function space, against the posterior that they approximate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnnpriors.variational import (
    DiagonalGaussian,
    Family,
    FullGaussian,
    Implicit,
    LinearRegression,
    fit,
    kl_divergence,
    moments,
    wasserstein_squared,
)

P = 3


@pytest.fixture(scope="module")
def model() -> LinearRegression:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, P, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, generator=generator, dtype=torch.float64)
    return LinearRegression(features, features.sum(1) + noise, 1.0, 1.0)


def training(model: LinearRegression):
    def points(generator: torch.Generator) -> Tensor:
        return model.features

    return points


def test_a_full_law_with_all_training_points_recovers_the_posterior(model: LinearRegression) -> None:
    family = FullGaussian(P)
    history = fit(model, family, training(model), num_steps=600, learning_rate=0.05)
    found, exact = moments(family), model.posterior()
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.covariance, exact.covariance, rtol=1e-3, atol=1e-6)
    assert history[-1] == pytest.approx(float(model.log_evidence()), abs=1e-4)
    assert history[0] < history[-1] - 1


def test_a_diagonal_law_has_the_posteriors_own_precisions(model: LinearRegression) -> None:
    family = DiagonalGaussian(P)
    fit(model, family, training(model), num_steps=600, learning_rate=0.05)
    found, exact = moments(family), model.posterior()
    assert bool((found.covariance == found.covariance.diagonal().diag()).all())
    expected = 1 / torch.linalg.inv(exact.covariance).diagonal()
    torch.testing.assert_close(found.covariance.diagonal(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "make", [FullGaussian, lambda dim: Implicit(dim, generator=torch.Generator().manual_seed(1))]
)
def test_the_spectral_estimator_comes_near(model: LinearRegression, make) -> None:
    """In three dimensions: the mean to half a standard deviation, each standard deviation to a factor of two."""
    family: Family = make(P)
    fit(model, family, training(model), estimator="ssge", num_steps=500, learning_rate=0.03)
    found, exact = moments(family), model.posterior()
    deviations = exact.covariance.diagonal().sqrt()
    assert float(((found.mean - exact.mean) / deviations).abs().max()) < 0.5
    ratio = found.covariance.diagonal().sqrt() / deviations
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) < 1.7
    assert float(kl_divergence(found, exact)) < 0.5
    assert float(wasserstein_squared(found, exact)) < 0.2


def test_one_measurement_point_is_not_enough(model: LinearRegression) -> None:
    """A minibatch of one: the law collapses in the directions that it does not see, and the objective is above log Z."""
    family = FullGaussian(P)
    history = fit(model, family, lambda generator: model.features[:1], num_steps=300, learning_rate=0.05)
    assert history[-1] > float(model.log_evidence()) + 1
    assert float(kl_divergence(moments(family), model.posterior())) > 0.3


def test_a_jitter_changes_the_divergence_of_both_estimators(model: LinearRegression) -> None:
    """Noise of standard deviation 3 hides most of the divergence, so q is nearly the maximum of the likelihood alone."""
    family = FullGaussian(P)
    fit(model, family, training(model), jitter=3.0, num_steps=400, learning_rate=0.05)
    spectral = FullGaussian(P)
    fit(model, spectral, training(model), estimator="ssge", jitter=3.0, num_steps=300, learning_rate=0.05)
    for law in (moments(family), moments(spectral)):
        assert float(law.covariance.trace()) < 0.5 * float(model.posterior().covariance.trace())


def test_what_does_not_fit_is_refused(model: LinearRegression) -> None:
    with pytest.raises(ValueError, match="only draws are known"):
        fit(model, Implicit(P), training(model))
    with pytest.raises(ValueError, match="estimator 'stein'"):
        fit(model, FullGaussian(P), training(model), estimator="stein")
    with pytest.raises(ValueError, match="num_steps 0"):
        fit(model, FullGaussian(P), training(model), num_steps=0)
