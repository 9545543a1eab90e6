"""Which layers, functions and tensor methods have a kernel of infinite width, and what each adds to a program."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import activations
from .activations import Builder, Unsupported
from .program import Convolution, Dense, Flatten, PositionMap, Scale, Sum, Window

if TYPE_CHECKING:
    from .trace import Tracer


def _identity(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
    tracer.add(node, Scale(name, (tracer.source(node),), 1.0))


def _dropout(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
    if module.training and module.p > 0:
        raise Unsupported("dropout in training mode is random; call net.eval() or remove it")
    _identity(tracer, node, name, module)


def _dense(tracer: Tracer, node: fx.Node, name: str, module: nn.Linear) -> None:
    source = tracer.source(node)
    layer = tracer.layer(name, module, source)
    tracer.add(node, Dense(name, (source,), layer, (module.in_features, module.out_features)))


def _convolution(tracer: Tracer, node: fx.Node, name: str, module: nn.Conv1d | nn.Conv2d) -> None:
    if module.groups != 1:
        raise Unsupported(f"groups={module.groups}, expected 1: each output must see every channel")
    if module.padding_mode != "zeros":
        raise Unsupported(f"padding_mode={module.padding_mode!r}, expected 'zeros'")
    padding: list[tuple[int, int]]
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        padding = [(total // 2, total - total // 2) for total in totals]
    elif module.padding == "valid":
        padding = [(0, 0)] * len(module.kernel_size)
    else:
        padding = [(int(length), int(length)) for length in module.padding]
    window = Window(tuple(module.kernel_size), tuple(module.stride), tuple(module.dilation), tuple(padding))
    source = tracer.source(node)
    layer = tracer.layer(name, module, source)
    tracer.add(node, Convolution(name, (source,), layer, window, (module.in_channels, module.out_channels)))


def _argument(node: fx.Node, position: int, name: str, default: object) -> Any:
    return node.kwargs.get(name, node.args[position] if position < len(node.args) else default)


def _flatten(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
    if module is not None:
        start, end = module.start_dim, module.end_dim
    else:
        start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
    if (start, end) != (1, -1):
        raise Unsupported(
            f"dimensions {start} to {end} flattened, expected 1 to -1: everything but the batch"
        )
    tracer.add(node, Flatten(name, (tracer.source(node),)))


def _mean(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
    dims, keep = _argument(node, 1, "dim", None), bool(_argument(node, 2, "keepdim", False))
    axes = sorted(dims) if isinstance(dims, (tuple, list)) else [dims]
    count = len(axes)
    if axes not in (list(range(2, 2 + count)), list(range(-count, 0))) or count > 2:
        raise Unsupported(
            f"a mean over dimensions {dims}, expected all positions: (2, 3), or 2 for sequences"
        )
    pool = F.adaptive_avg_pool1d if count == 1 else F.adaptive_avg_pool2d
    apply = partial(pool, output_size=1)
    tracer.add(node, PositionMap(name, (tracer.source(node),), apply, count, flattens=not keep))


def _pool(axes: int) -> Builder:
    def build(tracer: Tracer, node: fx.Node, name: str, module: nn.Module) -> None:
        tracer.add(node, PositionMap(name, (tracer.source(node),), module.forward, axes))

    return build


@dataclass(frozen=True)
class _Applied:
    """A function of a tensor with its other arguments, which can be pickled."""

    function: Callable[..., Tensor]
    given: tuple[Any, ...]
    named: dict[str, Any]

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.given, **self.named)


def _pool_function(function: Callable[..., Tensor], axes: int) -> Builder:
    def build(tracer: Tracer, node: fx.Node, name: str, module: Any) -> None:
        if any(isinstance(part, fx.Node) for part in node.all_input_nodes[1:]):
            raise Unsupported("its arguments depend on a tensor; use nn.AvgPool2d or nn.AdaptiveAvgPool2d")
        tracer.add(
            node,
            PositionMap(
                name, (tracer.source(node),), _Applied(function, node.args[1:], dict(node.kwargs)), axes
            ),
        )

    return build


def _pad(axes: int) -> Builder:
    def build(tracer: Tracer, node: fx.Node, name: str, module: nn.Module) -> None:
        tracer.add(node, PositionMap(name, (tracer.source(node),), module.forward, axes, is_local=True))

    return build


def _sum(tracer: Tracer, node: fx.Node, name: str, module: Any, *, inplace: bool = False) -> None:
    if node.kwargs:
        raise Unsupported("only x + y is known; write factors as products")
    one, other = tracer.source(node, 0), tracer.source(node, 1)
    if tracer.shares(one, other):
        raise Unsupported(
            "both terms depend on the outputs of one layer, channel by channel, so they are correlated; end one of them with a "
            "Linear or convolution of its own"
        )
    if tracer.mean_terms and (tracer.is_input(one) or tracer.is_input(other)):
        raise Unsupported(
            "a skip from the inputs has as many channels as they, whatever the width; put a layer before it"
        )
    activations.check_inplace(tracer, node, inplace)
    tracer.add(node, Sum(name, (one, other)))


def _scale(tracer: Tracer, node: fx.Node, name: str, module: Any, *, divide: bool = False) -> None:
    numbers = [float(a) for a in node.args if isinstance(a, (int, float)) and not isinstance(a, bool)]
    position = 1 if isinstance(node.args[0], (int, float)) else 0
    if len(numbers) != 1 or node.kwargs or (divide and position == 1):
        raise Unsupported("only products of one tensor with a number are known")
    factor = 1 / numbers[0] if divide else numbers[0]
    tracer.add(node, Scale(name, (tracer.source(node, position),), factor))


BUILDERS: dict[type[nn.Module], Builder] = {
    nn.Linear: _dense,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Identity: _identity,
    nn.Dropout: _dropout,
    nn.Dropout1d: _dropout,
    nn.Dropout2d: _dropout,
    nn.Flatten: _flatten,
    nn.AvgPool1d: _pool(1),
    nn.AvgPool2d: _pool(2),
    nn.AdaptiveAvgPool1d: _pool(1),
    nn.AdaptiveAvgPool2d: _pool(2),
    nn.ZeroPad1d: _pad(1),
    nn.ZeroPad2d: _pad(2),
    **activations.MODULES,
}

FUNCTIONS: dict[Any, Builder] = {
    operator.add: _sum,
    torch.add: _sum,
    operator.iadd: partial(_sum, inplace=True),
    operator.mul: _scale,
    torch.mul: _scale,
    operator.truediv: partial(_scale, divide=True),
    torch.div: partial(_scale, divide=True),
    torch.flatten: _flatten,
    torch.mean: _mean,
    F.avg_pool1d: _pool_function(F.avg_pool1d, 1),
    F.avg_pool2d: _pool_function(F.avg_pool2d, 2),
    F.adaptive_avg_pool1d: _pool_function(F.adaptive_avg_pool1d, 1),
    F.adaptive_avg_pool2d: _pool_function(F.adaptive_avg_pool2d, 2),
    **activations.FUNCTIONS,
}

METHODS: dict[str, Builder] = {
    "flatten": _flatten,
    "mean": _mean,
    "add": _sum,
    "mul": _scale,
    "div": partial(_scale, divide=True),
    **activations.METHODS,
}

_NORMALISE = "normalisation makes units depend on each other; leave it out (the scale of the prior does its work), or use a skip"
REPLACEMENTS = {
    "MaxPool1d": "a maximum of correlated Gaussians has no closed form; use AvgPool1d",
    "MaxPool2d": "a maximum of correlated Gaussians has no closed form; use AvgPool2d",
    "AdaptiveMaxPool2d": "a maximum of correlated Gaussians has no closed form; use AdaptiveAvgPool2d",
    "max_pool2d": "a maximum of correlated Gaussians has no closed form; use avg_pool2d",
    "BatchNorm1d": _NORMALISE,
    "BatchNorm2d": _NORMALISE,
    "GroupNorm": _NORMALISE,
    "LayerNorm": _NORMALISE,
    "Softmax": "the likelihood applies the softmax (bp.likelihoods.Categorical); end the network with its Linear layer",
    "LogSoftmax": "the likelihood applies the softmax (bp.likelihoods.Categorical); end the network with its Linear layer",
    "ELU": "its second derivative jumps and no closed form is known here; use GELU, SiLU or ReLU",
    "Hardtanh": "use Tanh or torch.erf",
    "view": "use torch.flatten(x, 1)",
    "reshape": "use torch.flatten(x, 1)",
    "size": "use torch.flatten(x, 1) in place of x.view(x.size(0), -1)",
    "getattr": "use torch.flatten(x, 1) in place of x.view(x.shape[0], -1)",
    "linear": "use the module nn.Linear",
    "conv1d": "use the module nn.Conv1d",
    "conv2d": "use the module nn.Conv2d",
    "LSTM": "recurrent layers use their weights again at each step; use Linear or convolutions",
    "GRU": "recurrent layers use their weights again at each step; use Linear or convolutions",
    "MultiheadAttention": "attention is not supported; use Linear or convolutions",
}
