"""Multivariate-t filters: fitted on draws of the prior itself, and recommended where they are right and nowhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.cli.weights import as_settings
from bnnpriors.priors.empirical.families import FAMILIES
from bnnpriors.priors.empirical.layer import compare
from bnnpriors.priors.empirical.multivariate_t import (
    STUDENT_KERNELS,
    StudentKernelFit,
    fit_student_kernel,
    student_filter_log_density,
)
from bnnpriors.priors.empirical.recommend import ALARM, Candidate, choose
from bnnpriors.priors.empirical.spatial import KERNELS, LENGTHSCALES, correlation_matrix, whiten
from bnnpriors.priors.empirical.student import fit_student, student_constant, student_profile

SIZE = (3, 3)


def draws(
    prior: bp.priors.Prior, count: int = 1500, size: tuple[int, ...] = SIZE, seed: int = 0
) -> np.ndarray:
    """[count, taps] filters of the prior."""
    generator = torch.Generator().manual_seed(seed)
    return prior.sample((count, 1, *size), generator=generator, dtype=torch.float64).flatten(1).numpy()


def log_likelihood(
    kernel: str, fitted: StudentKernelFit, x: np.ndarray, size: tuple[int, ...] = SIZE
) -> float:
    return float(student_filter_log_density(kernel, fitted, x, size).sum())


def candidates(x: np.ndarray, *, location: bool = False) -> dict[str, Candidate]:
    fold = np.random.default_rng(0).permutation(np.arange(len(x)) % 3)
    return compare(x, fold, SIZE, location=location)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("df", [0.7, 3.0, 200.0])
def test_the_density_is_that_of_the_prior_and_of_scipy(kernel: str, df: float) -> None:
    """The prior adds 1e-8 to the diagonal of R, whence the tolerance."""
    fitted = StudentKernelFit(0.3, 0.8, df)
    x = draws(bp.priors.CorrelatedNormal(0.4, "matern12", 1.0), 50)
    found = student_filter_log_density(kernel, fitted, x, SIZE)
    prior = bp.priors.CorrelatedStudentT(df, 0.3, kernel, 0.8)
    expected = prior.log_prob(torch.from_numpy(x).reshape(50, 1, *SIZE)).flatten()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    law = scipy.stats.multivariate_t(np.zeros(9), 0.09 * correlation_matrix(kernel, 0.8, SIZE), df)
    np.testing.assert_allclose(found, law.logpdf(x), rtol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("df", [0.8, 2.5, 6.0])
def test_the_parameters_of_the_prior_are_recovered(kernel: str, df: float) -> None:
    """Twice the log likelihood gained over the truth is χ²₃ (Wilks 1938): above its 1 − 1e-7 quantile, a false alarm. Were any
    parameter 15 % off (ν: 40 %), it would be."""
    truth = StudentKernelFit(0.2, 0.9, df)
    x = draws(bp.priors.CorrelatedStudentT(df, 0.2, kernel, 0.9), 3000)
    fitted = fit_student_kernel(kernel, x, SIZE)
    top, limit = log_likelihood(kernel, fitted, x), scipy.stats.chi2(3).ppf(1 - 1e-7)
    assert -1e-3 < 2 * (top - log_likelihood(kernel, truth, x)) < limit
    for name, off in (("scale", 0.15), ("lengthscale", 0.15), ("df", 0.4)):
        for factor in (1 - off, 1 + off):
            wrong = truth._replace(**{name: factor * getattr(truth, name)})
            assert 2 * (top - log_likelihood(kernel, wrong, x)) > limit


@pytest.mark.parametrize("size", [(3,), (2, 5), (2, 2, 2)])
def test_kernels_of_any_shape_are_fitted(size: tuple[int, ...]) -> None:
    """The same test at 1e-7, on one, two and three axes."""
    x = draws(bp.priors.CorrelatedStudentT(3.0, 0.2, "matern12", 1.0), 1500, size)
    fitted = fit_student_kernel("matern12", x, size)
    truth = StudentKernelFit(0.2, 1.0, 3.0)
    gained = log_likelihood("matern12", fitted, x, size) - log_likelihood("matern12", truth, x, size)
    assert -1e-3 < 2 * gained < scipy.stats.chi2(3).ppf(1 - 1e-7)


@pytest.mark.parametrize(
    ("prior", "kernel"),
    [
        (bp.priors.CorrelatedStudentT(0.5, 0.2, "matern12", 1.5), "matern12"),
        (bp.priors.CorrelatedStudentT(4.0, 0.2, "matern12", 1.0), "rbf"),
        (bp.priors.StudentT(2.0, 0.0, 0.3), "matern32"),
        (bp.priors.CorrelatedNormal(0.2, "matern52", 1.0), "matern52"),
    ],
    ids=["heavy", "another kernel", "independent weights", "Gaussian"],
)
def test_a_fit_maximises_the_likelihood(prior: bp.priors.Prior, kernel: str) -> None:
    """No simplex search from there, and none of 40 lengthscales with the best scale and ν for each, gains 1e-3 nats."""
    x = draws(prior, 400)
    fitted = fit_student_kernel(kernel, x, SIZE)
    best = log_likelihood(kernel, fitted, x)

    def loss(log_values: np.ndarray) -> float:
        scale, lengthscale, df = np.exp(log_values)
        if not LENGTHSCALES[0] <= lengthscale <= LENGTHSCALES[1] or df > 1000:
            return math.inf
        return -log_likelihood(kernel, StudentKernelFit(scale, lengthscale, df), x)

    found = scipy.optimize.minimize(loss, np.log(fitted), method="Nelder-Mead")
    assert -found.fun - best < 1e-3
    for lengthscale in np.geomspace(0.05, 5, 40):
        white, half_log_det = whiten(kernel, float(lengthscale), x, SIZE)
        assert fit_student((white**2).sum(0), 9)[2] - len(x) * half_log_det - best < 1e-3


@pytest.mark.parametrize("unit", [1e-8, 1e6])
def test_the_unit_of_the_weights_does_not_matter(unit: float) -> None:
    x = draws(bp.priors.CorrelatedStudentT(3.0, 0.2, "matern12", 1.0), 300)
    fitted = fit_student_kernel("matern12", x, SIZE)
    expected = fitted._replace(scale=unit * fitted.scale)
    assert fit_student_kernel("matern12", unit * x, SIZE) == pytest.approx(expected, rel=1e-4)


def test_pruned_filters_are_survived() -> None:
    x = np.concatenate([np.zeros((900, 9)), draws(bp.priors.CorrelatedNormal(0.2, "rbf", 1.0), 100)])
    for kernel in KERNELS:
        assert all(math.isfinite(value) for value in fit_student_kernel(kernel, x, SIZE))


@pytest.mark.parametrize("taps", [1, 2, 9, 25])
def test_the_constant_of_the_t_reaches_the_gaussian_one(taps: int) -> None:
    """−½ P log 2π + P(P−2)/(4ν) + O(ν⁻²), by either branch; and the profile at q → 0 is the Gaussian one."""
    gaussian = -0.5 * taps * math.log(2 * math.pi)
    for df in (9_999.0, 10_001.0):
        expected = gaussian + 0.25 * taps * (taps - 2) / df
        assert student_constant(df, taps) == pytest.approx(expected, abs=taps**3 / df**2)
    squares = np.random.default_rng(0).chisquare(taps, 500)
    limit = student_profile(squares, 0.0, taps)
    assert student_profile(squares, 1e-7, taps) == pytest.approx(limit, abs=1e-2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_is_chosen_on_its_own_draws(kernel: str) -> None:
    """1,500 filters suffice for the family and its kernel; ℓ = 1.5 tells smooth kernels apart."""
    x = draws(bp.priors.CorrelatedStudentT(4.0, 0.2, kernel, 1.5), 1500)
    assert choose(list(candidates(x).values())).name == f"{kernel}_t"


@pytest.mark.parametrize(
    ("prior", "name"),
    [
        (bp.priors.CorrelatedNormal(0.2, "matern12", 1.0), "matern12"),
        (bp.priors.CorrelatedNormal(0.2, "rbf", 1.0), "rbf"),
        (bp.priors.StudentT(3.0, 0.0, 0.2), "StudentT"),
        (bp.priors.Normal(0.0, 0.2), "Normal"),
    ],
    ids=["matern12", "rbf", "StudentT", "Normal"],
)
def test_it_is_not_chosen_where_tails_or_correlations_are_missing(prior: bp.priors.Prior, name: str) -> None:
    """The true family is dismissed with a probability below 1e-6; that it wins over its like takes the 1,500 filters."""
    found = candidates(draws(prior, 1500))
    assert choose(list(found.values())).name == name
    assert not any(found[heavy].beats(found[name]) for heavy in STUDENT_KERNELS)


def test_filters_that_differ_in_size_alone_are_told_from_independent_weights() -> None:
    """A spherical t: no correlation to find, but one size a filter."""
    x = draws(bp.priors.CorrelatedStudentT(3.0, 0.2, "matern12", 0.02))
    best = choose(list(candidates(x).values()))
    assert best.name in STUDENT_KERNELS
    assert best.parameters["df"] == pytest.approx(3.0, rel=0.35)
    assert correlation_matrix(STUDENT_KERNELS[best.name], best.parameters["lengthscale"], SIZE)[0, 1] < 0.06


def test_evidence_against_correlated_gaussians_is_rare() -> None:
    """E e ≤ 1 under the null: one of 3 × 4 exceeds the limit with a probability below 1e-6; the mean of log e is negative."""
    logs = []
    for seed in range(3):
        x = draws(bp.priors.CorrelatedNormal(0.2, "matern32", 0.8), 100, seed=seed)
        found = candidates(x)
        logs += [found[heavy].log_evidence_against(found["matern32"]) for heavy in STUDENT_KERNELS]
    assert max(logs) < -math.log(ALARM)
    assert np.mean(logs) < 0


def test_all_comparisons_together_keep_the_alarm_of_a_layer() -> None:
    found = candidates(draws(bp.priors.Normal(), 60))
    assert set(found) == {*FAMILIES, *KERNELS, *STUDENT_KERNELS}
    assert (len(found) - 1) * ALARM <= 1e-6 * (1 + 1e-12)
    assert {name for name, each in found.items() if each.num_parameters == 3} == set(STUDENT_KERNELS)
    assert {name for name, each in found.items() if each.num_parameters == 1} == {
        "Normal",
        "Laplace",
        "Logistic",
        "Cauchy",
    }


def test_a_location_is_taken_off_before_the_fit() -> None:
    """The families of filters take the median off, as those of weights do."""
    x = 1.0 + draws(bp.priors.CorrelatedStudentT(3.0, 0.2, "matern12", 1.0))
    moved, still = candidates(x, location=True), candidates(x - np.median(x))
    assert moved["matern12_t"].parameters == pytest.approx(still["matern12_t"].parameters, rel=1e-3)
    assert moved["matern12_t"].log_likelihood == pytest.approx(still["matern12_t"].log_likelihood, abs=2e-3)


def test_fit_returns_the_prior_with_its_evidence_and_settings() -> None:
    net = nn.Sequential(nn.Conv2d(32, 64, 3))
    w = draws(bp.priors.CorrelatedStudentT(3.0, 0.05, "matern12", 1.0), 2048).reshape(64, 32, *SIZE)
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(w))
    fitted = bp.priors.fit(net, include="*.weight", scale="fan_in")
    prior = fitted.priors["0.weight"]
    assert isinstance(prior, bp.priors.CorrelatedStudentT)
    assert (prior.kernel, prior.matched) == ("matern12", None)
    assert prior.lengthscale == pytest.approx(1.0, abs=0.15)
    assert prior.df == pytest.approx(3.0, rel=0.2)
    assert prior.scale(w.shape) == pytest.approx(0.05, rel=0.1)
    model = bp.attach(net, {**fitted.priors, "*": bp.priors.Normal()})
    assert math.isfinite(float(model.log_prior().detach()))
    layer, row = fitted.layers["0.weight"], fitted.rows[0]
    best, normal = layer.candidates["matern12_t"], layer.candidates["matern12"]
    assert row["recommended"] == "matern12_t"
    assert row["matern12_t_df"] == best.parameters["df"]
    assert row["nats_matern12_t"] == best.log_likelihood > normal.log_likelihood
    assert f"over {layer.candidates['StudentT'].title}, the best with fewer parameters" in layer.evidence
    assert best.title == "CorrelatedStudentT(matern12, lengthscale {lengthscale:.3g}, df {df:.3g})".format(
        **best.parameters
    )
    assert "Convolution filters, multivariate t" in fitted.table()
    settings = as_settings(prior)
    assert settings["class_path"] == "bnnpriors.priors.CorrelatedStudentT"
    assert settings["init_args"].keys() == {"df", "scale"} | (
        {"lengthscale"} if prior.lengthscale != 1.0 else set()
    )
