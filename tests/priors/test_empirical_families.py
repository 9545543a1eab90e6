"""Fits of single-weight families on weights of known law: parameters, intervals, densities, and the family that is chosen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from jaxtyping import Float64

from bnnpriors.priors.empirical.families import (
    FAMILIES,
    degrees_of_freedom,
    fit_family,
    frozen,
    hill_index,
    log_density,
)
from bnnpriors.priors.empirical.layer import compare
from bnnpriors.priors.empirical.recommend import ALARM, choose
from bnnpriors.priors.empirical.student import MAX_DF

TRUE: dict[str, Any] = {
    "Normal": scipy.stats.norm(scale=0.3),
    "Laplace": scipy.stats.laplace(scale=0.3),
    "Logistic": scipy.stats.logistic(scale=0.3),
    "Cauchy": scipy.stats.cauchy(scale=0.3),
    "StudentT": scipy.stats.t(3.0, scale=0.3),
    "GeneralizedNormal": scipy.stats.gennorm(0.6, scale=0.3),
}


def weights(name: str, count: int = 4000, seed: int = 0) -> Float64[np.ndarray, " count"]:
    return TRUE[name].rvs(count, random_state=np.random.default_rng(seed))


def candidates(w: np.ndarray, seed: int = 0, location: bool = False) -> dict[str, Any]:
    fold = np.random.default_rng(seed).permutation(np.arange(len(w)) % 5)
    return compare(w[:, None], fold, (), location=location)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_density_is_scipys(name: str) -> None:
    shape = FAMILIES[name].shape
    parameters = {"loc": 0.2, "scale": 0.7} | ({} if shape is None else {shape: 2.5})
    w = np.linspace(-30, 30, 301)
    np.testing.assert_allclose(
        log_density(name, w, parameters), frozen(name, parameters).logpdf(w), rtol=1e-10
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fit_maximises_the_likelihood(name: str) -> None:
    """No direction out of the fit raises the likelihood, which a simplex search from there confirms."""
    w = weights(name)
    fitted = fit_family(name, w)
    free = [key for key in fitted if key != "loc"]

    def loss(log_values: np.ndarray) -> float:
        return -float(log_density(name, w, fitted | dict(zip(free, np.exp(log_values), strict=True))).sum())

    start = np.log([fitted[key] for key in free])
    found = scipy.optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    assert loss(start) - found.fun < 1e-3
    np.testing.assert_allclose(np.exp(found.x), np.exp(start), rtol=2e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_location_is_found(name: str) -> None:
    """The standard error of the mean or median of 4000 weights is at most 0.009: five of them, alarm 6e-7."""
    assert abs(fit_family(name, weights(name) + 1.5, location=True)["loc"] - 1.5) < 0.045


@pytest.mark.parametrize("df", [1.5, 3.0, 8.0])
def test_the_interval_of_the_degrees_of_freedom_covers_them(df: float) -> None:
    """At level 1 − 1e-6, on fresh weights: the false-alarm rate is 1e-6 for each."""
    w = scipy.stats.t(df, scale=0.1).rvs(20_000, random_state=np.random.default_rng(1))
    found = degrees_of_freedom(w, level=1 - 1e-6)
    assert found.low < df < found.high < 1.6 * df
    assert found.low > 0.6 * df


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 100 intervals of 80 %, a number between the two ends below covers 3.0 with probability 1 − 1e-6 (binomial)."""
    generator = np.random.default_rng(2)
    cover = 0
    for _ in range(100):
        found = degrees_of_freedom(scipy.stats.t(3.0).rvs(400, random_state=generator), level=0.8)
        cover += found.low < 3.0 < found.high
    low, high = scipy.stats.binom(100, 0.8).ppf([5e-7, 1 - 5e-7])
    assert low <= cover <= high


@pytest.mark.parametrize("law", [scipy.stats.norm(), scipy.stats.uniform(-1, 2)])
def test_weights_without_tails_have_an_unbounded_interval(law: Any) -> None:
    found = degrees_of_freedom(law.rvs(20_000, random_state=np.random.default_rng(0)), level=1 - 1e-6)
    assert found.high == math.inf
    assert found.low > 30


