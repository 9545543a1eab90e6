"""From a plan and its hyperparameters to the steps of the fused kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import library
from .nonlinearities import GELU, Erf, LeakyReLU
from .plan import Plan
from .program import Activation, Convolution, Dense, Flatten, Node, PositionMap, Scale, Sum
from .recursion import LayerValues
from .stencils import plane, pooling, tap_terms, window_step, zero_padding
from .steps import Lowered, MapOf, Pair, Step, Term, Unfusable, Value


def lower(plan: Plan, layers: Sequence[LayerValues]) -> Lowered:
    """The steps of a plan.

    Raises:
        Unfusable: with the reason, where the fused kernel does not take the program.
    """
    return _Lowering(plan, layers).run()


@dataclass
class _Lowering:
    plan: Plan
    layers: Sequence[LayerValues]
    steps: list[Step] = field(default_factory=list)
    maps: list[MapOf] = field(default_factory=list)
    map_size: int = 0

    def run(self) -> Lowered:
        nodes = self.plan.program.nodes
        start, transforms = self._inputs()
        self._values: dict[int, Value | Step] = {}
        self._diagonals: dict[Value, Value] = {}
        self._root = list(range(len(nodes)))
        for number, node in enumerate(nodes):
            if isinstance(node, Flatten) or (isinstance(node, Scale) and node.factor == 1):
                self._root[number] = self._root[node.sources[0]]
        self._readers = [0] * len(nodes)
        for number, node in enumerate(nodes):
            if self.plan.is_used[number] and self._root[number] == number:
                for source in node.sources:
                    self._readers[self._root[source]] += 1
        for number, node in enumerate(nodes):
            if number < start or not self.plan.is_used[number] or self._root[number] != number:
                continue
            if number == start:
                self._values[number] = Step(library.INPUT, self._value(number))
            else:
                self._values[number] = self._step(number, node)
        result = self._get(len(nodes) - 1)
        return self._finished(self._diagonal(result), start, transforms)

    def _inputs(self) -> tuple[int, list[Callable[[Tensor], Tensor]]]:
        """The node that is taken as the input: pooling of the inputs themselves comes before the kernel."""
        nodes, start = self.plan.program.nodes, 0
        transforms: list[Callable[[Tensor], Tensor]] = []
        while True:
            readers = [i for i, node in enumerate(nodes) if self.plan.is_used[i] and start in node.sources]
            if len(readers) != 1:
                return start, transforms
            node = nodes[readers[0]]
            if not isinstance(node, PositionMap):
                return start, transforms
            start = readers[0]
            transforms.append(node.apply)

    def _value(self, number: int) -> Value:
        positions = self.plan.positions[number]
        return Value(*plane(positions), is_full=self.plan.is_full[number])

    def _get(self, number: int) -> Value:
        """A node's value; the step that makes it is final from here on."""
        number = self._root[number]
        found = self._values[number]
        if isinstance(found, Value):
            return found
        self.steps.append(found)
        self._values[number] = found.target
        return found.target

    def _open(self, number: int) -> Step | None:
        """The step of a node that one other node reads, if more can be done in the same pass."""
        number = self._root[number]
        found = self._values[number]
        is_open = isinstance(found, Step) and self._readers[number] == 1 and found.kind != library.INPUT
        return found if is_open and isinstance(found, Step) and found.added is None else None

    def _diagonal(self, value: Value) -> Value:
        """The plane of equal positions by itself."""
        if not value.is_full:
            return value
        if value not in self._diagonals:
            self._diagonals[value] = self._read_out(
                value, value.shape, [Term(0, 0, 0, 0, 1, 1, 1.0)], (1, 1), (1, 1), (0, 0)
            )
        return self._diagonals[value]

    def _read_out(
        self, source: Value, shape: Pair, terms: list[Term], stride: Pair, dilation: Pair, padding: Pair
    ) -> Value:
        target = Value(*shape)
        step = Step(
            library.READOUT,
            target,
            source,
            stride=stride,
            dilation=dilation,
            padding=padding,
            terms=sorted(terms),
        )
        self.steps.append(step)
        return target

    def _step(self, number: int, node: Node) -> Step:
        if isinstance(node, Convolution):
            return self._convolution(number, node)
        if isinstance(node, Dense):
            source, layer = self._diagonal(self._get(node.sources[0])), self.layers[node.layer]
            weight = float(layer.weight_variance) / math.prod(source.shape)
            return Step(
                library.WINDOW,
                self._value(number),
                source,
                size=source.shape,
                weight=weight,
                bias=float(layer.bias_variance),
            )
        if isinstance(node, Activation):
            return self._activation(number, node)
        if isinstance(node, PositionMap):
            return self._position_map(number, node)
        if isinstance(node, Scale):
            return self._pointwise(number, node.sources[0], weight=node.factor**2)
        if isinstance(node, Sum):
            return self._sum(number, node)
        raise Unfusable(f"{node.name or type(node).__name__} is not part of it")

    def _pointwise(self, number: int, source: int, weight: float = 1.0) -> Step:
        target, value = self._value(number), self._get(source)
        if not target.is_full:
            value = self._diagonal(value)
        self._check_planes(value, target)
        return Step(library.WINDOW, target, value, weight=weight)

    def _check_planes(self, source: Value, target: Value) -> None:
        if target.is_full and not source.is_full:
            raise Unfusable("a single position becomes several whose covariances are all needed")

    def _activation(self, number: int, node: Activation) -> Step:
        source, function = node.sources[0], node.function
        step = self._open(source)
        if (
            step is None
            or step.activation != library.NONE
            or step.target.is_full != self.plan.is_full[number]
        ):
            step = self._pointwise(number, source)
        if isinstance(function, LeakyReLU):
            step.activation, step.slope = library.RELU, function.slope
        elif isinstance(function, Erf):
            step.activation = library.ERF
        elif isinstance(function, GELU):
            step.activation = library.GELU
        else:
            raise Unfusable(f"{function!r} is not part of it, only ReLU, LeakyReLU, GELU and erf")
        step.map = self._map(number)
        return step

    def _map(self, number: int) -> int:
        start, count = self.map_size, math.prod(self.plan.positions[number])
        self.maps.append(MapOf(number, start, count))
        self.map_size += count
        return start

    def _sum(self, number: int, node: Sum) -> Step:
        one, other = node.sources
        if self.plan.program.crosses_means(node):
            step = self._pointwise(number, one)
            step.activation, step.map = library.MEANS, self._map(number)
        else:
            opened = self._open(other)
            if opened is None:
                one, other = other, one
                opened = self._open(other)
            is_alike = opened is not None and opened.target.is_full == self.plan.is_full[number]
            step = opened if opened is not None and is_alike else self._pointwise(number, other)
        added = self._get(one if step.activation != library.MEANS else other)
        step.added = added if step.target.is_full else self._diagonal(added)
        self._check_planes(step.added, step.target)
        return step

    def _convolution(self, number: int, node: Convolution) -> Step:
        layer, window = self.layers[node.layer], node.window
        target, source = self._value(number), self._get(node.sources[0])
        self._check_planes(source, target)
        taps = self.plan.program.layers[node.layer].taps
        weight, bias = float(layer.weight_variance), float(layer.bias_variance)
        step = window_step(source, target, window, weight / math.prod(window.size), bias)
        terms: list[Term] = []
        if taps is not None:
            length = taps.lengthscale if layer.lengthscale is None else float(layer.lengthscale)
            matrix = weight * taps.shape(window.size, length)
            if not (taps.is_correlated and source.is_full):
                matrix = matrix.diag().diag()
            terms = tap_terms(matrix, step.size, step.dilation)
        elif source.is_full and (not target.is_full or step.stride != (1, 1)):
            terms = [Term(0, 0, 0, 0, *step.size, step.weight)]
        if not terms:
            return step
        if source.is_full and not target.is_full:
            read = self._read_out(source, target.shape, terms, step.stride, step.dilation, step.padding)
            return Step(library.WINDOW, target, read, bias=bias)
        step.kind, step.terms, step.weight = library.TERMS, terms, 1.0
        return step

    def _position_map(self, number: int, node: PositionMap) -> Step:
        before, target = self.plan.positions[node.sources[0]], self._value(number)
        source = self._get(node.sources[0])
        self._check_planes(source, target)
        count = math.prod(before)
        matrix = node.apply(torch.eye(count, dtype=torch.float64).reshape(count, 1, *before))
        matrix = matrix.reshape(count, -1).T
        if node.is_local:
            if not target.is_full:
                source = self._diagonal(source)
            padding = zero_padding(matrix, source.shape, target.shape)
            return Step(library.WINDOW, target, source, padding=padding)
        size, stride, weight = pooling(matrix, plane(before), target.shape)
        square = torch.full((math.prod(size),) * 2, weight**2, dtype=torch.float64)
        if not source.is_full:
            square = square.diag().diag()
        terms = tap_terms(square, size, (1, 1))
        if source.is_full and not target.is_full:
            read = self._read_out(source, target.shape, terms, stride, (1, 1), (0, 0))
            return Step(library.WINDOW, target, read)
        return Step(library.TERMS, target, source, size=size, stride=stride, terms=terms)

    def _finished(self, result: Value, start: int, transforms: list[Callable[[Tensor], Tensor]]) -> Lowered:
        """Segments: a step that mixes planes needs those of its source to be complete."""
        full = [step for step in self.steps if step.target.is_full]
        for step in full:
            sources = [value.segment for value in (step.source, step.added) if value is not None]
            step.target.segment = max(sources, default=0)
            if step.mixes:
                assert step.source is not None
                step.target.segment = max(step.target.segment, step.source.segment + 1)
        segments = max((step.target.segment for step in full), default=-1) + 1
        for step in self.steps:
            if not step.target.is_full:
                step.target.segment = segments
        return Lowered(self.steps, result, start, transforms, self.maps, self.map_size, segments)
