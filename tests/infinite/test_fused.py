"""The fused kernel against the recursion in torch: random networks, instruction sets, blocks, and what it refuses."""

import copy
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import extension, infinite
from bnnpriors.infinite import backends, fused
from bnnpriors.infinite.fused import FusedKernel

from .networks import Erf, Skip, inputs, model

P = bp.priors
compiled = pytest.mark.skipif(
    isinstance(extension.load(), str),
    reason=f"needs the compiled part; python hatch_build.py makes it: {extension.load()}",
)
Draw = Callable[[st.SearchStrategy], object]


def _error(ours: Tensor, expected: Tensor, rows: Tensor, columns: Tensor) -> float:
    """The largest difference over the geometric mean of the variances."""
    scale = (rows[:, None] * columns).sqrt()
    return float(((ours.double() - expected).abs() / scale).max())


def _prior(draw: Draw, taps: int) -> P.Prior:
    kind = draw(st.sampled_from(["independent"] * 3 + ["uneven", "matern32", "any"]))
    if kind == "independent" or taps == 1:
        return P.Normal(0.0, 0.6)
    generator = torch.Generator().manual_seed(taps)
    if kind == "uneven":
        return P.CorrelatedNormal(0.6, torch.diag(torch.linspace(0.5, 1.5, taps, dtype=torch.float64)))
    if kind == "matern32":
        return P.CorrelatedNormal(0.6, "matern32", draw(st.sampled_from([0.5, 2.0])))
    root = torch.randn(taps, taps, generator=generator, dtype=torch.float64)
    return P.CorrelatedNormal(0.6, root @ root.T / taps + 0.1 * torch.eye(taps, dtype=torch.float64))


