"""A program as steps on planes of covariances: what the fused kernel does, before its memory is laid out.

A plane holds the covariances of all pairs of positions that are one offset (dy, dx) apart: of equal positions where it is (0, 0).
Under convolutions of stride 1 with independent taps each plane follows from itself alone; strides, pooling and correlated taps
mix planes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from . import library
from .program import Positions, Window

Pair = tuple[int, int]


class Unfusable(Exception):
    """Why the fused kernel does not take a program."""


@dataclass(eq=False)
class Value:
    """What a step makes.

    Attributes:
        height, width: of the plane of equal positions. is_full: whether there are planes for other offsets.
        segment: of the step that makes it; the last segment makes values that are not full.
    """

    height: int
    width: int
    is_full: bool = False
    segment: int = -1

    @property
    def shape(self) -> Pair:
        return self.height, self.width


class Term(NamedTuple):
    """A weight times the sum over a box of taps, which begins at tap (y, x), of entries between positions (dy, dx) apart."""

    dy: int
    dx: int
    y: int
    x: int
    height: int
    width: int
    weight: float


@dataclass(eq=False)
class Step:
    """target ← f(weight · (the sum over a window of the source, or over its terms) + bias) + added."""

    kind: int
    target: Value
    source: Value | None = None
    added: Value | None = None
    size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Pair = (0, 0)
    activation: int = library.NONE
    map: int = 0
    weight: float = 1.0
    bias: float = 0.0
    slope: float = 0.0
    terms: list[Term] = field(default_factory=list)

    @property
    def mixes(self) -> bool:
        """Whether a plane of the target depends on other planes of the source than its own."""
        is_full = self.source is not None and self.source.is_full and self.target.is_full
        return is_full and (self.stride != (1, 1) or any(term.dy or term.dx for term in self.terms))

    @property
    def is_pointwise(self) -> bool:
        """Whether an entry of the target depends on the same entry of the source alone."""
        simple = self.size == self.stride == (1, 1) and self.padding == (0, 0)
        return simple and self.kind == library.WINDOW

    def read_at(self, offset: Pair) -> Iterator[Pair]:
        """The offsets of the source's planes that one plane of the target depends on."""
        assert self.source is not None
        shifts = {(term.dy, term.dx) for term in self.terms} or {(0, 0)}
        for shift in shifts:
            place = tuple(d * s + e for d, s, e in zip(offset, self.stride, shift, strict=True))
            if abs(place[0]) < self.source.height and abs(place[1]) < self.source.width:
                yield place[0], place[1]


def plane(positions: Positions) -> Pair:
    """Height and width of positions on two axes, one or none."""
    if len(positions) > 2:
        raise Unfusable(f"it has {len(positions)} axes of positions, expected two at most")
    padded = (1, 1, *positions)[-2:]
    return padded[0], padded[1]


def window_step(source: Value, target: Value, window: Window, weight: float, bias: float) -> Step:
    """A convolution whose taps share their variance: the sum over a window."""
    size, stride, dilation = plane(window.size), plane(window.stride), plane(window.dilation)
    padding = ((0, 0), *(pair for pair in window.padding))[-2:]
    if len(window.size) < 1:
        padding = ((0, 0), (0, 0))
    low = (padding[0][0], padding[1][0])
    return Step(library.WINDOW, target, source, None, size, stride, dilation, low, weight=weight, bias=bias)


def tap_terms(matrix: Tensor, size: Pair, dilation: Pair) -> list[Term]:
    """Σ_pp' as terms: boxes where Σ depends on p' − p alone, single taps where not.

    Args:
        matrix: Σ, [taps, taps].
    """
    height, width = size
    taps = torch.arange(height * width)
    down = taps // width - (taps // width)[:, None] + height - 1
    right = taps % width - (taps % width)[:, None] + width - 1
    shift = (down * (2 * width - 1) + right).flatten()
    values, places = matrix.flatten(), torch.zeros((2 * height - 1) * (2 * width - 1), dtype=matrix.dtype)
    highest = places.scatter_reduce(0, shift, values, "amax", include_self=False)
    lowest = places.scatter_reduce(0, shift, values, "amin", include_self=False)
    is_even = torch.isclose(highest, lowest, rtol=1e-15, atol=0)
    terms = []
    for place in (is_even & (highest != 0)).nonzero()[:, 0].tolist():
        ey, ex = place // (2 * width - 1) - height + 1, place % (2 * width - 1) - width + 1
        box = (max(0, -ey), max(0, -ex), height - abs(ey), width - abs(ex))
        terms.append(Term(ey * dilation[0], ex * dilation[1], *box, float(highest[place])))
    for entry in ((~is_even[shift]) & (values != 0)).nonzero()[:, 0].tolist():
        (y, x), (other_y, other_x) = (divmod(tap, width) for tap in divmod(entry, height * width))
        shifts = ((other_y - y) * dilation[0], (other_x - x) * dilation[1])
        terms.append(Term(*shifts, y, x, 1, 1, float(values[entry])))
    return terms


def pooling(matrix: Tensor, before: Pair, after: Pair) -> tuple[Pair, Pair, float]:
    """Size, stride and weight of average pooling without padding, from its matrix.

    Args:
        matrix: [outputs, inputs].

    Raises:
        Unfusable: another map than such pooling.
    """
    grid = matrix.reshape(*after, *before)
    first = grid[0, 0]
    inside = first.nonzero()
    if not len(inside):
        raise Unfusable("its pooling ignores positions")
    size = tuple(int(inside[:, axis].max()) + 1 for axis in range(2))
    stride = tuple(
        (before[axis] - size[axis]) // (after[axis] - 1) if after[axis] > 1 else 1 for axis in range(2)
    )
    if len(before) == 2 and after[0] > 1:
        stride = (int(grid[1, 0].nonzero()[:, 0].min()), stride[1])
    if after[1] > 1:
        stride = (stride[0], int(grid[0, 1].nonzero()[:, 1].min()))
    weight = float(first[0, 0])
    expected = torch.zeros_like(grid)
    for y, x in product(range(after[0]), range(after[1])):
        expected[y, x, y * stride[0] : y * stride[0] + size[0], x * stride[1] : x * stride[1] + size[1]] = (
            weight
        )
    if not torch.allclose(expected, grid, rtol=1e-12, atol=0):
        raise Unfusable("its pooling has padding, or windows of different sizes")
    return (size[0], size[1]), (stride[0], stride[1]), weight


def offsets_of_segments(steps: Sequence[Step], segments: int) -> list[list[Pair]]:
    """The offsets for which each segment has to run, from the last to the first; the last is that of equal positions."""
    needed: list[set[Pair]] = [set() for _ in range(segments)] + [{(0, 0)}]
    for segment in range(segments - 1, -1, -1):
        for step in steps:
            if step.kind == library.READOUT and step.source is not None and step.source.segment == segment:
                needed[segment].update(step.read_at((0, 0)))
                continue
            later = step.target.segment
            if later <= segment or later >= segments:
                continue
            if step.source is not None and step.source.segment == segment:
                for offset in needed[later]:
                    needed[segment].update(step.read_at(offset))
            if step.added is not None and step.added.segment == segment:
                needed[segment] |= needed[later]
    return [sorted(offsets) for offsets in needed]
