"""Dirichlet and LKJ-Cholesky against SciPy, PyTorch and the known laws of their marginals."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below


@pytest.mark.parametrize("alpha", [0.7, torch.tensor([2.0, 1.0, 0.5, 3.0])])
def test_dirichlet_density_is_scipys(alpha: float | torch.Tensor) -> None:
    prior = P.Dirichlet(alpha)
    draws = prior.sample((5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers = torch.as_tensor(alpha, dtype=torch.float64).expand(4).numpy()
    expected = [scipy.stats.dirichlet(numbers).logpdf(row.numpy()) for row in draws]
    torch.testing.assert_close(prior.log_prob(draws), torch.tensor(expected).double(), rtol=1e-10, atol=1e-10)


def test_dirichlet_draws_have_beta_marginals() -> None:
    alpha = torch.tensor([2.0, 1.0, 0.5])
    draws = P.Dirichlet(alpha).sample((20_000, 3), generator=torch.Generator().manual_seed(0))
    for k in range(3):
        law = scipy.stats.beta(alpha[k].item(), (alpha.sum() - alpha[k]).item())
        assert scipy.stats.kstest(draws[:, k].double().numpy(), law.cdf).pvalue > ALARM
    assert P.Dirichlet(alpha).mean().tolist() == pytest.approx([2 / 3.5, 1 / 3.5, 0.5 / 3.5])


@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("eta", [0.6, 1.0, 3.5])
def test_lkj_density_is_pytorchs(size: int, eta: float) -> None:
    draws = P.LKJCholesky(eta).sample(
        (4, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    expected = torch.distributions.LKJCholesky(size, torch.tensor(eta, dtype=torch.float64)).log_prob(draws)
    torch.testing.assert_close(P.LKJCholesky(eta).log_prob(draws), expected, rtol=1e-10, atol=1e-10)
    tensor = P.LKJCholesky(torch.tensor(eta, dtype=torch.float64))
    torch.testing.assert_close(tensor.log_prob(draws), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.8, 2.0])
def test_lkj_draws_have_beta_marginals(eta: float) -> None:
    """Every correlation r has (r + 1)/2 ~ Beta(η − 1 + n/2, η − 1 + n/2), whatever its place."""
    size = 4
    factor = P.LKJCholesky(eta).sample((20_000, size, size), generator=torch.Generator().manual_seed(0))
    assert bool(torch.distributions.constraints.corr_cholesky.check(factor).all())
    correlation = factor @ factor.mT
    law = scipy.stats.beta(eta - 1 + size / 2, eta - 1 + size / 2)
    for row in range(size):
        for column in range(row):
            sample = 0.5 * (correlation[:, row, column].double() + 1)
            assert scipy.stats.kstest(sample.numpy(), law.cdf).pvalue > ALARM


def test_the_lkj_latent_has_the_jacobian() -> None:
    """The density of the one latent of a 2 × 2 matrix integrates to one."""
    site = Site("w", P.LKJCholesky(1.5), (2, 2))
    grid = torch.linspace(-15, 15, 4001, dtype=torch.float64)[:, None]
    density = torch.func.vmap(lambda u: site.evaluate({"w": u}, {}))(grid).exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_map_to_correlations_is_pytorchs(size: int) -> None:
    u = torch.randn(
        5, size * (size - 1) // 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ours, theirs = P.LKJCholesky().bijection, torch.distributions.CorrCholeskyTransform()
    torch.testing.assert_close(ours(u), theirs(u))
    torch.testing.assert_close(
        ours.log_abs_det_jacobian(u, ours(u)), theirs.log_abs_det_jacobian(u, theirs(u))
    )
    torch.testing.assert_close(ours.inv(ours(u)), u)
    assert torch.autograd.gradcheck(ours, (u.requires_grad_(),))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Dirichlet: shape \(1,\) given, expected a last dimension of two"):
        P.Dirichlet().check_shape((1,))
    with pytest.raises(ValueError, match=r"LKJCholesky: shape \(3, 2\) given, expected a square"):
        P.LKJCholesky().check_shape((3, 2))
    with pytest.raises(ValueError, match="concentration"):
        P.LKJCholesky(-1.0)
