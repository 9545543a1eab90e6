"""The kernel against finite networks drawn from their priors: the same module, wide, through `sample_prior_`."""

import pytest
import torch
from torch import Tensor

from bnnpriors import infinite

from .networks import HEAD_BIAS, HEAD_GAIN, NETWORKS, inputs, model

DRAWS = 400


@torch.no_grad()
def _finite_kernels(name: str, width: int, x: Tensor) -> Tensor:
    """The covariance of the outputs given the body, of each draw: the head's own weights are integrated out exactly."""
    wide, x = model(name, width).float(), x.float()
    generator = torch.Generator().manual_seed(width)
    kernels = []
    for _ in range(DRAWS):
        features = wide.sample_prior_(generator=generator).net[0](x)
        kernels.append(HEAD_GAIN**2 * features @ features.T / features.shape[1] + HEAD_BIAS**2)
    return torch.stack(kernels).double()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_wide_networks_converge_to_the_kernel(name: str) -> None:
    """The mean over draws is within 5.5 standard errors of K plus the bias of a finite width, 2/width of a variance; the spread
    of single draws falls as 1/√width.

    False alarms of the first: 6 entries at 5.5 standard errors, 3e-7. The ratio of spreads at 96 and 24 is 2 up to non-Gaussian
    corrections of order 1/width, and has a relative standard error of about 10 %: 1.2 and 3.3 are 5 away.
    """
    x = inputs(name, 3)
    kernel = infinite.kernel(model(name)).gram(x)
    scale = kernel.diagonal().mean()
    spreads = []
    for width in (24, 96):
        draws = (_finite_kernels(name, width, x) - kernel) / scale
        spreads.append(float(draws.square().mean().sqrt()))
    error = draws.std(0) / DRAWS**0.5
    assert bool((draws.mean(0).abs() <= 5.5 * error + 2 / 96).all())
    assert float(error.max()) < 0.02
    assert 1.2 < spreads[0] / spreads[1] < 3.3


def test_the_products_of_means_are_needed() -> None:
    """Without them the kernel of `pooled` is off by more than the Monte Carlo test lets through."""
    x = inputs("pooled", 3)
    exact, without = (infinite.kernel(model("pooled"), mean_terms=m).gram(x) for m in (True, False))
    assert float(((exact - without) / exact.diagonal().mean()).min()) > 0.13
