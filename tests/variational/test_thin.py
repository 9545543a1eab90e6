"""The divergence at more points than columns: against matrices in full, and with the prior's factor kept."""

from __future__ import annotations

import pytest
import torch

from bnnpriors.variational import Gaussian, kl_divergence
from bnnpriors.variational.thin import Whitening, thin_divergence


def laws(own: int, size: int = 9, columns: int = 4):
    generator = torch.Generator().manual_seed(own)
    root = torch.randn(size + own, columns, generator=generator, dtype=torch.float64)
    mean = torch.randn(size + own, generator=generator, dtype=torch.float64)
    half = torch.randn(size, size, generator=generator, dtype=torch.float64)
    law = Gaussian(torch.linspace(-1, 1, size, dtype=torch.float64), half @ half.mT)
    return mean.requires_grad_(), root.requires_grad_(), law


def in_full(mean, root, law: Gaussian, jitter: float):
    """Matrices of all values, the last of them without noise and with N(0, I) as their prior."""
    size = len(law.mean)
    noise = torch.zeros_like(mean)
    noise[:size] = jitter**2
    unit = torch.eye(len(mean) - size, dtype=torch.float64)
    covariance = torch.block_diag(law.covariance, unit) + noise.diag()
    prior = Gaussian(torch.cat([law.mean, torch.zeros(len(unit)).double()]), covariance)
    return kl_divergence(Gaussian(mean, root @ root.mT + noise.diag()), prior)


@pytest.mark.parametrize("own", [0, 1, 3])
@pytest.mark.parametrize("jitter", [0.01, 0.5])
def test_it_is_the_divergence_in_full_with_its_gradient(own: int, jitter: float) -> None:
    mean, root, law = laws(own)
    found = thin_divergence(mean, root, Whitening.of(law, jitter))
    expected = in_full(mean, root, law, jitter)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    for one, other in zip(
        torch.autograd.grad(found, (mean, root)), torch.autograd.grad(expected, (mean, root)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7 * float(other.abs().max()))
