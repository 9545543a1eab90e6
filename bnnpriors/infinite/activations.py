"""Which nonlinearities of torch are known, as modules, functions and tensor methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import nonlinearities as phi
from .program import Activation

if TYPE_CHECKING:
    from .trace import Tracer

Builder = Callable[["Tracer", fx.Node, str, Any], None]


class Unsupported(Exception):
    """A layer, or its settings, without a known limit; the text says what to use."""


def _activation(
    tracer: Tracer, node: fx.Node, name: str, function: phi.Nonlinearity, inplace: bool = False
) -> None:
    source = tracer.source(node)
    if tracer.is_input(source):
        raise Unsupported(
            "it acts on the inputs themselves; apply it to the data, or put a layer with weights before it"
        )
    if not tracer.is_gaussian(source):
        raise Unsupported(
            "its input is not Gaussian: no Linear or convolution lies between it and the nonlinearity before; put one there"
        )
    check_inplace(tracer, node, inplace)
    tracer.add(node, Activation(name, (source,), function))


def check_inplace(tracer: Tracer, node: fx.Node, inplace: bool) -> None:
    """An in-place operation changes what later operations on the same tensor, or a view of it, see."""
    order = {other: position for position, other in enumerate(node.graph.nodes)}
    for changed in tracer.views(node.args[0]) if inplace else ():
        if any(order[user] > order[node] for user in changed.users):
            raise Unsupported(
                "it works in place on a tensor that is used again later; use inplace=False, and + instead of +="
            )


def _module(make: Callable[[Any], phi.Nonlinearity]) -> Builder:
    def build(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
        _activation(tracer, node, name, make(module), getattr(module, "inplace", False))

    return build


def _function(make: Callable[..., phi.Nonlinearity]) -> Builder:
    def build(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
        kwargs = dict(node.kwargs)
        inplace = bool(kwargs.pop("inplace", False))
        kwargs.pop("input", None)
        _activation(tracer, node, name, make(*node.args[1:], **kwargs), inplace)

    return build


def _relu(inplace: bool = False) -> phi.Nonlinearity:
    if inplace:
        raise Unsupported("inplace given by position; use inplace=False")
    return phi.LeakyReLU()


def _leaky(negative_slope: float = 0.01) -> phi.Nonlinearity:
    return phi.LeakyReLU(negative_slope)


def _gelu(approximate: str = "none") -> phi.Nonlinearity:
    if approximate == "none":
        return phi.GELU()
    return phi.Smooth(partial(F.gelu, approximate=approximate), f"GELU({approximate!r})")


def _tanh() -> phi.Nonlinearity:
    return phi.Smooth(torch.tanh, "Tanh", is_odd=True)


def _smooth(function: Callable[[Tensor], Tensor], name: str) -> Callable[..., phi.Nonlinearity]:
    return lambda *_: phi.Smooth(function, name)


MODULES: dict[type[nn.Module], Builder] = {
    nn.ReLU: _module(lambda _: phi.LeakyReLU()),
    nn.LeakyReLU: _module(lambda module: phi.LeakyReLU(module.negative_slope)),
    nn.GELU: _module(lambda module: _gelu(module.approximate)),
    nn.Tanh: _module(lambda _: _tanh()),
}
for _type in (nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Mish):
    MODULES[_type] = _module(lambda module: phi.Smooth(module.forward, type(module).__name__))

FUNCTIONS: dict[Any, Builder] = {
    torch.relu: _function(_relu),
    F.relu: _function(_relu),
    F.leaky_relu: _function(_leaky),
    F.gelu: _function(_gelu),
    torch.tanh: _function(_tanh),
    F.tanh: _function(_tanh),
    torch.erf: _function(phi.Erf),
    torch.special.erf: _function(phi.Erf),
    torch.sin: _function(phi.Sin),
    F.silu: _function(_smooth(F.silu, "SiLU")),
    torch.sigmoid: _function(_smooth(torch.sigmoid, "Sigmoid")),
}

METHODS: dict[str, Builder] = {
    "relu": _function(_relu),
    "tanh": _function(_tanh),
    "erf": _function(phi.Erf),
    "sin": _function(phi.Sin),
}
