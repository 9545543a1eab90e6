"""A program as steps on planes of covariances: what the fused kernel does, before its memory is laid out.

A plane holds the covariances of all pairs of positions that are one offset (dy, dx) apart: of equal positions where it is (0, 0).
Under convolutions of stride 1 with independent taps each plane follows from itself alone; strides, pooling and correlated taps
mix planes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from . import library

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


@dataclass(frozen=True)
class MapOf:
    """Which pair of numbers of each image a step reads at its positions."""

    node: int
    start: int
    count: int


@dataclass
class Lowered:
    """What the fused kernel does for inputs of one shape.

    Attributes:
        steps: in an order in which each follows those that it reads. result: what the kernel is.
        start: the node that is taken as the input. transforms: linear maps of positions that are applied to the inputs before.
        maps: what is needed of each image by itself. map_size: the positions of all of them.
        segments: how many run over offsets, before the one of equal positions.
    """

    steps: list[Step]
    result: Value
    start: int
    transforms: list[Callable[[Tensor], Tensor]]
    maps: list[MapOf]
    map_size: int
    segments: int

    @property
    def is_full(self) -> bool:
        """Whether covariances of different positions play a part."""
        return self.segments > 0

    @property
    def work(self) -> int:
        """The entries that all steps make for one pair of images, about."""
        areas = (step.target.height * step.target.width for step in self.steps)
        return sum(
            area**2 if step.target.is_full else area for step, area in zip(self.steps, areas, strict=True)
        )

    @property
    def nonlinear(self) -> int:
        """The entries of nonlinearities for one pair of images."""
        areas = [(step.target.height * step.target.width, step) for step in self.steps if step.activation]
        return sum(area**2 if step.target.is_full else area for area, step in areas)

    @property
    def maps_need_all_pairs(self) -> bool:
        """Whether the variances of an image by itself need covariances of different positions."""
        read_out = any(step.kind == library.READOUT for step in self.steps)
        late = any(
            step.activation != library.NONE and step.target.segment == self.segments for step in self.steps
        )
        return any(step.mixes for step in self.steps) or (read_out and late)


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
