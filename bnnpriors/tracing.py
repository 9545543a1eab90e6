"""A function of tensors as one program: traced with `make_fx`, simplified, and compiled with inductor where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


class CompileError(RuntimeError):
    """A program that inductor could not compile."""


def trace(function: Callable[..., Any], args: tuple[Any, ...], *, compiled: bool) -> Callable[..., Any]:
    """`function` as a program for arguments of these shapes; itself where it cannot be traced (data-dependent control flow)."""
    fast_tanh = compiled and args[0].dtype == torch.float32 and args[0].device.type == "cpu"
    table = {torch.ops.aten.tanh.default: rational_tanh} if fast_tanh else {}
    with torch.no_grad():
        try:
            graph = make_fx(function, decomposition_table=table)(*args)
        except (RuntimeError, torch.fx.proxy.TraceError):
            return function
        _simplify(graph)
        if not compiled:
            return graph
        import torch._inductor as inductor

        for node in graph.graph.nodes:
            node.meta.clear()  # each holds a fake tensor of a mode of its own, which the C++ wrapper refuses
        tensors = [a for a in args if a is not None]
        try:
            program = inductor.compile(_without_none(graph, args), tensors, options={"cpp_wrapper": True})
        except RuntimeError as error:
            raise CompileError(
                f"compiling the potential failed ({error}): install a C++ compiler (g++) and Python's headers, "
                "or pass compile=False"
            ) from error
    return lambda *given: program(*[a for a in given if a is not None])


def _simplify(graph: torch.fx.GraphModule) -> None:
    """Remove what no output needs, and compute once what depends on no input: tracing leaves much of both.

    A graph with in-place operations keeps its constants, because a later operation may write to them.
    """
    graph.graph.eliminate_dead_code()
    if any(_writes(node) for node in graph.graph.nodes):
        graph.recompile()
        return
    constants: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            constants[node] = getattr(graph, node.target)
        elif node.op == "call_function" and all(n in constants for n in node.all_input_nodes):
            args = torch.fx.map_arg(node.args, constants.__getitem__)
            value = node.target(*args, **torch.fx.map_arg(node.kwargs, constants.__getitem__))
            constants[node] = value
            if not isinstance(value, Tensor):
                continue
            name = f"_constant_{len(constants)}"
            graph.register_buffer(name, value)
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.get_attr(name))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _without_none(graph: torch.fx.GraphModule, args: tuple[Any, ...]) -> torch.fx.GraphModule:
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node, value in zip(placeholders, args, strict=True):
        if value is None:
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def rational_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """tanh as an odd/even rational minimax approximation, absolute error below 4e-7 in float32 (the form Eigen and XLA use)."""
    x = x.clamp(-7.90531110763549805, 7.90531110763549805)
    z = x * x
    p = z * -2.76076847742355e-16 + 2.00018790482477e-13
    for coefficient in (
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ):
        p = p * z + coefficient
    q = z * 1.19825839466702e-06 + 1.18534705686654e-04
    for coefficient in (2.26843463243900e-03, 4.89352518554385e-03):
        q = q * z + coefficient
    return x * p / q
