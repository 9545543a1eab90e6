"""A sweep of lengthscales against one kernel for each."""

import copy

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import extension, infinite
from bnnpriors.infinite import sweep
from bnnpriors.infinite.backends import choose
from bnnpriors.infinite.steps import Unfusable

P = bp.priors
LENGTHSCALES = [0.01, 0.5, 2.0, 30.0]


def _kernel(axes: int, head: list[nn.Module] | None = None) -> infinite.InfiniteWidthKernel:
    conv = (nn.Conv1d, nn.Conv2d)[axes - 1]
    size = ((8,), (4, 3))[axes - 1]
    body = [conv(2, 1, 3, padding=1), nn.ReLU(), conv(1, 1, 2), nn.ReLU(), conv(1, 1, size), nn.Flatten()]
    priors = {
        "2.weight": P.CorrelatedNormal(0.5, "rbf", 1.0),
        "4.weight": P.CorrelatedNormal(0.5, "matern32", 2.0),
    }
    net = nn.Sequential(*body, *(head or [])).double()
    return infinite.kernel(bp.attach(net, {**priors, "*": P.Normal(0.0, 0.5)}))


def _inputs(axes: int) -> Tensor:
    shape = ((9,), (5, 4))[axes - 1]
    return torch.randn(7, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("layer", [None, "2"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_sweep_is_the_kernel_at_each_lengthscale(
    axes: int, layer: str | None, backend: infinite.backends.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the last layer and one before it, symmetric and not, also where blocks are small."""
    kernel, x = _kernel(axes), _inputs(axes)
    kernel.backend = backend
    before = kernel.gram(x)
    swept = kernel.lengthscale_sweep(x, lengthscales=LENGTHSCALES, layer=layer)
    between = kernel.lengthscale_sweep(x[:2], x[2:], lengthscales=LENGTHSCALES, layer=layer)
    assert torch.equal(swept, swept.mT)
    single = copy.deepcopy(kernel)
    for matrix, part, length in zip(swept, between, LENGTHSCALES, strict=True):
        lengths = kernel.lengthscale_of_taps.detach().clone()
        lengths[-1 if layer is None else 0] = length
        expected = single.set(lengthscale_of_taps=lengths).gram(x)
        torch.testing.assert_close(matrix, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(part, expected[:2, 2:], rtol=1e-12, atol=0)
    monkeypatch.setattr(sweep, "TERM_BYTES", 1)
    torch.testing.assert_close(
        kernel.lengthscale_sweep(x, lengthscales=LENGTHSCALES, layer=layer), swept, rtol=1e-12, atol=0
    )
    assert torch.equal(kernel.gram(x), before)


@pytest.mark.skipif(
    isinstance(extension.load(), str),
    reason="needs the fused kernel: install with a C++ compiler, or run python hatch_build.py",
)
def test_one_pass_only_where_the_layer_reads_out_all_positions() -> None:
    x = _inputs(2)
    relu = [nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)]
    for kernel, layer, is_possible in (
        (_kernel(2), 2, True),
        (_kernel(2), 1, False),
        (_kernel(2, relu), 2, False),
    ):
        with torch.no_grad():
            recursion = kernel._recursion(x)
            fused = choose("fused", recursion, x, None)
        assert fused is not None
        if is_possible:
            sweep.ReadoutSweep(fused, recursion, layer)
            continue
        with pytest.raises(Unfusable):
            sweep.ReadoutSweep(fused, recursion, layer)


def test_sweeps_that_make_no_sense() -> None:
    kernel, x = _kernel(1), _inputs(1)
    for lengthscales in ([], [1.0, 0.0], [float("nan")]):
        with pytest.raises(ValueError, match="expected positive numbers"):
            kernel.lengthscale_sweep(x, lengthscales=lengthscales)
    with pytest.raises(ValueError, match=r"layer '0' given, expected one of \['2', '4'\]"):
        kernel.lengthscale_sweep(x, lengthscales=[1.0], layer="0")
