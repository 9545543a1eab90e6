"""What a program needs for inputs of one shape: positions, and where covariances between different positions are wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .program import (
    Convolution,
    Dense,
    Flatten,
    Node,
    PositionMap,
    Positions,
    Program,
    Sum,
)


@dataclass(frozen=True)
class Plan:
    """A program laid out for one shape of input.

    Attributes:
        program: what is laid out. positions: of each node's value.
        is_full: whether a node's value is the covariance of all pairs of positions; of equal positions otherwise.
        is_used: whether the output depends on the node.
        last_use: the last node that reads the value of each node.
    """

    program: Program
    positions: tuple[Positions, ...]
    is_full: tuple[bool, ...]
    is_used: tuple[bool, ...]
    last_use: tuple[int, ...]

    def size(self, number: int) -> int:
        """The elements of a node's value for one pair of inputs."""
        return math.prod(self.positions[number]) ** (2 if self.is_full[number] else 1)

    @property
    def peak(self) -> int:
        """Elements for one pair of inputs that are in memory at once, temporaries of an operation included."""
        most = 0
        for number, node in enumerate(self.program.nodes):
            if not self.is_used[number]:
                continue
            alive = sum(self.size(i) for i in range(number) if self.is_used[i] and self.last_use[i] >= number)
            own = self.size(number)
            if isinstance(node, Convolution):
                own += math.prod(self.positions[node.sources[0]]) * self._gathered(number, node)
            most = max(most, alive + 8 * max([own, *(self.size(i) for i in node.sources)]))
        return most

    def _gathered(self, number: int, node: Convolution) -> int:
        """Temporaries of a convolution for one pair and one input position."""
        taps = self.program.layers[node.layer].taps
        if taps is None or not taps.is_correlated:
            return 1
        if self.is_full[number]:
            return math.prod(self.positions[node.sources[0]])
        return math.prod(node.window.size) ** 2


def lay_out(program: Program, shape: tuple[int, ...]) -> Plan:
    """The plan for inputs of this shape, [channels, *positions] or [features].

    Raises:
        ValueError: the shape does not fit a layer (the message names it), or the output has several positions.
    """
    positions = _shapes(program, shape)
    output = len(program.nodes) - 1
    if math.prod(positions[output]) > 1:
        raise ValueError(
            f"infinite.kernel: the network gives {positions[output]} positions for inputs of shape {tuple(shape)}, expected one "
            "output vector an input; end it with Flatten and Linear, or with a mean over positions"
        )
    needs: list[bool | None] = [None] * len(program.nodes)
    needs[output] = False
    last_use = list(range(len(program.nodes)))
    for number in range(output, -1, -1):
        node, need = program.nodes[number], needs[number]
        if need is None:
            continue
        for source in node.sources:
            own = _wants_full(program, node, need) and math.prod(positions[source]) > 1
            needs[source] = bool(needs[source]) or own
            last_use[source] = max(last_use[source], number)
    return Plan(
        program,
        tuple(positions),
        tuple(bool(need) for need in needs),
        tuple(need is not None for need in needs),
        tuple(last_use),
    )


def _wants_full(program: Program, node: Node, is_full: bool) -> bool:
    """Whether the value of `node` needs all pairs of positions of its source."""
    if isinstance(node, Dense):
        return False
    if isinstance(node, PositionMap):
        return is_full or not node.is_local
    if isinstance(node, Convolution):
        taps = program.layers[node.layer].taps
        return is_full or (taps is not None and taps.is_correlated and math.prod(node.window.size) > 1)
    return is_full


def _shapes(program: Program, shape: tuple[int, ...]) -> list[Positions]:
    positions: list[Positions] = []
    channels: list[int] = []
    flat: list[bool] = []
    for node in program.nodes:
        before = [positions[i] for i in node.sources]
        width = channels[node.sources[0]] if node.sources else shape[0]
        is_flat = any(flat[i] for i in node.sources)
        after: Positions = before[0] if before else tuple(shape[1:])
        if isinstance(node, Convolution):
            if is_flat or len(after) != len(node.window.size) or width != node.channels[0]:
                _refuse(
                    node,
                    shape,
                    f"{node.channels[0]} channels and {len(node.window.size)} axes",
                    width,
                    after,
                    is_flat,
                )
            after, width = node.window.output(after), node.channels[1]
            if min(after) < 1:
                _refuse(
                    node,
                    shape,
                    f"positions for a window of size {node.window.size}",
                    width,
                    before[0],
                    is_flat,
                )
        elif isinstance(node, Dense):
            if (after and not is_flat) or width * math.prod(after) != node.features[0]:
                _refuse(node, shape, f"{node.features[0]} features (after Flatten)", width, after, is_flat)
            after, width, is_flat = (), node.features[1], False
        elif isinstance(node, PositionMap):
            if is_flat or len(after) != node.axes:
                _refuse(node, shape, f"{node.axes} axes of positions", width, after, is_flat)
            after = tuple(node.apply(torch.zeros(1, 1, *after)).shape[2:])
            is_flat = node.flattens
        elif isinstance(node, Flatten):
            is_flat = True
        elif isinstance(node, Sum) and (before[0] != before[1] or channels[node.sources[1]] != width):
            other = channels[node.sources[1]]
            raise ValueError(
                f"infinite.kernel: {node.name} adds {width} channels at {before[0]} to {other} at {before[1]} for inputs of "
                f"shape {tuple(shape)}, expected equal shapes"
            )
        positions.append(after)
        channels.append(width)
        flat.append(is_flat)
    return positions


def _refuse(
    node: Node, shape: tuple[int, ...], want: str, width: int, positions: Positions, flat: bool
) -> None:
    got = f"{width} channels" + (
        f" at {'flattened ' if flat else ''}positions {positions}" if positions else ""
    )
    raise ValueError(
        f"infinite.kernel: layer {node.name or type(node).__name__} expects {want} but gets {got} for inputs of shape "
        f"{tuple(shape)}; give inputs [batch, channels, *positions] as the module itself takes"
    )
