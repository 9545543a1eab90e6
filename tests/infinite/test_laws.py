"""The laws of a kernel hold for random architectures."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.checks import check_kernel

from .architectures import Architecture, architectures


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(
        Phase.explicit,
        Phase.generate,
    ),  # a smaller example than the first that fails takes minutes to find
)
@given(architectures())
def test_random_architectures(architecture: Architecture) -> None:
    """Symmetry, positive semi-definiteness, diagonal, blocks, order, dtypes, gradients, GPyTorch, copies."""
    check_kernel(infinite.kernel(architecture.model()), architecture.inputs(3)).raise_if_failed()


def test_correlated_filters_of_one_tap_are_independent() -> None:
    """And keep no positions apart."""
    net = nn.Sequential(
        nn.Conv1d(2, 1, 2), nn.ReLU(), nn.Conv1d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 1)
    )
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    others = {"*": bp.priors.Normal(0.0, 0.5)}
    expected = infinite.kernel(bp.attach(net, others)).gram(x)
    one_tap = {"2.weight": bp.priors.CorrelatedNormal(0.5, "rbf", 1.0)}
    torch.testing.assert_close(
        infinite.kernel(bp.attach(net, one_tap | others)).gram(x), expected, rtol=1e-7, atol=0
    )
