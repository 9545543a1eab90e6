"""The batched forward pass equals one `functional_call` a chain, in both layouts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from bnnpriors.batched import forward_for, is_dense

ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity, lambda: nn.LeakyReLU(0.2), lambda: nn.ReLU(inplace=True),
]  # fmt: skip


class Residual(nn.Module):
    """h + f(h) with the arithmetic as operators, functions and methods in turn."""

    def __init__(self, width: int, style: int, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width, bias=bias), nn.Linear(width, width)
        self.style = style

    def forward(self, h: Tensor) -> Tensor:
        h = self.first(h)
        if self.style == 0:
            return h + self.second(torch.tanh(h))
        if self.style == 1:
            return torch.add(h, F.leaky_relu(self.second(h), 0.3), alpha=0.5)
        return h.mul(0.5).sub(self.second(h.relu()).sin()) / 2 - 1.0


def _net(draw: st.DrawFn, inputs: int, flatten: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()] if flatten else []
    for _ in range(draw(st.integers(1, 3))):
        outputs = draw(st.integers(1, 5))
        layers.append(nn.Linear(inputs, outputs, bias=draw(st.booleans())))
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from(ACTIVATIONS))())
        if draw(st.booleans()):
            layers.append(nn.Sequential(Residual(outputs, draw(st.integers(0, 2)), draw(st.booleans()))))
        inputs = outputs
    return nn.Sequential(*layers)


@st.composite
def dense_cases(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...], int]:
    """A feed-forward or residual network, the shape of one example, a seed."""
    flatten = draw(st.booleans())
    shape = draw(st.sampled_from([(1, 2, 3), (4,), (2, 2)])) if flatten else (draw(st.integers(1, 4)),)
    return _net(draw, torch.Size(shape).numel(), flatten), shape, draw(st.integers(0, 2**31))


def _stacked(net: nn.Module, chains: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        name: torch.randn(chains, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in net.named_parameters()
        if value.requires_grad
    }


def _check(net: nn.Module, shape: tuple[int, ...], *, dense: bool, seed: int = 0, chains: int = 3) -> None:
    """Values, and gradients in the weights, for shared and own inputs, against a loop over the chains."""
    net = net.double()
    generator = torch.Generator().manual_seed(seed)
    before = dict(net.named_parameters(remove_duplicate=False))
    weights = {name: value.requires_grad_() for name, value in _stacked(net, chains, generator).items()}
    forward = forward_for(net, torch.zeros(1, *shape, dtype=torch.float64))
    assert is_dense(forward) is dense
    for per_chain, batch in ((False, 5), (True, 5), (False, 1), (True, 1), (True, chains)):
        lead = (chains, batch) if per_chain else (batch,)
        x = torch.randn(*lead, *shape, generator=generator, dtype=torch.float64)
        each = [
            functional_call(
                copy.deepcopy(net), {n: v[c] for n, v in weights.items()}, (x[c] if per_chain else x,)
            )
            for c in range(chains)
        ]
        expected = torch.stack(each)
        outputs = forward(weights, x, per_chain)
        assert outputs.shape == expected.shape
        torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-9)
        probe = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        inputs = tuple(weights.values())
        for got, want in zip(
            torch.autograd.grad((outputs * probe).sum(), inputs, allow_unused=True),
            torch.autograd.grad((expected * probe).sum(), inputs, allow_unused=True),
            strict=True,
        ):
            assert (got is None) == (want is None)
            if got is not None:
                torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
    assert all(value is before[name] for name, value in net.named_parameters(remove_duplicate=False))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(dense_cases())
def test_dense_networks_run_feature_major(case: tuple[nn.Module, tuple[int, ...], int]) -> None:
    net, shape, seed = case
    _check(net, shape, dense=True, seed=seed)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 2), st.integers(1, 3), st.sampled_from(ACTIVATIONS), st.integers(0, 2**31))
def test_convolutional_networks_run_by_vmap(
    stride: int, width: int, act: Callable[[], nn.Module], seed: int
) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, width, 3, stride=stride, padding=1), act(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 3)
    )  # fmt: skip
    _check(net, (2, 5, 5), dense=False, seed=seed)


class Module(nn.Module):
    """A forward given as a function of the module."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    net[3] = net[0]
    return net


def _frozen(bias: bool) -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    net[0].weight.requires_grad_(False)
    if bias:
        net[2].bias.requires_grad_(False)
    return net


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (_tied(), (3,)),
        (_frozen(False), (3,)),
        (_frozen(True), (3,)),
        (Module(lambda m, x: m.a(x) + m.b(x), a=nn.Linear(3, 2), b=nn.Linear(3, 2)), (3,)),
        (Module(lambda m, x: m.a(m.f(x)) * m.a(m.f(x)), a=nn.Linear(6, 2), f=nn.Flatten()), (2, 3)),
        (nn.Sequential(nn.Flatten(), nn.Flatten(), nn.Linear(6, 2)), (2, 3)),
    ],
    ids=["tied", "frozen", "frozen_two", "two_branches", "flatten_twice", "flatten_flatten"],
)
def test_dense_special_cases(net: nn.Module, shape: tuple[int, ...]) -> None:
    _check(net, shape, dense=True)
    _check(net, shape, dense=True, chains=1)


