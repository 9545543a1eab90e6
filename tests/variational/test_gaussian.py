"""Divergences of normal laws, singular ones among them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bnnpriors.variational import Gaussian, IllDefinedError, functional_kl, kl_divergence, wasserstein_squared


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def law(dim: int, seed: int) -> Gaussian:
    factor = draw(dim, dim, seed=seed)
    return Gaussian(draw(dim, seed=seed + 1), factor @ factor.mT + 0.1 * torch.eye(dim, dtype=torch.float64))


def test_the_divergence_is_that_of_torch() -> None:
    q, p = law(4, 0), law(4, 2)
    theirs = torch.distributions.kl_divergence(
        *(torch.distributions.MultivariateNormal(*each) for each in (q, p))
    )
    assert kl_divergence(q, p).item() == pytest.approx(theirs.item(), rel=1e-12)
    assert abs(kl_divergence(p, p).item()) < 1e-12


def test_as_many_independent_points_as_weights_give_the_divergence_of_the_weights_and_fewer_give_less() -> (
    None
):
    q, p = law(3, 0), law(3, 2)
    whole = kl_divergence(q, p).item()
    for points in (3, 5, 8):
        features = draw(points, 3, seed=9)
        assert functional_kl(q.image(features), p.image(features)).item() == pytest.approx(whole, rel=1e-6)
    parts = [
        functional_kl(q.image(f), p.image(f)).item() for f in (draw(8, 3, seed=9)[:n] for n in (1, 2, 3))
    ]
    assert 0 < parts[0] < parts[1] < parts[2] == pytest.approx(whole, rel=1e-9)


def test_a_model_of_three_weights_against_a_process_of_full_rank_is_ill_defined() -> None:
    """KL grows by (n − p) ln 10 = 11.51 for every decade of jitter, at n = 8 points and p = 3 weights."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    process = Gaussian(torch.zeros(8, dtype=torch.float64), torch.exp(-((x[:, None] - x) ** 2) / 0.1))
    values = law(3, 0).image(torch.stack([x**0, x, x * x], 1))
    with pytest.raises(IllDefinedError, match=r"q has rank 3 in the 8 dimensions.*jitter"):
        functional_kl(values, process)
    kl = [functional_kl(values, process, jitter=10.0**-k).item() for k in (3, 4, 5)]
    for before, after in pairwise(kl):
        assert after - before == pytest.approx(5 * math.log(10), abs=1e-3)
        assert after - before == pytest.approx(11.51, abs=5e-3)


def test_mass_where_the_prior_has_none() -> None:
    features = draw(6, 2, seed=0)
    with pytest.raises(IllDefinedError, match="q has mass outside its range"):
        functional_kl(law(6, 1), law(2, 3).image(features))
    with pytest.raises(ValueError, match="jitter -1"):
        functional_kl(law(2, 1), law(2, 3), jitter=-1.0)


def test_the_divergence_has_the_gradient_of_finite_differences() -> None:
    q, p, features = law(3, 0), law(3, 2), draw(5, 3, seed=4)
    factor = torch.linalg.cholesky(q.covariance)

    def divergence(mean: Tensor, factor: Tensor) -> Tensor:
        return functional_kl(Gaussian(mean, factor @ factor.mT).image(features), p.image(features))

    assert torch.autograd.gradcheck(divergence, (q.mean.requires_grad_(), factor.requires_grad_()))


def test_wasserstein_distance() -> None:
    """Of commuting covariances Σ (√a − √b)² + |δ|²; and of laws on a line in the plane, that on the line."""
    a, b = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([4.0, 4.0, 1.0]).double()
    shift = draw(3, seed=0)
    q, p = Gaussian(shift, a.diag()), Gaussian(torch.zeros(3, dtype=torch.float64), b.diag())
    expected = shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert wasserstein_squared(q, p).item() == pytest.approx(expected.item(), rel=1e-12)
    assert wasserstein_squared(p, q).item() == pytest.approx(expected.item(), rel=1e-12)
    line = torch.tensor([[0.6], [0.8]], dtype=torch.float64)
    one, other = (Gaussian(torch.zeros(1).double(), torch.full((1, 1), v).double()) for v in (1.0, 9.0))
    assert wasserstein_squared(one.image(line), other.image(line)).item() == pytest.approx(4.0, rel=1e-9)
