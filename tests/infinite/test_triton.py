"""The kernels for CUDA on the CPU: interpreted against the recursion in torch, and compiled without being run."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import backends, triton_kernel, triton_source, zoo
from bnnpriors.infinite.bands import Axis
from bnnpriors.infinite.coefficients import coefficients
from bnnpriors.infinite.lowering import lower
from bnnpriors.infinite.steps import Unfusable
from bnnpriors.infinite.triton_kernel import TritonKernel, build, check_device
from bnnpriors.infinite.triton_source import write_source

from .networks import Erf, Skip, inputs, model

P = bp.priors
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="needs Triton, which has wheels for Linux alone: pip install 'bnnpriors[cuda-kernels]'",
)
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of the differences from the recursion in torch in float64, over the geometric means of two variances."""


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    build.cache_clear()
    yield
    build.cache_clear()


def _attached(*layers: nn.Module, **own: P.Prior) -> bp.BayesianModule:
    others = {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.3)}
    own_priors = {name.replace("_", ".", 1): prior for name, prior in own.items()}
    return bp.attach(nn.Sequential(*layers).double(), {**own_priors, **others})


def _rectangular() -> bp.BayesianModule:
    """Even windows, strides and dilations that differ by axis, sums whose means multiply, and a stride at a sum."""
    branches = [nn.Sequential(nn.Conv2d(2, 2, (2, 4), padding="same"), nn.ReLU()) for _ in range(2)]
    return _attached(
        nn.Conv2d(1, 2, (4, 2), stride=(1, 2), padding=(2, 0)), *map(Skip, branches),
        nn.Conv2d(2, 2, 2, dilation=(2, 1)), nn.GELU(), nn.Flatten(), nn.Linear(2 * 4 * 4, 3), nn.ReLU(), nn.Linear(3, 1),
    )  # fmt: skip


def _uneven() -> bp.BayesianModule:
    """Taps with variances of their own, on two axes; averages of the inputs before them."""
    scale = torch.linspace(0.3, 0.9, 6, dtype=torch.float64).reshape(2, 3)
    layers = [
        nn.AvgPool2d(2, 1),
        nn.Conv2d(2, 2, (2, 3), padding=1),
        Erf(),
        nn.Flatten(),
        nn.Linear(2 * 6 * 4, 1),
    ]
    return _attached(*layers, **{"1_weight": P.Normal(0.0, scale)})


def _sequence() -> bp.BayesianModule:
    body = [nn.Conv1d(2, 2, 4, stride=2, padding=1), Erf(), nn.Conv1d(2, 2, 3, padding="same"), nn.ReLU()]
    return _attached(*body, nn.Flatten(), nn.Linear(2 * 4, 1))


def _dense() -> bp.BayesianModule:
    return _attached(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 1))


Make = Callable[..., bp.BayesianModule]
NETWORKS: dict[str, tuple[Make, tuple[int, ...], bool]] = {
    "convnet_gp": (partial(zoo.convnet_gp, shape=(1, 6, 7)), (1, 6, 7), True),
    "residual_cnn_gp": (partial(zoo.residual_cnn_gp, shape=(2, 7, 6)), (2, 7, 6), False),
    "resnet32_gp": (partial(zoo.resnet32_gp, shape=(1, 8, 6)), (1, 8, 6), True),
    "cnn_gp_14": (partial(zoo.cnn_gp_14, shape=(3, 5, 5), readout="independent"), (3, 5, 5), True),
    "strided": (partial(model, "strided"), (2, 5, 4), True),
    "rectangular": (_rectangular, (1, 5, 10), True),
    "uneven": (_uneven, (2, 6, 5), True),
    "sequence": (_sequence, (2, 9), True),
    "dense": (_dense, (3,), True),
}


def _check(ours: Tensor, expected: Tensor, rows: slice, columns: slice) -> None:
    own = expected.diagonal()
    scale = (own[rows, None] * own[columns]).sqrt()
    assert bool(((ours.double() - expected[rows, columns]).abs() <= BOUNDS[ours.dtype] * scale).all())


