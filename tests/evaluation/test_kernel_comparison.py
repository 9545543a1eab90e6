"""Sampled functions against the infinite-width kernel: near it where wide, off it where narrow or wrong."""

import math

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def network(width: int, gain: float = math.sqrt(2)) -> bp.BayesianModule:
    priors = {"*.weight": P.Normal(0.0, P.fan_in(gain=gain)), "*.bias": P.Normal(0.0, 0.3)}
    return bp.attach(bp.models.mlp(3, 2, hidden=(width, width)), priors)


def test_a_wide_network_is_its_limit() -> None:
    """1,000 draws of two outputs differ by about what Monte Carlo alone gives (0.7 to 1.2 times in three seeds); from the kernel
    of weights with 1.5 times the variance they differ by 16 times that."""
    model = network(400)
    draws = bp.prior_predictive(model, X, num_draws=1000)
    found = draws.against(bp.infinite.kernel(model))
    assert found.num_functions == 2000
    assert found.difference < 2 * found.expected < 0.12
    wrong = draws.against(bp.infinite.kernel(network(400, gain=math.sqrt(3))))
    assert wrong.difference > 10 * wrong.expected
    assert "2000 sampled functions" in str(found)


def test_the_figures_by_hand() -> None:
    model = network(2)
    draws = bp.prior_predictive(model, X[:2], num_draws=3)
    found = draws.against(bp.infinite.kernel(model))
    by_hand = sum(
        torch.outer(f, f) for draw in draws.outputs.double() for f in draw.T
    ) / 6  # fmt: skip
    torch.testing.assert_close(found.sampled, by_hand)
    kernel = found.kernel
    variance = torch.outer(kernel.diag(), kernel.diag()) + kernel**2
    assert found.expected == pytest.approx(float((variance.sum() / 6).sqrt() / kernel.norm()))
    assert found.difference == pytest.approx(float((by_hand - kernel).norm() / kernel.norm()))


def test_draws_without_second_moments_are_refused() -> None:
    model = bp.attach(nn.Linear(3, 1), P.Normal())
    draws = bp.prior_predictive(model, X, num_draws=3)
    draws.outputs[0, 0] = math.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        draws.against(bp.infinite.kernel(model))
