"""The laws of a kernel hold for random architectures."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.checks import check_kernel
from bnnpriors.infinite import zoo

from .architectures import Architecture, architectures

ZOO = {
    "convnet_gp": lambda: zoo.convnet_gp(shape=(1, 8, 8)),
    "residual_cnn_gp": lambda: zoo.residual_cnn_gp(shape=(1, 8, 8)),
    "resnet32_gp": lambda: zoo.resnet32_gp(shape=(1, 8, 8)),
    "cnn_gp_14": lambda: zoo.cnn_gp_14(shape=(3, 4, 4), readout=2.0),
    "myrtle10": lambda: zoo.myrtle10(shape=(3, 4, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str) -> None:
    """All of them, for small images with pixels from 0 to 1."""
    kernel = infinite.kernel(ZOO[name](), mean_terms=name != "residual_cnn_gp")
    shape = (3, 4, 4) if name.startswith(("cnn", "myrtle")) else (1, 8, 8)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_kernel(kernel, x).raise_if_failed()


@pytest.mark.slow
@settings(
    max_examples=30,
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
