"""Sums over windows as products with matrices of zeros and ones, one for each axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .steps import Pair, Step, Term

SMALLEST = 16
"""Rows and columns of a product that Triton takes."""


class Axis(NamedTuple):
    """A window along one axis: output o sums inputs o · stride + t · dilation − low for first <= t < first + taps."""

    inputs: int
    outputs: int
    stride: int
    dilation: int
    low: int
    first: int
    taps: int

    @property
    def is_identity(self) -> bool:
        """Whether nothing happens."""
        place = self.first * self.dilation - self.low
        same = self.inputs == self.outputs and (self.stride == 1 or self.outputs == 1)
        return same and self.taps == 1 and place == 0

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        """[outputs, inputs] of zeros and ones, filled up with zeros to this shape."""
        band = np.zeros((rows, columns))
        for tap in range(self.first, self.first + self.taps):
            outputs = np.arange(self.outputs)
            inputs = outputs * self.stride + tap * self.dilation - self.low
            inside = (inputs >= 0) & (inputs < self.inputs)
            band[outputs[inside], inputs[inside]] = 1.0
        return band


def boxes(step: Step) -> list[tuple[Axis, Axis, float]]:
    """What a step sums, before its own weight: windows of equal positions along both axes, and the weight of each."""
    assert step.source is not None
    terms = step.terms or [Term(0, 0, 0, 0, *step.size, 1.0)]
    found = []
    for term in terms:
        first, taps = (term.y, term.x), (term.height, term.width)
        down, across = (
            Axis(
                step.source.shape[axis],
                step.target.shape[axis],
                step.stride[axis],
                step.dilation[axis],
                step.padding[axis],
                first[axis],
                taps[axis],
            )
            for axis in range(2)
        )
        found.append((down, across, term.weight))
    return found


class Extents:
    """What the axes of tiles are filled up to: powers of two, from 16 on an axis that products are taken along."""

    def __init__(self, steps: list[Step]) -> None:
        pairs = [box[:2] for step in steps if step.source is not None for box in boxes(step)]
        is_summed = [any(not pair[axis].is_identity for pair in pairs) for axis in range(2)]
        self._least = [SMALLEST if summed else 1 for summed in is_summed]

    def filled(self, length: int, axis: int) -> int:
        """The extent of an axis with so many positions."""
        return max(self._least[axis], 1 << (length - 1).bit_length())

    def shape(self, shape: Pair) -> Pair:
        """Both extents."""
        return self.filled(shape[0], 0), self.filled(shape[1], 1)