def _hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


class DoubledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


FALLBACKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bare_layer": (lambda: nn.Linear(3, 2), (3,)),
    "layer_norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (3,)),
    "last_dimension_only": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (5, 3)),
    "partial_flatten": (lambda: nn.Sequential(nn.Flatten(2), nn.Linear(6, 2)), (4, 2, 3)),
    "input_arithmetic": (lambda: Module(lambda m, x: m.a(2 * x), a=nn.Linear(3, 2)), (3,)),
    "input_residual": (lambda: Module(lambda m, x: x + m.a(x), a=nn.Linear(3, 3)), (3,)),
    "activation_first": (lambda: nn.Sequential(nn.Tanh(), nn.Linear(3, 2)), (3,)),
    "unflattened_branch": (
        lambda: Module(
            lambda m, x: m.b(m.f(x)) + m.a(x).sum(1), a=nn.Linear(3, 2), b=nn.Linear(6, 2), f=nn.Flatten()
        ),
        (2, 3),
    ),
    "loose_parameter": (
        lambda: Module(lambda m, x: m.gain * m.a(x), a=nn.Linear(3, 2), gain=nn.Parameter(torch.ones(2))),
        (3,),
    ),
    "transposed_tie": (lambda: Module(lambda m, x: F.linear(m.a(x), m.a.weight.T), a=nn.Linear(3, 2)), (3,)),
    "data_in_python": (
        lambda: Module(lambda m, x: m.a(x) if x.shape[-1] == 3 else x, a=nn.Linear(3, 2)),
        (3,),
    ),
    "softmax": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2)), (3,)),
    "hook": (_hooked, (3,)),
    "own_linear": (lambda: nn.Sequential(DoubledLinear(3, 2)), (3,)),
    "weight_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)),
        (3,),
    ),
    "keyword": (lambda: Module(lambda m, x: m.r(input=m.a(input=x)), a=nn.Linear(3, 2), r=nn.ReLU()), (3,)),
    "shared_layer": (lambda: nn.Sequential(_tied(), nn.LayerNorm(3)), (3,)),
    "mean": (lambda: Module(lambda m, x: m.a(x).mean(1, keepdim=True), a=nn.Linear(3, 2)), (3,)),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_networks_that_need_their_own_layout_run_by_vmap(name: str) -> None:
    make, shape = FALLBACKS[name]
    _check(make(), shape, dense=False)
    _check(make(), shape, dense=False, chains=1)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.memory, self.out = kind(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.memory(x)[0][:, -1])


def _by_weights(m: Module, x: Tensor) -> Tensor:
    return m.a(x) if m.a.weight.sum() > 0 else m.a(x).tanh()


def _by_activations(m: Module, x: Tensor) -> Tensor:
    h = m.a(x)
    while h.square().mean() > 0.1:
        h = h / 2
    return h


LOOPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LSTM": (lambda: Recurrent(nn.LSTM), (5, 3)),
    "GRU": (lambda: Recurrent(nn.GRU), (5, 3)),
    "RNN": (lambda: Recurrent(nn.RNN), (5, 3)),
    "if_on_weights": (lambda: Module(_by_weights, a=nn.Linear(3, 2)), (3,)),
    "while_on_activations": (lambda: Module(_by_activations, a=nn.Linear(3, 2)), (3,)),
    "if_on_inputs": (
        lambda: Module(lambda m, x: m.a(x) if x.sum() > 0 else -m.a(x), a=nn.Linear(3, 2)),
        (3,),
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_networks_that_vmap_cannot_batch_run_chain_after_chain(name: str) -> None:
    make, shape = LOOPS[name]
    _check(make(), shape, dense=False)
    _check(make(), shape, dense=False, chains=1)


def test_integer_inputs() -> None:
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 2))
    weights = {n: torch.stack([v.detach(), 2 * v.detach()]) for n, v in net.named_parameters()}
    x = torch.tensor([[0, 6], [3, 3], [1, 2]])
    outputs = forward_for(net, x)(weights, x, False)
    for chain in range(2):
        single = {name: value[chain] for name, value in weights.items()}
        torch.testing.assert_close(outputs[chain], functional_call(net, single, (x,)))


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_a_frozen_parameter_is_read_at_each_call(shape: tuple[int, ...]) -> None:
    net = _frozen(True) if shape == (3,) else nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten())
    frozen = net[2].bias if shape == (3,) else net[0].bias.requires_grad_(False)
    weights = {
        n: v.detach()[None].repeat(2, *[1] * v.ndim) for n, v in net.named_parameters() if v.requires_grad
    }
    x = torch.ones(4, *shape)
    forward = forward_for(net, x)
    before = forward(weights, x, False)
    with torch.no_grad():
        frozen.add_(1.0)
    torch.testing.assert_close(forward(weights, x, False), before + 1.0)
