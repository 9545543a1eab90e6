"""The laws of a kernel hold for random architectures."""

import pytest
from hypothesis import HealthCheck, given, settings

from bnnpriors import infinite
from bnnpriors.checks import check_kernel

from .architectures import Architecture, architectures


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(architectures())
def test_random_architectures(architecture: Architecture) -> None:
    """Symmetry, positive semi-definiteness, diagonal, blocks, order, dtypes, gradients, GPyTorch, copies."""
    check_kernel(infinite.kernel(architecture.model()), architecture.inputs(3)).raise_if_failed()
