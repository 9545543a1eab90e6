"""What a module becomes, and what is refused: each error names the layer and says what to use."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite.trace import trace

P = bp.priors


def attached(net: nn.Module) -> bp.BayesianModule:
    priors = {name: P.Normal(0.0, P.fan_in() if w.ndim > 1 else 0.5) for name, w in net.named_parameters()}
    return bp.attach(net, priors)


class Function(nn.Module):
    """Two layers with any function between and around them."""

    def __init__(self, forward: Callable[["Function", Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def test_functions_methods_and_modules_are_one() -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ways: dict[str, tuple[nn.Module, list[Callable[[Tensor], Tensor]]]] = {
        "relu": (nn.ReLU(), [torch.relu, F.relu, lambda h: h.relu()]),
        "leaky": (
            nn.LeakyReLU(0.3),
            [lambda h: F.leaky_relu(h, 0.3), lambda h: F.leaky_relu(h, negative_slope=0.3)],
        ),
        "gelu": (nn.GELU(), [F.gelu]),
        "gelu tanh": (nn.GELU("tanh"), [lambda h: F.gelu(h, approximate="tanh")]),
        "tanh": (nn.Tanh(), [torch.tanh, F.tanh, lambda h: h.tanh()]),
        "silu": (nn.SiLU(), [F.silu]),
        "sigmoid": (nn.Sigmoid(), [torch.sigmoid]),
    }
    for module, functions in ways.values():
        expected = infinite.kernel(attached(nn.Sequential(nn.Linear(3, 3), module, nn.Linear(3, 1)))).gram(x)
        for function in functions:
            net = Function(lambda self, h, function=function: self.out(function(self.one(h))))
            net.two = nn.Identity()
            torch.testing.assert_close(infinite.kernel(attached(net)).gram(x), expected, rtol=0, atol=0)
    kernels = [
        infinite.kernel(attached(Function(lambda self, h, f=f: self.out(f(self.two(self.one(h))))))).gram(x)
        for f in (torch.erf, lambda h: h.erf(), torch.sin, lambda h: h.sin())
    ]
    assert torch.equal(kernels[0], kernels[1])
    assert torch.equal(kernels[2], kernels[3])


def test_images_flatten_pool_and_scale_in_every_form() -> None:
    x = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Net(nn.Module):
        def __init__(self, tail: Callable[[Tensor], Tensor], features: int) -> None:
            super().__init__()
            self.conv, self.out, self._tail = nn.Conv2d(1, 2, 3), nn.Linear(features, 1), tail

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self._tail(torch.relu(self.conv(x))))

    pooled = [
        lambda h: h.mean((2, 3)),
        lambda h: h.mean(dim=(-2, -1), keepdim=True).flatten(1),
        lambda h: torch.mean(h, (2, 3)),
        lambda h: torch.flatten(F.adaptive_avg_pool2d(h, 1), 1),
        lambda h: torch.flatten(F.avg_pool2d(h, (2, 4)), start_dim=1),
        lambda h: (2 * (h * 2) / 4).mean((2, 3)),
    ]
    results = [infinite.kernel(attached(Net(tail, 2))).gram(x) for tail in pooled]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-13, atol=0)
    quarter = infinite.kernel(attached(Net(lambda h: h.flatten(1) / 2, 16))).gram(x) - 0.25
    whole = infinite.kernel(attached(Net(lambda h: torch.flatten(h, 1), 16))).gram(x) - 0.25
    torch.testing.assert_close(4 * quarter, whole, rtol=1e-13, atol=0)


def test_a_single_layer_is_the_linear_kernel() -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = infinite.kernel(attached(nn.Linear(3, 1)))
    torch.testing.assert_close(kernel.gram(x), 0.25 + x @ x.T / 3)
    assert kernel.layer_names == [""]
    assert "Dense" in str(kernel.program)


IMAGE = (1, 6, 6)
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "max pooling": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)),
        r"1 \(MaxPool2d\).*use AvgPool2d",
    ),
    "layer norm": (lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), r"1 \(LayerNorm\).*leave it out"),
    "unknown": (lambda: nn.Sequential(nn.Linear(3, 3), nn.PReLU()), r"1 \(PReLU\).*use Linear, Conv1d"),
    "groups": (lambda: nn.Conv2d(2, 2, 3, groups=2), "groups=2"),
    "circular": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), "expected 'zeros'"),
    "twice": (lambda: Function(lambda s, x: s.out(s.one(torch.relu(s.one(x))))), "layer that is used twice"),
    "correlated sum": (
        lambda: Function(lambda s, x: s.out(_add(s.one(x)))),
        "both terms depend on the outputs of one layer",
    ),
    "input skip": (lambda: Function(lambda s, x: s.out(x + s.one(x))), "a skip from the inputs"),
    "raw nonlinearity": (
        lambda: Function(lambda s, x: s.out(torch.tanh(x))),
        "acts on the inputs themselves",
    ),
    "two nonlinearities": (
        lambda: Function(lambda s, x: s.out(torch.relu(torch.tanh(s.one(x))))),
        "its input is not Gaussian",
    ),
    "in place on a view": (lambda: _InPlace(nn.Identity()), "works in place"),
    "size": (lambda: Function(lambda s, x: s.out(s.one(x).view(x.size(0), -1))), r"\(size\).*torch.flatten"),
    "in place": (lambda: _InPlace(), "works in place"),
    "view": (lambda: Function(lambda s, x: s.out(s.one(x).view(-1, 3))), r"\(view\).*use torch.flatten"),
    "branch": (lambda: Function(lambda s, x: s.out(x) if x.sum() > 0 else x), "cannot be traced"),
    "ends in softmax": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)),
        "the likelihood applies the softmax",
    ),
    "ends in relu": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        "ends in 1, whose outputs are not Gaussian",
    ),
    "two outputs": (lambda: Function(lambda s, x: (s.out(x), x)), "expected one tensor"),  # type: ignore[arg-type,return-value]
    "product": (
        lambda: Function(lambda s, x: s.out(s.one(x) * s.two(x))),
        "products of one tensor with a number",
    ),
    "flatten some": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2)),
        "dimensions 2 to -1 flattened",
    ),
    "mean of channels": (lambda: Function(lambda s, x: s.out(s.one(x).mean(1))), "a mean over dimensions 1"),
}


def _add(h: Tensor) -> Tensor:
    return h + torch.tanh(h)


class _InPlace(nn.Module):
    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.one, self.relu = nn.Linear(3, 3), nn.Sequential(*filter(None, [between]), nn.ReLU(inplace=True))
        self.two, self.out = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        return self.out(h + self.two(self.relu(h)))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        trace(attached(make()))


def test_dropout_counts_for_nothing_once_it_is_off_and_is_refused_in_training() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ReLU(), nn.Linear(3, 1)).eval()
    model = attached(net)
    trace(model)
    net[1].train()
    with pytest.raises(ValueError, match="dropout in training mode"):
        trace(model)


def test_a_module_without_priors_or_with_hooks_is_refused(as_a_user_meets_it: None) -> None:
    with pytest.raises(TypeError, match=r"bp\.attach"):
        infinite.kernel(nn.Linear(3, 1))  # type: ignore[arg-type]
    model = attached(nn.Linear(3, 1))
    model.net.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="forward hooks"):
        infinite.kernel(model)


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 1)),
            IMAGE,
            "layer 0 expects 3 channels",
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 7), nn.Flatten(), nn.Linear(2, 1)), IMAGE, "window of size"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(9, 1)),
            IMAGE,
            "layer 2 expects 9 features",
        ),
        (lambda: nn.Linear(6, 1), IMAGE, "after Flatten"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool1d(2)), IMAGE, "layer 1 expects 1 axes"),
        (lambda: nn.Conv2d(1, 2, 3), IMAGE, "expected one output vector"),
        (lambda: _Uneven(), IMAGE, "expected equal shapes"),
    ],
)
def test_inputs_that_do_not_fit(net: Callable[[], nn.Module], shape: tuple[int, ...], message: str) -> None:
    kernel = infinite.kernel(attached(net()))
    with pytest.raises(ValueError, match=message):
        kernel.gram(torch.zeros(2, *shape))


class _Uneven(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x)
