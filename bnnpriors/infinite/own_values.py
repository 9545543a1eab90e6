"""What the fused kernel reads of each image by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from .blocks import own_maps
from .maps import Maps
from .nonlinearities import Erf, LeakyReLU
from .plan import Plan
from .program import Activation, Convolution, Dense, Input, Program
from .recursion import Recursion
from .steps import Lowered


class OwnValues:
    """The inputs, the pairs of numbers that the steps read at each position, and K(x, x)."""

    def __init__(self, recursion: Recursion, lowered: Lowered) -> None:
        self._lowered = lowered
        self._is_whole = not lowered.is_full or lowered.maps_need_all_pairs or _correlates(recursion, lowered)
        self._recursion = recursion if self._is_whole else _of_equal_positions(recursion, lowered)

    def __call__(
        self, x: Float[Tensor, "n channels *positions"], memory: int
    ) -> tuple[Float[Tensor, "n channels points"], Float[Tensor, "n maps 2"], Float[Tensor, " n"] | None]:
        """All three; no K(x, x) where it takes covariances of different positions and the others do not."""
        moved = x
        for transform in self._lowered.transforms:
            moved = transform(moved)
        maps = own_maps(self._recursion, x if self._is_whole else moved, memory)
        pairs = x.new_empty(len(x), self._lowered.map_size, 2)
        for entry in self._lowered.maps:
            one, other = _pair(self._recursion.plan.program, maps, entry.node)
            place = slice(entry.start, entry.start + entry.count)
            pairs[:, place, 0], pairs[:, place, 1] = one.reshape(len(x), -1), other.reshape(len(x), -1)
        inputs = moved.reshape(len(x), x.shape[1], -1).contiguous()
        return inputs, pairs, maps.nngp if self._is_whole else None


def _pair(program: Program, maps: Maps, number: int) -> tuple[Tensor, Tensor]:
    """The two numbers of a step at each position, as `finish` in tile.hpp takes them."""
    node = program.nodes[number]
    if not isinstance(node, Activation):
        return maps.means[node.sources[0]], maps.means[node.sources[1]]
    v = maps.variances[number]
    if isinstance(node.function, LeakyReLU):
        positive = v.clamp_min(0)
        scale = abs(1 - node.function.slope) * (positive / (2 * math.pi)).sqrt()
        return scale, torch.where(positive > 0, positive.rsqrt(), 0.0)
    if isinstance(node.function, Erf):
        scale = torch.sqrt(2 / (1 + 2 * v))
        return scale, scale
    return v, torch.rsqrt(1 + v)


def _last(lowered: Lowered) -> int:
    """The last node of which something is read."""
    return max((entry.node for entry in lowered.maps), default=lowered.start)


def _correlates(recursion: Recursion, lowered: Lowered) -> bool:
    """Whether there are correlated taps, for which the recursion takes all pairs of positions."""
    program = recursion.plan.program
    layers = [
        program.layers[node.layer]
        for node in program.nodes[: _last(lowered)]
        if isinstance(node, Convolution)
    ]
    return any(layer.taps is not None and layer.taps.is_correlated for layer in layers)


def _of_equal_positions(recursion: Recursion, lowered: Lowered) -> Recursion:
    """The recursion up to the last variances that are needed, where they follow from those of equal positions alone."""
    plan, program = recursion.plan, recursion.plan.program
    last = _last(lowered)
    nodes = [*program.nodes[: last + 1], Dense("", (last,), 0, (0, 0))]  # a mean, which nobody reads
    nodes[lowered.start] = Input("", ())
    used, last_use = [False] * len(nodes), list(range(len(nodes)))
    used[-1] = True
    for number in range(len(nodes) - 1, -1, -1):
        for source in nodes[number].sources if used[number] else ():
            used[source] = True
            last_use[source] = max(last_use[source], number)
    short = Plan(
        replace(program, nodes=tuple(nodes)),
        (*plan.positions[: last + 1], ()),
        (False,) * len(nodes),
        tuple(used),
        tuple(last_use),
    )
    return Recursion(short, recursion.layers)
