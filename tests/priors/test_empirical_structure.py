"""Correlations of taps, rows and columns: recovered where they are, and not reported where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from bnnpriors.priors.empirical.matrix import describe_matrix, mean_square_correlation
from bnnpriors.priors.empirical.spatial import (
    ALARM,
    KERNELS,
    KernelFit,
    correlation_matrix,
    describe_taps,
    filter_log_density,
    fit_kernel,
    neighbour_test,
)

SIZE = (3, 3)


def filters(
    kernel: str, lengthscale: float, count: int = 3000, scale: float = 0.2, seed: int = 0
) -> np.ndarray:
    factor = np.linalg.cholesky(correlation_matrix(kernel, lengthscale, SIZE))
    return scale * np.random.default_rng(seed).normal(size=(count, 9)) @ factor.T


def test_matern12_has_the_published_figures() -> None:
    """On a 3 × 3 kernel with s = ℓ = 1: log det −1.634373, smallest eigenvalue 0.444260, sum of entries 25.289468."""
    matrix = correlation_matrix("matern12", 1.0, SIZE)
    assert np.linalg.slogdet(matrix)[1] == pytest.approx(-1.634373, abs=1e-6)
    assert np.linalg.eigvalsh(matrix)[0] == pytest.approx(0.444260, abs=1e-6)
    assert matrix.sum() == pytest.approx(25.289468, abs=1e-6)


def test_kernels_at_one_distance() -> None:
    """Adjacent taps at ℓ = 2: r = 1/2."""
    r = 0.5
    expected = {
        "matern12": math.exp(-r),
        "matern32": (1 + math.sqrt(3) * r) * math.exp(-math.sqrt(3) * r),
        "matern52": (1 + math.sqrt(5) * r + 5 * r**2 / 3) * math.exp(-math.sqrt(5) * r),
        "rbf": math.exp(-(r**2) / 2),
    }
    for name in KERNELS:
        assert correlation_matrix(name, 2.0, SIZE)[0, 1] == pytest.approx(expected[name])


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_density_of_a_filter_is_scipys(kernel: str) -> None:
    fitted = fit_kernel(kernel, filters(kernel, 1.0), SIZE)
    covariance = fitted.scale**2 * correlation_matrix(kernel, fitted.lengthscale.value, SIZE)
    x = filters("matern12", 1.0, 5, seed=1)
    expected = scipy.stats.multivariate_normal(np.zeros(9), covariance).logpdf(x)
    np.testing.assert_allclose(filter_log_density(kernel, fitted, x, SIZE), expected, rtol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lengthscale", [0.6, 1.0, 2.0])
def test_lengthscale_and_scale_are_recovered(kernel: str, lengthscale: float) -> None:
    """The interval of level 1 − 1e-6 covers ℓ, and is narrow; ŝ within 4 %, five standard errors of the largest ℓ."""
    found = fit_kernel(kernel, filters(kernel, lengthscale), SIZE, level=1 - 1e-6)
    assert found.lengthscale.low < lengthscale < found.lengthscale.high
    assert found.lengthscale.high - found.lengthscale.low < 0.6 * lengthscale
    assert found.scale == pytest.approx(0.2, rel=0.06)


def test_a_fit_maximises_the_marginal_likelihood() -> None:
    x = filters("matern32", 1.2, 400)
    found = fit_kernel("matern32", x, SIZE)
    best = filter_log_density("matern32", found, x, SIZE).sum()
    for up in (0.99, 1.01):
        longer = found.lengthscale._replace(value=up * found.lengthscale.value)
        assert filter_log_density("matern32", KernelFit(found.scale, longer), x, SIZE).sum() < best
        assert (
            filter_log_density("matern32", KernelFit(up * found.scale, found.lengthscale), x, SIZE).sum()
            < best
        )


@pytest.mark.parametrize("law", [scipy.stats.norm(), scipy.stats.t(1.2)])
def test_independent_taps_are_not_called_correlated(law: scipy.stats.rv_continuous) -> None:
    """False-alarm rate 1e-6, with sizes that differ from filter to filter by powers of ten and tails without a variance."""
    generator = np.random.default_rng(4)
    x = law.rvs((5000, 9), random_state=generator) * 10 ** generator.uniform(-2, 2, (5000, 1))
    found = describe_taps(x, SIZE, level=1 - 1e-6)
    assert not found.correlated
    assert found.false_alarm > ALARM


def test_the_lengthscale_of_independent_taps_includes_zero() -> None:
    x = np.random.default_rng(5).normal(size=(5000, 9))
    for kernel in KERNELS:
        found = fit_kernel(kernel, x, SIZE, level=1 - 1e-6)
        assert found.lengthscale.low == 0
        assert found.lengthscale.high < 0.5


@pytest.mark.parametrize("size", [(3,), (2, 2), (3, 5), (2, 2, 2)])
def test_correlated_taps_of_any_kernel_shape_are_found(size: tuple[int, ...]) -> None:
    factor = np.linalg.cholesky(correlation_matrix("matern12", 1.0, size))
    x = np.random.default_rng(6).normal(size=(2000, len(factor))) @ factor.T
    found = describe_taps(x, size, level=0.95)
    assert found.correlated
    assert found.neighbours == pytest.approx(math.exp(-1), abs=0.1)
    assert found.correlation.shape == (len(factor), len(factor))


def test_neighbour_statistic_by_hand() -> None:
    """Three taps in a row: the white ones are the ends, the black one the middle, so z sums x₁x₂ and x₃x₂."""
    x = np.random.default_rng(7).normal(size=(50, 3))
    c = x - x.mean(0)
    terms = np.stack([c[:, 0] * c[:, 1], c[:, 2] * c[:, 1]])
    z, r = neighbour_test(x, (3,))
    assert z == pytest.approx(terms.sum() / math.sqrt((terms**2).sum()))
    size = np.sqrt((c**2).sum(0))
    assert r == pytest.approx(terms.sum() / (size[0] * size[1] + size[1] * size[2]))


def test_mean_square_correlation_is_that_of_numpy() -> None:
    for shape in ((6, 40), (40, 6)):
        w = np.random.default_rng(8).normal(size=shape)
        matrix = np.corrcoef(w)
        off = matrix[~np.eye(len(matrix), dtype=bool)]
        assert mean_square_correlation(w) == pytest.approx((off**2).mean())


def test_rows_that_share_a_direction_are_found_and_columns_are_not_blamed() -> None:
    """Every row holds the same vector with weight one half: rows correlate by 1/5 and columns, centred, do not."""
    generator = np.random.default_rng(9)
    w = generator.normal(size=(60, 200)) + 0.5 * generator.normal(size=(1, 200))
    found = describe_matrix([w], generator)
    assert found is not None
    rows, columns = found
    assert rows.correlated
    assert rows.rms > 1.5 * rows.shuffled
    assert not columns.correlated
    assert rows.matrix.shape == (60, 60)


@pytest.mark.parametrize("shape", [(100, 784), (784, 100), (10, 100)])
def test_independent_weights_show_no_correlation_though_columns_differ_in_size(
    shape: tuple[int, int],
) -> None:
    """False-alarm rate 1e-6. The sizes of the columns differ by powers of ten, which whole-matrix shuffles alone would call
    correlation of rows."""
    generator = np.random.default_rng(10)
    sizes = 10 ** generator.uniform(-1, 1, (1, shape[1]))
    networks = [generator.standard_t(3, size=shape) * sizes for _ in range(2)]
    found = describe_matrix(networks, generator)
    assert found is not None
    assert not any(side.correlated for side in found)
    assert describe_matrix([networks[0][:5]], generator) is None