@needs_triton
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", BOUNDS)
@torch.no_grad()
def test_as_the_recursion(name: str, dtype: torch.dtype, interpreted: None) -> None:
    """With two images alike and a black one, more of them than a tile has, between two sets and within one."""
    make, shape, mean_terms = NETWORKS[name]
    kernel = infinite.kernel(make(), mean_terms=mean_terms, backend="torch")
    count = 4 if "resnet" in name else 6
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[1], x[2] = x[0], 0
    expected, x = kernel.gram(x), x.to(dtype)
    ours = TritonKernel(kernel._recursion(x), x)
    matrix = ours.matrix(x, None, 2**24)
    assert matrix.dtype == dtype
    assert torch.equal(matrix, matrix.mT)
    _check(matrix, expected, slice(None), slice(None))
    _check(ours.matrix(x[:3], x[1:], 2**24), expected, slice(3), slice(1, None))
    torch.testing.assert_close(ours.variance(x, 2**24), matrix.diagonal(), rtol=1e-6, atol=0)


@needs_triton
@torch.no_grad()
def test_every_split_of_the_work(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches of one row of tiles, prepared blocks of one tile, steps without loops, and tiles of another size."""
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(2, 2, (2, 3), padding="same"), nn.ReLU())]
    kernel = infinite.kernel(_attached(*layers, nn.Flatten(), nn.Linear(2 * 3 * 4, 1)))
    x = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recursion = kernel._recursion(x)
    monkeypatch.setattr(triton_source, "TILE_BYTES", 4 * 16 * 16 * 8)
    ours = TritonKernel(recursion, x)
    assert (ours.rows, ours.columns) == (2, 2)
    expected, between = ours.matrix(x, None, 2**24), ours.matrix(x[:3], x[2:], 2**24)
    monkeypatch.setattr(triton_kernel, "LAUNCH_TILES", 1)
    assert torch.equal(ours.matrix(x, None, 2**24), expected)
    monkeypatch.setattr(triton_kernel, "PREPARED_BYTES", 1)
    assert torch.equal(ours.matrix(x, None, 2**24), expected)
    assert torch.equal(ours.matrix(x[:3], x[2:], 2**24), between)
    monkeypatch.setattr(triton_source, "_repeats", lambda *_: (1, 1))
    assert torch.equal(TritonKernel(recursion, x).matrix(x[:3], x[2:], 2**24), between)
    monkeypatch.setattr(triton_source, "TILE_BYTES", 2 * 16 * 16 * 8)
    small = TritonKernel(recursion, x)
    assert (small.rows, small.columns) == (1, 2)
    torch.testing.assert_close(small.matrix(x, None, 2**24), expected, rtol=1e-13, atol=0)


def _one_pixel(activation: nn.Module) -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), activation, nn.Flatten(), nn.Linear(1, 1, bias=False))
    return infinite.kernel(bp.attach(net.double(), P.Normal(0.0, P.fan_in())))


@needs_triton
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-15), (torch.float32, 3e-7)])
@torch.no_grad()
def test_polynomials(dtype: torch.dtype, bound: float, interpreted: None) -> None:
    """κ(ρ)/2π and (2/π) arcsin at correlations from −1 to 1, dense towards the ends."""
    ends = 1 - torch.logspace(-14, 0, 100, dtype=torch.float64)
    rho = torch.cat([-ends, ends, torch.linspace(-1, 1, 101, dtype=torch.float64)])
    sine = ((1 - rho) * (1 + rho)).sqrt()
    x = torch.stack([rho, sine], -1)[..., None, None].mul(2**0.5).to(dtype)
    one = torch.tensor([1.0, 0.0], dtype=dtype)[None, :, None, None] * 2**0.5
    arc = (sine + (math.pi - torch.acos(rho)) * rho) / (2 * math.pi)
    for activation, expected in ((nn.ReLU(), arc), (Erf(), 2 / math.pi * torch.asin(2 * rho / 3))):
        ours = TritonKernel(_one_pixel(activation)._recursion(x), x).matrix(x, one, 2**24)
        assert float((ours[:, 0].double() - expected).abs().max()) < bound


def test_bands_sum_over_windows() -> None:
    """As a convolution with ones; a part of its taps too."""
    values = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size, stride, dilation, low in product((1, 2, 3, 7), (1, 2), (1, 2), (0, 1, 3)):
        for first, taps in {(0, size), (size // 2, size - size // 2)}:
            ones = torch.zeros(1, 1, size, dtype=torch.float64)
            ones[..., first : first + taps] = 1
            padded = F.pad(values, (low, dilation * size))
            expected = F.conv1d(padded[None, None], ones, stride=stride, dilation=dilation)[0, 0]
            axis = Axis(9, len(expected), stride, dilation, low, first, taps)
            band = torch.from_numpy(axis.matrix(32, 16))
            assert band[len(expected) :].count_nonzero() == band[:, 9:].count_nonzero() == 0
            torch.testing.assert_close(band[: len(expected), :9] @ values, expected)
            assert axis.is_identity == torch.equal(band[:9, :9], torch.eye(9).double()) or len(expected) != 9


def test_layers_that_repeat_are_loops() -> None:
    """One round of code, however many there are; three groups of the ResNet, of 32 layers."""
    for make, shape, loops, products in (
        (zoo.convnet_gp, (1, 28, 28), 1, 2),
        (zoo.residual_cnn_gp, (1, 28, 28), 1, 3),
        (zoo.resnet32_gp, (1, 28, 28), 3, 16),
    ):
        text = _source(infinite.kernel(make(), mean_terms=False), shape, torch.float32).text
        assert text.count("for step in range") == loops
        assert text.count("down(") <= products


def test_a_loop_keeps_the_shapes_of_its_tiles() -> None:
    """A round that is the first to fill a slot, or that leaves another shape, stays outside."""
    small, large = {0: (16, 16)}, {0: (32, 16)}
    assert triton_source._repeats(["a"] * 3, [{}, small, small, small], 0) == (1, 1)
    assert triton_source._repeats(["a"] * 3, [{}, small, small, small], 1) == (1, 2)
    assert triton_source._repeats(["a"] * 3, [large, small, small, small], 0) == (1, 1)
    assert triton_source._repeats(["a", "b"] * 3, [small, large] * 3 + [small], 0) == (2, 3)


def _source(
    kernel: infinite.InfiniteWidthKernel, shape: tuple[int, ...], dtype: torch.dtype
) -> triton_source.Source:
    recursion = kernel._recursion(torch.zeros(1, *shape))
    with torch.no_grad():
        return write_source(lower(recursion.plan, recursion.layers), dtype.itemsize)


def _compiled(source: triton_source.Source, dtype: torch.dtype, capability: int, *, is_least: bool) -> Any:
    """What Triton makes of a kernel for a GPU that need not be there; with its integers 1 where they can be, if asked."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = build(source.text)
    pointers = {"starts": "*i32", "SYMMETRIC": "constexpr"}
    pointer = "*fp32" if dtype == torch.float32 else "*fp64"
    ones = ("row_count", "column_count", "row_tiles", "column_tiles", "channels", "pitch") if is_least else ()
    signature, constants = {}, {}
    for place, name in enumerate(function.arg_names):
        signature[name] = pointers.get(name, pointer if place < 8 else "i32")
        if name in ones or name == "SYMMETRIC":
            signature[name], constants[(place,)] = "constexpr", 1 if name in ones else True
    made = ASTSource(fn=function, signature=signature, constexprs=constants)
    options = {"num_warps": source.warps, "num_stages": 1, "maxnreg": triton_kernel.REGISTERS}
    return triton.compile(made, target=GPUTarget("cuda", capability, 32), options=options)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "capability"), [(torch.float32, 90), (torch.float64, 90), (torch.float32, 80)]
)
def test_compiles_for_gpus(
    dtype: torch.dtype, capability: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """For Hopper and Ampere: products on tensor cores, two tiles a processor, and constants of full precision."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    build.cache_clear()
    source = _source(infinite.kernel(zoo.convnet_gp()), (1, 28, 28), dtype)
    done = _compiled(source, dtype, capability, is_least=dtype == torch.float64)
    assert done.asm["cubin"]
    assert 2 * done.metadata.shared <= 160 * 2**10  # of the least of both, Ampere
    assert "mma.sync" in done.asm["ptx"]
    assert f".maxnreg {triton_kernel.REGISTERS}" in done.asm["ptx"]
    text = done.asm["ttir"]
    kind = "f32" if dtype == torch.float32 else "f64"
    constants = {
        float(line.split("dense<")[1].split(">")[0])
        for line in text.splitlines()
        if "arith.constant dense<" in line and f"x{kind}>" in line and "0x" not in line
    }
    names = "ARC_SINGLE" if dtype == torch.float32 else "ARC_DOUBLE"
    expected = torch.tensor(coefficients(names), dtype=dtype).double()
    found = torch.tensor(sorted(constants), dtype=dtype).double()
    nearest = (found[:, None] - expected).abs().amin(0)
    assert bool((nearest <= expected.abs() * torch.finfo(dtype).eps).all())
    if (
        dtype == torch.float32
    ):  # each product takes numbers of 11 bits, of which there are two for each window and axis
        masks = sum("arith.andi" in line and "xi32>" in line for line in text.splitlines())
        assert masks == text.count("inputPrecision = tf32") == 2 * source.text.count("bands +")


@torch.no_grad()
def test_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, shape: tuple[int, ...], net: bp.BayesianModule | None = None, **kind: bool) -> str:
        kernel = infinite.kernel(net or model(name))
        x = torch.zeros(2, *shape)
        with pytest.raises(Unfusable) as error:
            TritonKernel(kernel._recursion(x, **kind), x)
        return str(error.value)

    if find_spec("triton") is not None:
        assert "covariances of different positions" in refused("pooled", (2, 4, 3))
        assert "Tanh is not part of it" in refused("dense", (3,))
        assert "no neural tangent kernel" in refused("strided", (2, 5, 4), ntk=True)
        large = _attached(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(68 * 8, 1))
        assert "64 positions on an axis, and there are 70" in refused("", (1, 70, 10), large)
        monkeypatch.setattr("triton.__version__", "3.10.0")
        TritonKernel(infinite.kernel(model("strided"))._recursion(x := torch.zeros(2, 2, 5, 4)), x)
        monkeypatch.setattr("triton.__version__", "3.4.0")
        assert "Triton 3.7 or newer, and 3.4.0 is installed" in refused("strided", (2, 5, 4))
    monkeypatch.setattr(triton_kernel, "find_spec", lambda _: None)
    assert "pip install 'bnnpriors[cuda-kernels]'" in refused("strided", (2, 5, 4))


def test_which_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setenv("CC", "gcc")
    check_device(device)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unfusable, match="C compiler"):
        check_device(device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(Unfusable, match=r"capability 8\.0"):
        check_device(device)
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(Unfusable, match="NVIDIA"):
        check_device(device)


@torch.no_grad()
def test_chosen_on_cuda(monkeypatch: pytest.MonkeyPatch, as_a_user_meets_it: None) -> None:
    """By the device of the inputs, unless torch is asked for, or it is not possible."""
    recursion = infinite.kernel(model("strided"))._recursion(inputs("strided"))
    with FakeTensorMode():
        x = torch.empty(2, 2, 5, 4, device="cuda")
    monkeypatch.setattr(backends, "check_device", lambda _: None)
    monkeypatch.setattr(backends, "TritonKernel", lambda *given: given)
    for backend in ("auto", "fused"):
        assert backends.choose(backend, recursion, x, None) == (recursion, x)  # type: ignore[arg-type]
    assert backends.choose("torch", recursion, x, None) is None

    def refuse(*_: object) -> None:
        raise Unfusable("of a reason")

    monkeypatch.setattr(backends, "TritonKernel", refuse)
    assert backends.choose("auto", recursion, x, None) is None
    with pytest.raises(ValueError, match="of a reason"):
        backends.choose("fused", recursion, x, None)


@needs_triton
@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    """As the recursion in torch on the CPU, of as many images as fill a few hundred tiles."""
    make, shape, mean_terms = NETWORKS[name]
    kernel = infinite.kernel(make(), mean_terms=mean_terms, backend="torch")
    x = torch.randn(101, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[1], x[2] = x[0], 0
    expected = kernel.gram(x)
    kernel.backend = "fused"
    ours = kernel.gram(x, dtype=dtype, device="cuda").cpu()
    assert torch.equal(ours, ours.mT)
    _check(ours, expected, slice(None), slice(None))
    between = kernel.gram(x[:50], x[30:], dtype=dtype, device="cuda").cpu()
    _check(between, expected, slice(50), slice(30, None))
