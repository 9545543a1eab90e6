"""The integrals along orbits and rays against closed forms."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import distributions as D

from bnnpriors import priors as P
from bnnpriors.checks.laws import _is_product, _positions, _product_integral, _ray_integral, _shape_matrix
from bnnpriors.checks.orbits import Orbit, orbits
from bnnpriors.checks.subject import Subject, own_log_density

COVARIANCE = torch.tensor([[1.0, 0.8, 0.1], [0.8, 2.0, -0.3], [0.1, -0.3, 0.5]], dtype=torch.float64)
EVERYTHING = slice(None)


def _normal(covariance: torch.Tensor) -> tuple[Subject, torch.Tensor]:
    dim = len(covariance)
    prior = P.as_prior(D.MultivariateNormal(torch.zeros(dim, dtype=torch.float64), covariance))
    subject = Subject(prior, (dim,), 0)
    return subject, subject.draws["weight"]


def test_positions_on_a_line_are_those_of_the_conditional_normal() -> None:
    """Along v: u = Φ(vᵀΛx / √(vᵀΛv))."""
    subject, x = _normal(COVARIANCE)
    precision = torch.linalg.inv(COVARIANCE)
    for orbit in orbits(x, torch.Generator().manual_seed(0)):
        if orbit.is_radial:
            continue
        v = orbit.vector
        expected = torch.special.ndtr((x @ precision @ v) / (v @ precision @ v).sqrt())
        found = _positions(subject.site, subject.draws, x, orbit)
        torch.testing.assert_close(found, expected[: len(found)], atol=1e-3, rtol=0)


def test_positions_on_a_ray_are_those_of_the_chi_distribution() -> None:
    """About the mean: u = F_{χ²_d}(xᵀΛx)."""
    subject, x = _normal(COVARIANCE)
    squares = ((x @ torch.linalg.inv(COVARIANCE)) * x).sum(1)
    found = _positions(subject.site, subject.draws, x, Orbit("", torch.zeros(3).double(), is_radial=True))
    expected = torch.from_numpy(scipy.stats.chi2(3).cdf(squares.numpy()))
    torch.testing.assert_close(found, expected[: len(found)], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "prior",
    [P.Laplace(1.0, 2.0), P.StudentT(0.7, 3.0, 0.01), P.Gamma(0.4, 3.0), P.Normal(torch.tensor([0.0, 1e3]), 1e-3)],
    ids=["kink", "heavy tail", "singular", "far apart"],
)  # fmt: skip
def test_products_integrate_to_one(prior: P.Prior) -> None:
    subject = Subject(prior, (3, 2), 0)
    own = subject.draws["weight"].flatten(1)

    def density(u: torch.Tensor, _: slice) -> torch.Tensor:
        return own_log_density(subject.site, {}, u)

    assert _is_product(density, own)
    assert _product_integral(density, own) == pytest.approx(1.0, abs=2e-4)


def test_a_correlated_density_is_no_product_and_integrates_to_one_over_rays() -> None:
    subject, x = _normal(COVARIANCE)

    def density(u: torch.Tensor, _: slice) -> torch.Tensor:
        return own_log_density(subject.site, {}, u) + math.log(2.0)

    assert not _is_product(density, x)
    integral, error = _ray_integral(density, x, torch.Generator().manual_seed(0))
    assert error < 0.005
    assert abs(integral - 2.0) < 5.2 * error + 1e-3  # false alarm below 1e-6


def test_the_shape_of_a_cloud_without_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.linalg.cholesky(COVARIANCE)
    z = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    x = z @ factor.T / torch.randn(20_000, 1, generator=generator, dtype=torch.float64)  # a Cauchy
    expected = COVARIANCE / COVARIANCE.diagonal().mean()
    torch.testing.assert_close(_shape_matrix(x), expected, atol=0.06, rtol=0)
