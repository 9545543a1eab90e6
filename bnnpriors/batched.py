"""One network with many sets of weights: outputs of all chains in one program.

Networks of linear layers, elementwise functions and sums run in a feature-major layout, [chains, features, batch], in
which every layer is one batched matrix product without a transposition; this is what makes small networks fast. Any
other module runs through `torch.vmap` of `functional_call`, or chain after chain where that cannot batch it (recurrent layers,
control flow that depends on weights or activations).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, fx, nn
from torch.func import functional_call, vmap

Forward = Callable[[Mapping[str, Tensor], Tensor, bool], Tensor]

ELEMENTWISE_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign,
    nn.Hardtanh, nn.ReLU6, nn.LogSigmoid, nn.Tanhshrink, nn.Identity,
)  # fmt: skip
ELEMENTWISE_FUNCTIONS = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, torch.add, torch.sub,
    torch.mul, torch.neg, torch.relu,
    torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.erf, torch.abs, torch.square, F.relu, F.leaky_relu, F.elu,
    F.gelu, F.silu, F.mish, F.tanh, F.sigmoid, F.softplus, F.hardtanh, F.relu6,
}  # fmt: skip
ELEMENTWISE_METHODS = {
    "relu",
    "tanh",
    "sigmoid",
    "sin",
    "cos",
    "exp",
    "erf",
    "abs",
    "square",
    "neg",
    "add",
    "sub",
    "mul",
}


def forward_for(net: nn.Module, inputs: Shaped[Tensor, "batch *one"]) -> Forward:
    """The function `f(weights, x, per_chain)` that evaluates `net` for every chain.

    Args:
        net: the module; parameters that `weights` lacks keep their present value.
        inputs: one example at least, of the shape and type of those to come; `net` may be run on one of them.

    Returns:
        a function of weights {name: [chains, *shape]}, x ([batch, ...] shared by the chains, or [chains, batch, ...] if
        `per_chain`), which returns [chains, batch, ...].
    """
    graph = _dense_graph(net, tuple(inputs.shape[1:]))
    if graph is not None:
        return _FeatureMajor(net, graph)
    return _vmapped(net) if _can_batch(net, inputs[:1]) else _looped(net)


def call_with_weights(
    net: nn.Module, weights: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Any:
    """`net(*args, **kwargs)` with `weights` in place of the parameters of those names, wherever they are shared.

    The tying of `functional_call` itself overwrites the parameters of a module registered under two names (PyTorch issue 164759).
    """
    places: dict[int, list[str]] = {}
    for prefix, module in net.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append(name)
    shared = {
        place: value for name, value in weights.items() for place in places[id(net.get_parameter(name))]
    }
    return functional_call(net, shared, args, kwargs, tie_weights=False)


def is_dense(forward: Forward) -> bool:
    """Whether the feature-major program was found."""
    return isinstance(forward, _FeatureMajor)


def _vmapped(net: nn.Module) -> Forward:
    one = _looped(net)

    def forward(weights: Mapping[str, Tensor], x: Tensor, per_chain: bool) -> Tensor:
        if _chains(weights) == 1:
            return one(weights, x, per_chain)
        over = vmap(
            lambda w, inputs: call_with_weights(net, w, (inputs,)), in_dims=(0, 0 if per_chain else None)
        )
        return over(dict(weights), x)

    return forward


def _looped(net: nn.Module) -> Forward:
    def forward(weights: Mapping[str, Tensor], x: Tensor, per_chain: bool) -> Tensor:
        outputs = []
        for chain in range(_chains(weights)):
            single = {name: value[chain] for name, value in weights.items()}
            outputs.append(call_with_weights(net, single, (x[chain] if per_chain else x,)))
        return torch.stack(outputs)

    return forward


def _chains(weights: Mapping[str, Tensor]) -> int:
    return next(iter(weights.values())).shape[0]


@torch.no_grad()
def _can_batch(net: nn.Module, example: Tensor) -> bool:
    """Whether `torch.vmap` runs `net` when weights and inputs both differ between chains.

    No control flow can then depend on either, so that the answer holds for all others too.
    """
    weights = {
        name: value.detach().expand(2, *value.shape)
        for name, value in net.named_parameters()
        if value.requires_grad
    }
    try:
        _vmapped(net)(weights, example.expand(2, *example.shape), True)
    except Exception:
        return False  # an error of the network's own is raised again by the loop
    return True


def _dense_graph(net: nn.Module, input_shape: tuple[int, ...]) -> fx.Graph | None:
    try:
        traced = fx.symbolic_trace(net)
    except Exception:
        return None
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != 1:
        return None
    if any(module._forward_hooks or module._forward_pre_hooks for module in net.modules()):
        return None
    raw = {placeholders[0]}
    flat = set(raw) if len(input_shape) == 1 else set()
    for node in traced.graph.nodes:
        if node.op == "call_module":
            module = net.get_submodule(node.target)
            if len(node.args) != 1 or node.kwargs:
                return None
            if isinstance(module, nn.Flatten):
                if node.args[0] not in raw or (module.start_dim, module.end_dim) != (1, -1):
                    return None
                raw.add(node)
                flat.add(node)
            elif type(module) not in (nn.Linear, *ELEMENTWISE_MODULES) or node.args[0] in raw - flat:
                return None
        elif node.op == "call_function":
            if node.target not in ELEMENTWISE_FUNCTIONS or raw & set(node.all_input_nodes):
                return None
        elif node.op == "call_method":
            if node.target not in ELEMENTWISE_METHODS or raw & set(node.all_input_nodes):
                return None
        elif node.op not in ("placeholder", "output"):
            return None
        if node.op == "call_module" and isinstance(module, ELEMENTWISE_MODULES) and node.args[0] in raw:
            return None
    output = next(node for node in traced.graph.nodes if node.op == "output")
    return None if not isinstance(output.args[0], fx.Node) or output.args[0] in raw else traced.graph


class _FeatureMajor(fx.Interpreter):
    """Runs the traced graph with h [chains, features, batch] between layers."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(net, garbage_collect_values=True, graph=graph)
        self._names = {id(p): name for name, p in net.named_parameters()}

    def __call__(
        self, weights: Mapping[str, Tensor], x: Tensor, per_chain: bool
    ) -> Float[Tensor, "chains batch out"]:
        self._weights, self._per_chain = weights, per_chain
        self._chains = _chains(weights)
        self._raw = x
        try:
            return self.run(x).transpose(1, 2)
        finally:
            del self._weights, self._raw

    def call_module(self, target: fx.node.Target, args: tuple, kwargs: dict) -> Tensor:
        module = self.fetch_attr(str(target))
        h = args[0]
        if isinstance(module, nn.Flatten):
            self._raw = h.flatten(2 if self._per_chain else 1)
            return self._raw
        return self._linear(module, h) if isinstance(module, nn.Linear) else module(h)

    def _linear(self, layer: nn.Linear, h: Tensor) -> Tensor:
        weight = self._value(layer.weight)
        bias = None if layer.bias is None else self._value(layer.bias)[..., None]
        if h is not self._raw:
            if bias is None:
                return torch.bmm(weight, h)
            return torch.baddbmm(bias, weight, h)
        if self._per_chain:
            product = torch.bmm(weight, h.transpose(1, 2))
        else:
            chains, out, features = weight.shape
            product = (weight.reshape(chains * out, features) @ h.T).view(chains, out, -1)
        return product if bias is None else product + bias

    def _value(self, parameter: Tensor) -> Tensor:
        value = self._weights.get(self._names[id(parameter)])
        return parameter.detach().expand(self._chains, *parameter.shape) if value is None else value
