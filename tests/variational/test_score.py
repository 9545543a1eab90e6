"""The spectral Stein gradient estimator: its definition, and its bias on a law whose score is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnnpriors.variational import SpectralScore


def draws(count: int, seed: int) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_its_definition() -> None:
    """ψ_j and β_j written out, the gradients of ψ_j by automatic differentiation."""
    samples, x = draws(30, 0), draws(5, 1)
    score = SpectralScore(samples, lengthscale=1.5, share=0.95)

    def kernel(a: Tensor) -> Tensor:
        return torch.exp(
            -torch.cdist(a, samples, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * 1.5**2)
        )

    values, vectors = torch.linalg.eigh(kernel(samples.clone() + 0.0))
    order = values.argsort(descending=True)
    share = values[order].cumsum(0) / values.sum()
    count = int((share < 0.95).sum()) + 1
    assert score.rank == count
    total = torch.zeros_like(x)
    for j in order[:count]:

        def psi(a: Tensor, j: Tensor = j) -> Tensor:
            return len(samples) ** 0.5 / values[j] * (kernel(a) @ vectors[:, j])

        gradients = torch.func.vmap(torch.func.grad(lambda a: psi(a[None])[0]))(samples)
        total += psi(x)[:, None] * -gradients.mean(0)
    torch.testing.assert_close(score(x), total, rtol=1e-7, atol=1e-8)


def test_its_error_on_a_normal_law_falls_slowly_with_the_number_of_samples() -> None:
    """Relative root mean square errors of about .52, .41 and .25 with 50, 100 and 400 samples: it is biased, not only noisy."""
    errors = []
    for count in (50, 100, 400):
        each = []
        for seed in range(40):
            x = draws(count, seed)
            each.append((SpectralScore(x)(x) + x).norm() / x.norm())
        errors.append(float(torch.stack(each).median()))
    assert errors == pytest.approx([0.52, 0.41, 0.25], abs=0.08)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        SpectralScore(draws(1, 0))
    with pytest.raises(ValueError, match="share 0"):
        SpectralScore(draws(5, 0), share=0.0)
    with pytest.raises(ValueError, match="lengthscale 0"):
        SpectralScore(torch.zeros(5, 2))