def test_weights_far_from_heavy_tails_exclude_every_degree_of_freedom() -> None:
    w = np.random.default_rng(0).uniform(-1, 1, 200_000)
    assert degrees_of_freedom(w) == (math.inf, MAX_DF, math.inf)


@pytest.mark.parametrize("unit", [1e-8, 1e6])
def test_the_unit_of_the_weights_does_not_matter(unit: float) -> None:
    w = weights("StudentT")
    for name in FAMILIES:
        fitted, scaled = fit_family(name, w), fit_family(name, unit * w)
        assert scaled.pop("scale") == pytest.approx(unit * fitted.pop("scale"), rel=1e-6)
        assert scaled == pytest.approx(fitted, rel=1e-6)
    assert degrees_of_freedom(unit * w) == pytest.approx(degrees_of_freedom(w), rel=1e-6)


def test_hill_index_of_a_power_law() -> None:
    """Pareto tails with index 2.5: the interval of level 1 − 1e-6 covers it and is informative; a Gaussian's index is larger."""
    generator = np.random.default_rng(3)
    signs = generator.choice([-1.0, 1.0], 40_000)
    found = hill_index(signs * (1 + generator.pareto(2.5, 40_000)), level=1 - 1e-6)
    assert found is not None
    assert found.low < 2.5 < found.high < 5
    gaussian = hill_index(generator.normal(size=40_000), level=1 - 1e-6)
    assert gaussian is not None
    assert gaussian.low > 4
    assert hill_index(generator.normal(size=399)) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_the_true_family_is_chosen(name: str) -> None:
    """40,000 weights suffice for each; Normal weights are called otherwise with probability below 1e-6."""
    assert choose(list(candidates(weights(name, 40_000)).values())).name == name


def test_tails_beyond_all_moments_dismiss_the_normal_family_with_few_weights() -> None:
    found = candidates(weights("Cauchy", 300))
    assert found["Cauchy"].beats(found["Normal"])
    assert not found["Normal"].beats(found["Cauchy"])


def test_evidence_against_a_true_family_is_rare() -> None:
    """E e ≤ 1 under the null, so the largest of 10 exceeds log 10⁷ with probability below 1e-6; the mean of log e is negative,
    for the ratio pays for its fit (Jensen)."""
    logs = []
    for seed in range(10):
        found = candidates(weights("Normal", 200, seed), seed)
        logs.append(found["StudentT"].log_evidence_against(found["Normal"]))
    assert max(logs) < -math.log(ALARM)
    assert np.mean(logs) < 0


def test_evidence_is_the_cross_fit_likelihood_ratio() -> None:
    """log e by hand: fit elsewhere, over the null's own best on the fold, averaged over folds."""
    w = weights("Laplace", 500)
    fold = np.random.default_rng(0).permutation(np.arange(500) % 5)
    ratios = []
    for part in range(5):
        test, train = w[fold == part], w[fold != part]
        alternative = scipy.stats.laplace(0, np.abs(train).mean()).logpdf(test).sum()
        null = scipy.stats.norm(0, np.sqrt((test**2).mean())).logpdf(test).sum()
        ratios.append(math.exp(alternative - null))
    found = candidates(w)
    assert found["Laplace"].log_evidence_against(found["Normal"]) == pytest.approx(math.log(np.mean(ratios)))
    held_out = np.concatenate(
        [scipy.stats.laplace(0, np.abs(w[fold != k]).mean()).logpdf(w[fold == k]) for k in range(5)]
    )
    assert found["Laplace"].log_likelihood == pytest.approx(held_out.mean())


def test_many_exact_zeros_are_survived() -> None:
    w = np.concatenate([np.zeros(900), weights("Normal", 100)])
    for name in FAMILIES:
        assert all(math.isfinite(value) for value in fit_family(name, w).values())
    assert degrees_of_freedom(w).value < MAX_DF
