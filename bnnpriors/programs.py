"""Potentials of many chains as traced, and where it pays compiled, programs over flat tensors.

A program is traced once with `make_fx` per shape of its inputs, forward and backward together, so a call has no autograd tape
and no functorch dispatch. Compiling it with inductor fuses the elementwise work and replaces tanh by a rational
function of float32 accuracy; its wrapper is C++ too, which holds no interpreter lock, so threads run it side by side.
Which of the two runs, how many chains go into one call, and how many threads share them, is the `Plan`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Potential = Callable[..., Tensor]


class Plan(NamedTuple):
    """How potentials are evaluated; part of what makes a run reproducible bit for bit.

    Attributes:
        chunk_size: chains in one call. block_size: examples in one call. compiled: whether inductor compiles the programs.
        workers: threads that share the chains; each then evaluates its own with single-threaded programs.
        onednn: whether matrix products use oneDNN in place of the BLAS.
    """

    chunk_size: int
    block_size: int
    compiled: bool
    workers: int = 1
    onednn: bool = False


class Batch(NamedTuple):
    """Examples [batch, ...] shared by all chains, or [chains, batch, ...] if `per_chain`."""

    x: Tensor | None
    y: Tensor | None
    per_chain: bool


class CompileError(RuntimeError):
    """A program that inductor could not compile."""


class Cache:
    """The programs of one posterior, shared by all plans, and the lock of its module.

    Tracing, and a call of what cannot be traced, swap the module's own parameters for a moment, so only one thread does either.
    """

    def __init__(self) -> None:
        self.programs: dict[Any, Callable[..., Any]] = {}
        self.lock = threading.RLock()


class Programs:
    """Evaluates `potential(theta, prior_weight, x, y, scale=, per_chain=, with_prior=) -> [chains]` by chunks and blocks."""

    def __init__(self, potential: Potential, plan: Plan, cache: Cache) -> None:
        self.plan = plan
        self._potential = potential
        self._cache = cache

    def evaluate(
        self,
        theta: Float[Tensor, "chains dim"],
        prior_weight: Tensor,
        batch: Batch,
        scale: float,
        *,
        gradient: bool,
    ) -> tuple[Float64[Tensor, " chains"], Float[Tensor, "chains dim"] | None]:
        """Potential of each chain and, if asked, its gradient."""
        chains, size = theta.shape[0], self.plan.chunk_size
        if chains <= size:
            return self._blocks(theta, prior_weight, batch, scale, gradient)
        potentials, gradients = [], []
        for start in range(0, chains, size):
            part = slice(start, start + size)
            own = Batch(batch.x[part], batch.y[part], True) if batch.per_chain else batch  # type: ignore[index]
            value, grad = self._blocks(theta[part], prior_weight[part], own, scale, gradient)
            potentials.append(value)
            gradients.append(grad)
        return torch.cat(potentials), torch.cat(gradients) if gradient else None  # type: ignore[arg-type]

    def _blocks(
        self, theta: Tensor, prior_weight: Tensor, batch: Batch, scale: float, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        axis = 1 if batch.per_chain else 0
        length = 0 if batch.x is None else batch.x.shape[axis]
        if length <= self.plan.block_size:
            return self._call(theta, prior_weight, batch, scale, gradient, True)
        assert batch.x is not None
        assert batch.y is not None
        value: Tensor | float = 0.0
        grad: Tensor | None = None
        for start in range(0, length, self.plan.block_size):
            size = min(self.plan.block_size, length - start)
            block = Batch(
                batch.x.narrow(axis, start, size), batch.y.narrow(axis, start, size), batch.per_chain
            )
            block_value, block_grad = self._call(theta, prior_weight, block, scale, gradient, start == 0)
            value = value + block_value
            grad = block_grad if grad is None or block_grad is None else grad + block_grad
        return torch.as_tensor(value), grad

    def _call(
        self,
        theta: Tensor,
        prior_weight: Tensor,
        batch: Batch,
        scale: float,
        gradient: bool,
        with_prior: bool,
    ) -> tuple[Tensor, Tensor | None]:
        shape = None if batch.x is None else tuple(batch.x.shape)
        built = (self.plan.compiled, self.plan.compiled and self.plan.workers > 1)
        key = (built, theta.shape[0], shape, batch.per_chain, scale, gradient, with_prior)
        program = self._cache.programs.get(key)
        if program is None:
            with self._cache.lock:
                program = self._cache.programs.get(key) or self._build(
                    theta, prior_weight, batch, scale, gradient, with_prior
                )
                self._cache.programs[key] = program
        with torch.no_grad():
            result = program(theta, prior_weight, batch.x, batch.y)
        return (result[0], result[1]) if gradient else (result[0], None)

    def _build(
        self,
        theta: Tensor,
        prior_weight: Tensor,
        batch: Batch,
        scale: float,
        gradient: bool,
        with_prior: bool,
    ) -> Callable[..., Any]:
        def value(theta: Tensor, weight: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
            return self._potential(
                theta, weight, x, y, scale=scale, per_chain=batch.per_chain, with_prior=with_prior
            )

        def value_and_gradient(
            theta: Tensor, weight: Tensor, x: Tensor | None, y: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            def total(t: Tensor) -> tuple[Tensor, Tensor]:
                each = value(t, weight, x, y)
                return each.sum(), each

            grad, each = torch.func.grad(total, has_aux=True)(theta)
            return each, grad

        def value_only(theta: Tensor, weight: Tensor, x: Tensor | None, y: Tensor | None) -> tuple[Tensor]:
            return (value(theta, weight, x, y),)

        args = (theta, prior_weight, batch.x, batch.y)
        function = value_and_gradient if gradient else value_only
        program = trace(function, args, compiled=self.plan.compiled)
        return program if program is not function else self._untraced(function, theta.shape[0])

    def _untraced(self, function: Callable[..., Any], chains: int) -> Callable[..., Any]:
        def locked(*args: Any) -> Any:
            with self._cache.lock:
                try:
                    return function(*args)
                except RuntimeError as error:
                    if chains == 1:
                        raise
                    raise RuntimeError(
                        f"the network cannot be evaluated for {chains} chains at once: leave chunk_size out, or pass "
                        f"chunk_size=1 ({error})"
                    ) from error

        return locked


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
