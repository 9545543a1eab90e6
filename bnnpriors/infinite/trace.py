"""From a torch module to its layer program, by symbolic tracing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import fx, nn

from ..module import BayesianModule
from .activations import Unsupported
from .layers import LayerPriors
from .operations import BUILDERS, FUNCTIONS, METHODS, REPLACEMENTS
from .program import Activation, Convolution, Dense, Flatten, Input, Node, Program, Scale


def trace(model: BayesianModule, *, mean_terms: bool = True) -> Program:
    """The layer program of a model.

    Raises:
        TypeError: no priors are attached. ValueError: the module cannot be traced, or holds a layer that has no known limit (the
            message names it and what to use), or a prior without one.
    """
    if not isinstance(model, BayesianModule):
        raise TypeError(
            f"infinite.kernel: {type(model).__name__} given, expected a module with priors: bp.attach(net, priors)"
        )
    return Tracer(model, mean_terms).program()


class Tracer:
    """Turns the nodes of the traced graph, one after another, into those of a program."""

    def __init__(self, model: BayesianModule, mean_terms: bool) -> None:
        self.mean_terms = mean_terms
        self._net = nn.Sequential(model.net)
        self._priors = LayerPriors(model)
        self._graph = _graph(self._net)
        self.nodes: list[Node] = []
        self.layers: list[Any] = []
        self._numbers: dict[fx.Node, int] = {}
        self._used: dict[int, str] = {}
        self._sources: list[frozenset[int]] = []
        self._gaussian: list[bool] = []

    def program(self) -> Program:
        """The program of the whole graph."""
        for node in self._graph.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                self._output(node)
            elif node.op != "get_attr":
                self._operation(node)
        return Program(tuple(self.nodes), tuple(self.layers), self.mean_terms)

    def _input(self, node: fx.Node) -> None:
        if self.nodes and not node.args:
            raise ValueError(
                f"infinite.kernel: the module takes several inputs ({node.target} is the second), expected one tensor"
            )
        if not self.nodes:
            self.add(node, Input("input", ()))

    def _output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or result not in self._numbers:
            raise ValueError(f"infinite.kernel: the module returns {result}, expected one tensor")
        number = self._numbers[result]
        if number != len(self.nodes) - 1:
            self.nodes = self.nodes[: number + 1]
        if not self._gaussian[number]:
            raise ValueError(
                f"infinite.kernel: the module ends in {self.nodes[number].name or 'its input'}, whose outputs are not Gaussian; "
                "end it with a Linear layer (the likelihood applies the softmax)"
            )

    def _operation(self, node: fx.Node) -> None:
        name, what = self._describe(node)
        if node.op == "call_module":
            module = self._net.get_submodule(str(node.target))
            table: Mapping[Any, Any] = BUILDERS
            key: Any = type(module)
        else:
            module = None
            table, key = (FUNCTIONS, node.target) if node.op == "call_function" else (METHODS, node.target)
        if key not in table:
            self.refuse(name, what, REPLACEMENTS.get(what))
        try:
            table[key](self, node, name, module)
        except Unsupported as reason:
            self.refuse(name, what, str(reason))

    def refuse(self, name: str, what: str, advice: str | None) -> NoReturn:
        """Raise ValueError for a layer without a limit."""
        advice = advice or (
            "use Linear, Conv1d, Conv2d, average pooling, Flatten, sums, and ReLU, LeakyReLU, Tanh, GELU, torch.erf or torch.sin"
        )
        raise ValueError(f"infinite.kernel: {name} ({what}) has no kernel here: {advice}")

    def add(self, node: fx.Node, new: Node) -> None:
        """Append a node, with what its channels depend on: the layers whose outputs they are functions of."""
        number = len(self.nodes)
        inherited = frozenset().union(*(self._sources[i] for i in new.sources))
        fresh = isinstance(new, (Input, Convolution, Dense))
        self._sources.append(frozenset({number}) if fresh else inherited)
        self._gaussian.append(
            isinstance(new, (Convolution, Dense))
            or (not isinstance(new, (Input, Activation)) and all(self._gaussian[i] for i in new.sources))
        )
        self.nodes.append(new)
        self._numbers[node] = number

    def source(self, node: fx.Node, position: int = 0) -> int:
        """The number of the node that is an argument of `node`."""
        argument = node.args[position] if position < len(node.args) else None
        if not isinstance(argument, fx.Node) or argument not in self._numbers:
            raise Unsupported("its arguments are not those of a layer; use the layer of torch.nn instead")
        return self._numbers[argument]

    def views(self, node: Any) -> list[fx.Node]:
        """A node of the graph, and those before it whose tensor it is a view of."""
        found = [node]
        while True:
            made = self.nodes[self._numbers[found[-1]]]
            if not (isinstance(made, Flatten) or (isinstance(made, Scale) and made.factor == 1)):
                return found
            found.append(found[-1].args[0])

    def is_gaussian(self, number: int) -> bool:
        """Whether a node's channels are Gaussian."""
        return self._gaussian[number]

    def is_input(self, number: int) -> bool:
        """Whether a node is the input, or a rearrangement of it: its channels stay as many as they are."""
        return self._sources[number] == {0}

    def shares(self, one: int, other: int) -> bool:
        """Whether two nodes are functions of the same layer's outputs, channel by channel."""
        return bool(self._sources[one] & self._sources[other])

    def layer(self, name: str, module: Any, source: int) -> int:
        """The number of a layer's priors."""
        if id(module.weight) in self._used:
            raise Unsupported(
                f"its weights are those of {self._used[id(module.weight)]}, and a layer that is used twice is not independent of "
                "itself; give each place a layer of its own"
            )
        self._used[id(module.weight)] = name
        self.layers.append(self._priors.layer(name, module, is_first=self.is_input(source)))
        return len(self.layers) - 1

    def _describe(self, node: fx.Node) -> tuple[str, str]:
        if node.op == "call_module":
            module = self._net.get_submodule(str(node.target))
            return str(node.target).partition(".")[2], type(module).__name__
        what = (
            node.target
            if isinstance(node.target, str)
            else getattr(node.target, "__name__", repr(node.target))
        )
        return f"'{node.name}'", what


def _graph(net: nn.Module) -> fx.Graph:
    for name, module in net.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"infinite.kernel: {name.partition('.')[2] or 'the module'} has forward hooks, which cannot be traced"
            )
    try:
        return fx.symbolic_trace(net).graph
    except Exception as error:
        raise ValueError(
            f"infinite.kernel: the module cannot be traced ({' '.join(str(error).split())}): its forward may not branch or "
            "loop on values or shapes of tensors"
        ) from error