@st.composite
def networks(draw: Draw) -> tuple[bp.BayesianModule, tuple[int, ...]]:
    """A network and the shape of its inputs: windows, strides, dilations, paddings, skips, pooling and priors of all kinds."""
    axes = draw(st.integers(1, 2))
    conv, pool = ((nn.Conv1d, nn.AvgPool1d), (nn.Conv2d, nn.AvgPool2d))[axes - 1]
    sizes = st.tuples(*[st.integers(3, 9 if axes == 1 else 5)] * axes)
    each = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * axes))  # noqa: E731
    acts = st.sampled_from([nn.ReLU(), nn.LeakyReLU(0.2), nn.GELU(), Erf()])
    shape = (draw(st.integers(1, 3)), *draw(sizes))
    layers: list[nn.Module] = []
    priors: dict[str, object] = {}
    x = torch.zeros(1, *shape)
    if draw(st.booleans()) and min(x.shape[2:]) > 3:
        layers.append(pool(2, 1))
    for _ in range(draw(st.integers(1, 3))):
        x = nn.Sequential(*layers)(
            x[:, :1].expand(1, shape[0], *x.shape[2:]) if not layers else torch.zeros(1, *shape)
        )
        is_same = draw(st.booleans())
        stride = (1,) * axes if is_same else each(1, 2)
        size, dilation = each(1, 4 if draw(st.booleans()) else 7), each(1, 2)
        padding = "same" if is_same else each(0, 2)
        layer = conv(x.shape[1], 2, size, stride, padding, dilation)
        if not is_same and any(
            n + 2 * p - d * (k - 1) < 1
            for n, p, d, k in zip(x.shape[2:], padding, dilation, size, strict=True)
        ):
            continue
        priors[f"{len(layers)}.weight"] = _prior(draw, math.prod(size))
        layers += [layer, draw(acts)]
        if draw(st.booleans()):
            body = nn.Sequential(conv(2, 2, 3, padding=1), draw(acts))
            layers.append(Skip(body))
        after = nn.Sequential(*layers)(torch.zeros(1, *shape))
        if draw(st.sampled_from([False, False, True])) and min(after.shape[2:]) > 1:
            layers.append(pool(2, draw(st.integers(1, 2))))
    after = nn.Sequential(*layers)(torch.zeros(1, *shape))
    head = draw(st.sampled_from(["flat", "mean", "correlated"]))
    if head == "correlated" and after.shape[1] == 2:
        priors[f"{len(layers)}.weight"] = P.CorrelatedNormal(0.6, "rbf", 2.0)
        layers += [conv(2, 1, tuple(after.shape[2:])), nn.Flatten()]
    else:
        layers += [(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[axes - 1](1)] if head == "mean" else []
        width = nn.Sequential(*layers, nn.Flatten())(torch.zeros(1, *shape)).shape[1]
        layers += [nn.Flatten(), nn.Linear(width, 3), draw(acts), nn.Linear(3, 1)]
    net = nn.Sequential(*layers).double()
    return bp.attach(net, {**priors, "*.bias": P.Normal(0.0, 0.3), "*": P.Normal(0.0, 0.7)}), shape


@compiled
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks(network: tuple[bp.BayesianModule, tuple[int, ...]]) -> None:
    """To 1e-10 in float64 and 1e-5 in float32, of the geometric mean of two variances; with two images alike, and a black one."""
    kernel, shape = infinite.kernel(network[0]), network[1]
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[4], x[5] = x[1], 0
    kernel.backend = "torch"
    expected = kernel.gram(x)
    own = expected.diagonal()
    try:
        kernel.backend = "fused"
        ours = kernel.gram(x)
    except ValueError as reason:
        assert "several whose covariances" in str(reason)  # noqa: PT017
        return
    assert torch.equal(ours, ours.T)
    assert _error(ours, expected, own, own) < 1e-10
    assert _error(kernel.gram(x[:4], x[2:]), expected[:4, 2:], own[:4], own[2:]) < 1e-10
    assert _error(kernel.gram(x.float()), expected, own, own) < 1e-5


@compiled
@pytest.mark.parametrize("name", ["strided", "pooled"])
def test_every_instruction_set_and_every_split_of_the_work(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors that the processor has; blocks of one vector; calls of one row; two threads."""
    kernel, x = infinite.kernel(model(name)), inputs(name, 21)
    recursion = kernel._recursion(x)
    kernel.backend = "fused"
    expected = kernel.gram(x)
    widest = extension.load().bnnpriors_vector_bytes()  # type: ignore[union-attr]
    assert widest in (16, 32, 64)
    for size in (16, 32, 64):
        if size > widest:
            continue
        with torch.no_grad():
            narrow = FusedKernel(recursion, x.shape[1], vector_bytes=size)
            torch.testing.assert_close(narrow.matrix(x, None, 2**20), expected, rtol=1e-13, atol=0)
            torch.testing.assert_close(
                narrow.matrix(x[:9], x[9:], 2**20), expected[:9, 9:], rtol=1e-13, atol=0
            )
            single = FusedKernel(recursion, x.shape[1], vector_bytes=size).matrix(x.float(), None, 2**20)
            torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(fused, "PREPARED_BYTES", 1)
    assert torch.equal(kernel.gram(x), expected)
    monkeypatch.setattr(fused, "CALL_WORK", 1)
    assert torch.equal(kernel.gram(x), expected)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(kernel.gram(x), expected)


def _one_pixel(activation: nn.Module) -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(
        nn.Conv2d(2, 1, 1, bias=False), activation, nn.Flatten(), nn.Linear(1, 1, bias=False)
    ).double()
    return infinite.kernel(bp.attach(net, P.Normal(0.0, P.fan_in())), backend="fused")


@compiled
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-15), (torch.float32, 3e-7)])
def test_polynomials(dtype: torch.dtype, bound: float) -> None:
    """κ(ρ)/2π and (2/π) arcsin at correlations from −1 to 1, dense towards the ends, with the rounding of ρ itself."""
    ends = 1 - torch.logspace(-14, 0, 200, dtype=torch.float64)
    rho = torch.cat([-ends, ends, torch.linspace(-1, 1, 401, dtype=torch.float64), torch.tensor([0.5, 1e-9])])
    sine = ((1 - rho) * (1 + rho)).sqrt()
    x = torch.stack([rho, sine], -1)[..., None, None].mul(2**0.5).to(dtype)
    one = torch.tensor([1.0, 0.0], dtype=dtype)[None, :, None, None] * 2**0.5
    arc = (sine + (math.pi - torch.acos(rho)) * rho) / (2 * math.pi)
    assert float((_one_pixel(nn.ReLU()).gram(x, one)[:, 0].double() - arc).abs().max()) < bound
    expected = 2 / math.pi * torch.asin(2 * rho / 3)
    assert float((_one_pixel(Erf()).gram(x, one)[:, 0].double() - expected).abs().max()) < bound


@compiled
def test_erf_to_the_ends_of_the_arcsine() -> None:
    """Large variances bring the argument of arcsin close to ±1."""
    x = torch.logspace(-3, 4, 50, dtype=torch.float64)[:, None, None, None].expand(50, 2, 1, 1)
    x = torch.cat([x, -x])
    kernel = _one_pixel(Erf())
    ours = kernel.gram(x, x)
    kernel.backend = "torch"
    torch.testing.assert_close(ours, kernel.gram(x, x), rtol=0, atol=2e-12)


@compiled
def test_what_the_fused_kernel_refuses(monkeypatch: pytest.MonkeyPatch, as_a_user_meets_it: None) -> None:
    """With the reason where it is asked for; "auto" takes torch."""
    kernel, x = infinite.kernel(model("dense"), backend="fused"), inputs("dense")
    with pytest.raises(ValueError, match="Tanh is not part of it"):
        kernel.gram(x)
    kernel, x = infinite.kernel(model("strided"), backend="fused"), inputs("strided")
    with pytest.raises(ValueError, match="no gradients"):
        kernel.matrix(x)
    with pytest.raises(ValueError, match="inputs are on meta"), torch.no_grad():
        backends.choose("fused", kernel._recursion(x), x.to("meta"), None)
    with pytest.raises(ValueError, match="expected one of auto, fused, torch"):
        kernel.backend = "cuda"  # type: ignore[assignment]
    assert kernel.backend == "fused"
    with monkeypatch.context() as patched:
        patched.setattr(fused, "TILE_BYTES", 100)
        with pytest.raises(ValueError, match="a tile of pairs with all their positions takes"):
            kernel.gram(x)
    expected = kernel.gram(x)
    monkeypatch.setattr(extension, "LIBRARY", Path("nowhere.so"))
    extension.load.cache_clear()
    try:
        with pytest.raises(ValueError, match="was not compiled"):
            kernel.gram(x)
        kernel.backend = "auto"
        torch.testing.assert_close(kernel.gram(x), expected, rtol=1e-12, atol=0)
    finally:
        extension.load.cache_clear()


@compiled
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("sources", lambda: 0, "compiled from other sources"), ("LIBRARY", Path("nowhere.so"), "not compiled")],
)
def test_a_library_of_other_sources_or_none_is_not_used_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: Any, words: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(extension, name, value)
        extension.load.cache_clear()
        for _ in range(2):
            assert words in str(extension.load())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(rf"{words}.*python hatch_build\.py.*others for the same seed", record.getMessage())
    extension.load.cache_clear()
    assert not isinstance(extension.load(), str)
    assert len(caplog.records) == 1


def test_the_backend_goes_with_copies() -> None:
    kernel = infinite.kernel(model("strided"), backend="torch")
    assert pickle.loads(pickle.dumps(kernel)).backend == copy.deepcopy(kernel).backend == "torch"
