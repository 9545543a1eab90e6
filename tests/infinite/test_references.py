"""Against kernel matrices of independent implementations (`../shared/reference`; skipped where that folder is absent)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import extension, infinite
from bnnpriors.datasets.idx import read_idx, read_images
from bnnpriors.infinite import zoo
from bnnpriors.priors.taps import JITTER, tap_covariance

P = bp.priors


def _reference(shared_data: Path, name: str) -> dict[str, Tensor]:
    file = shared_data.parent / "reference" / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"needs ../shared/reference/{name}.npz next to the repository; it is absent here")
    with np.load(file) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def _images(shared_data: Path, count: int) -> Tensor:
    return torch.from_numpy(read_images(shared_data / "mnist", "t10k")[:count, None] / 255.0)


def _error(ours: Tensor, reference: Tensor) -> float:
    return float((ours / reference - 1).abs().max())


PUBLISHED = {"convnet": zoo.convnet_gp, "residual": zoo.residual_cnn_gp, "resnet": zoo.resnet32_gp}


def _kernel(name: str) -> infinite.InfiniteWidthKernel:
    return infinite.kernel(PUBLISHED[name](), mean_terms=name != "residual")


def _backend(name: str) -> infinite.backends.Backend:
    if name == "fused" and isinstance(reason := extension.load(), str):
        pytest.skip(f"{reason}; python hatch_build.py compiles it in place")
    return infinite.backends.check_backend(name)


@pytest.mark.parametrize("backend", ["torch", "fused"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(shared_data: Path, name: str, backend: str) -> None:
    """To 1e-12 in float64 and 1e-5 in float32; the largest differences found were 6e-15 and 5e-7."""
    reference, x = _reference(shared_data, name)["nngp"], _images(shared_data, 32)
    kernel = _kernel(name)
    kernel.backend = _backend(backend)
    assert _error(kernel.gram(x), reference) < 1e-12
    assert _error(kernel.gram(x, dtype=torch.float32).double(), reference) < 1e-5


@pytest.mark.parametrize("name", ["convnet", "resnet"])
def test_neural_tangent_kernels(shared_data: Path, name: str) -> None:
    """To 1e-7: the reference has the rounding of an arc-cosine at 1 on its diagonal, of 1.4e-8.

    The file's `residual` tangent kernel is left out. It exceeds ten times the kernel on the diagonal, which no network of ten
    layers can: each layer adds at most K(x, x) to Θ(x, x).
    """
    reference, x = _reference(shared_data, name)["ntk"], _images(shared_data, 32)
    assert _error(_kernel(name).ntk(x), reference) < 1e-7


def _correlation(kernel: str, lengthscale: float, size: int) -> tuple[Tensor, float]:
    """A tap covariance without the jitter that is added to it, and the sum of its entries."""
    matrix = tap_covariance(kernel, lengthscale, (size, size))
    taps = torch.eye(size * size, dtype=torch.float64)
    return matrix - 2 * JITTER * taps, float((matrix - JITTER * taps).sum())


def _correlated(variance: float, kernel: str, lengthscale: float, size: int) -> P.CorrelatedNormal:
    matrix, total = _correlation(kernel, lengthscale, size)
    return P.CorrelatedNormal(P.fan_in((variance / total) ** 0.5, count="channels"), matrix)


@pytest.mark.parametrize("readout", ["gap", "matern4"])
@pytest.mark.parametrize("body", ["independent", "correlated"])
@pytest.mark.parametrize("backend", ["torch", "fused"])
def test_full_spatial_covariance(shared_data: Path, body: str, readout: str, backend: str) -> None:
    """Pooling, a correlated readout over all positions, and correlated convolutions; the largest differences were 5e-15, and 2e-6
    in float32."""
    count = 8 if backend == "fused" else 4
    reference = _reference(shared_data, f"fullcov_{body}")[readout][:count, :count]
    x = torch.nn.functional.avg_pool2d(_images(shared_data, count), 2)
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU())]
    prior = P.Normal(0.0, P.fan_in(2**0.5)) if body == "independent" else _correlated(2.0, "matern32", 1.0, 3)
    if readout == "gap":
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False)]
        priors = {"8.weight": P.Normal(0.0, P.fan_in()), "*": prior}
    else:
        head = [nn.Conv2d(1, 1, 14, bias=False), nn.Flatten()]
        priors = {"6.weight": _correlated(1.0, "matern32", 4.0, 14), "*": prior}
    kernel = infinite.kernel(bp.attach(nn.Sequential(*layers, *head), priors), backend=_backend(backend))
    assert _error(kernel.gram(x), reference) < 1e-12
    if backend == "fused":
        assert _error(kernel.gram(x, dtype=torch.float32).double(), reference) < 1e-5


@pytest.mark.slow
def test_the_error_on_mnist(shared_data: Path) -> None:
    """Of one-hot regression with the ConvNet GP, trained on the first 1,000 test images and tested on the 1,000 after: 6.9 %, as
    an independent implementation in float64 has it; one image more or less is allowed for float32.
    """
    x = _images(shared_data, 2000).float()
    labels = torch.from_numpy(read_idx(shared_data / "mnist" / "t10k-labels-idx1-ubyte.gz").astype("int64"))
    kernel = _kernel("convnet")
    matrix = torch.cat([kernel.gram(x[:1000]), kernel.gram(x[:1000], x[1000:])], 1).double()
    points = infinite.PrecomputedKernel(matrix, kernel.variance(x).detach())
    targets = torch.nn.functional.one_hot(labels[:1000]).double()
    noise = 1e-9 * matrix.diagonal().mean().item()
    pred = infinite.GPRegression(points, torch.arange(1000), targets, noise=noise).predict(
        torch.arange(1000, 2000)
    )
    errors = int((pred.mean.argmax(1) != labels[1000:2000]).sum())
    assert abs(errors - 69) <= 1
