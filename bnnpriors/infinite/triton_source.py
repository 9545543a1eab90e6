"""From the steps of a program to a Triton kernel: a tile of pairs of images goes through all of them in registers.

A sum over a window is a product with a band of zeros and ones along each axis, which tensor cores do; the rest is elementwise. So
nothing but what is known of each image by itself is read from memory, and nothing but the kernel is written. Steps that repeat
(layers of one shape) are a loop.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from . import library
from .bands import Axis, Extents, boxes
from .coefficients import coefficients
from .steps import Lowered, Step, Unfusable, Value

TILE_BYTES = 2**15
"""Of a tile in registers: 32 numbers of four bytes for each of 256 threads. Two tiles fit a processor of a GPU."""
LARGEST_BYTES = 2**16
"""Of a tile with one pair of large images, by 512 threads."""
MOST_PAIRS = 256
FUNCTIONS = {library.RELU: "relu", library.ERF: "erf", library.GELU: "gelu", library.MEANS: "means"}


@dataclass(frozen=True)
class Source:
    """A kernel, and the tables that it reads.

    Attributes:
        text: the function `pairs`. bands: of all windows, one after another. numbers: of each step, [steps, numbers].
        starts: where the maps of each step begin, [steps]. rows, columns: images of a tile. warps: that share one.
    """

    text: str
    bands: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    rows: int
    columns: int
    warps: int


def write_source(lowered: Lowered, itemsize: int) -> Source:
    """The kernel of the steps, for numbers of four or eight bytes.

    Raises:
        Unfusable: covariances of different positions, or images that do not fit a tile.
    """
    if lowered.is_full:
        raise Unfusable("on CUDA it does not do covariances of different positions")
    return _Writer(lowered, itemsize).run()


class _Writer:
    def __init__(self, lowered: Lowered, itemsize: int) -> None:
        self._lowered, self._itemsize = lowered, itemsize
        self._steps = lowered.steps
        self._extents = Extents(self._steps)
        self._slots = _slots(self._steps, lowered.result)
        self._places: dict[tuple[Axis, int], int] = {}
        self._bands: list[np.ndarray] = []
        self._size = 0

    def run(self) -> Source:
        areas = [math.prod(self._extents.shape(step.target.shape)) for step in self._steps]
        bytes_of_pair = max(areas) * self._itemsize
        if bytes_of_pair > LARGEST_BYTES:
            positions = max(step.target.height * step.target.width for step in self._steps)
            raise Unfusable(f"on CUDA {positions} positions do not fit the registers")
        pairs = min(MOST_PAIRS, max(1, TILE_BYTES // bytes_of_pair))
        columns = 1 << -(-(pairs.bit_length() - 1) // 2)
        self._rows, self._columns = pairs // columns, columns
        warps = max(1, min(16, pairs * bytes_of_pair // 4096))
        body = self._body()
        text = "\n\n\n".join([*self._polynomials(), self._kernel(body)]) + "\n"
        numbers = [self._numbers(step) for step in self._steps]
        table = np.zeros((len(numbers), max(map(len, numbers))))
        for row, values in zip(table, numbers, strict=True):
            row[: len(values)] = values
        bands = np.concatenate([np.zeros(1), *(band.ravel() for band in self._bands)])
        starts = np.array([step.map for step in self._steps], dtype=np.int32)
        return Source(text, bands, table, starts, self._rows, columns, warps)

    def _polynomials(self) -> list[str]:
        """`arc` and `sine`, by Horner's rule."""
        precision = "SINGLE" if self._itemsize == 4 else "DOUBLE"
        written = []
        for name in ("arc", "sine"):
            highest, second, *others = reversed(coefficients(f"{name.upper()}_{precision}"))
            lines = ["@triton.jit", f"def {name}(x):", f"    value = {highest!r} * x + {second!r}"]
            lines += [f"    value = value * x + {number!r}" for number in others]
            written.append("\n".join([*lines, "    return value"]))
        return written

    def _kernel(self, body: list[str]) -> str:
        lanes, rows = self._columns, self._rows
        share = lanes // rows
        result = f"s{self._slots[self._lowered.result]}"
        head = f"""@triton.jit
def pairs(row_inputs, column_inputs, row_maps, column_maps, bands, numbers, starts, out, pitch, row_count, column_count,
          row_begin, column_begin, row_tiles, column_tiles, channels, SYMMETRIC: tl.constexpr):
    row, column = place_of(tl.program_id(0), row_tiles, column_tiles, {max(1, 64 // rows)})
    first_row, first_column = row_begin + row * {rows}, column_begin + column * {lanes}
    is_needed = first_row < first_column + {lanes}
    if not SYMMETRIC:
        is_needed = first_row >= 0
    if is_needed:
        row_block, lane = (first_row // {lanes}).to(tl.int64), first_row % {lanes}
        column_block = (first_column // {lanes}).to(tl.int64)
        positions = {math.prod(self._steps[0].target.shape)}
        row_inputs += row_block * (channels * positions * {lanes}) + lane
        column_inputs += column_block * (channels * positions * {lanes})
        row_maps += row_block * {2 * self._lowered.map_size * lanes} + lane
        column_maps += column_block * {2 * self._lowered.map_size * lanes}
""".replace("first_row % 1\n", "0\n")
        assert share in (1, 2)
        tail = [
            f"write({result}, out, pitch, first_row, first_column, row_count, column_count, SYMMETRIC)",
        ]
        return head + "\n".join(" " * 8 + line for line in [*body, *tail])

    def _body(self) -> list[str]:
        """All steps, those that repeat in loops."""
        marks = [self._mark(step) for step in self._steps]
        states = self._states()
        lines: list[str] = []
        at = 0
        while at < len(marks):
            period, count = _repeats(marks, states, at)
            index = "step" if count > 1 else str(at)
            block: list[str] = []
            for offset in range(period):
                number = (f"({index} + {offset})" if offset else index) if count > 1 else str(at + offset)
                block += self._written(self._steps[at + offset], number, f"v{at + offset}")
            if count > 1:
                lines.append(f"for step in range({at}, {at + period * count}, {period}):")
                block = [f"    {line}" for line in block]
            lines += block
            at += period * count
        return lines

    def _mark(self, step: Step) -> Hashable:
        """What two steps have in common that differ in numbers and maps alone."""
        slots = tuple(None if v is None else self._slots[v] for v in (step.source, step.added, step.target))
        summed = () if step.source is None else tuple(box[:2] for box in boxes(step))
        return (
            step.kind,
            slots,
            summed,
            step.target.shape,
            step.activation,
            step.slope != 0,
            _is_affine(step),
        )

    def _states(self) -> list[dict[int, tuple[int, int]]]:
        """The shape of the tile in each slot before each step, and after the last."""
        states: list[dict[int, tuple[int, int]]] = [{}]
        for step in self._steps:
            shape = self._extents.shape(step.target.shape)
            states.append({**states[-1], self._slots[step.target]: shape})
        return states

    def _written(self, step: Step, number: str, new: str) -> list[str]:
        """One step; its number, which an index may be, and a name for what it makes that no other step has."""
        target, width = f"s{self._slots[step.target]}", self._width
        shape = (*step.target.shape, *self._extents.shape(step.target.shape), self._rows, self._columns)
        dimensions = ", ".join(map(str, shape))
        if step.source is None:
            return [f"{target} = start(row_inputs, column_inputs, channels, {dimensions})"]
        lines = self._summed(step, f"s{self._slots[step.source]}", number, new)
        if _is_affine(step):
            at = f"numbers + {number} * {width}"
            lines.append(f"{new} = {new} * tl.load({at}) + tl.load({at} + 1)")
        if step.activation != library.NONE:
            second = self._lowered.map_size * self._columns
            numbers = f"tl.load(numbers + {number} * {width} + 2), {step.slope != 0}"
            lines.append(f"{new}_first = tl.load(starts + {number}) * {self._columns}")
            maps = f"row_maps + {new}_first, column_maps + {new}_first, {second}"
            sizes = ", ".join(map(str, (*step.target.shape, self._rows, self._columns)))
            lines.append(f"{new} = {FUNCTIONS[step.activation]}({new}, {numbers}, {maps}, {sizes})")
        if step.added is not None:
            lines.append(f"{new} += s{self._slots[step.added]}")
        return [*lines, f"{target} = {new}"]

    def _summed(self, step: Step, source: str, number: str, new: str) -> list[str]:
        lines = []
        for place, (down, across, _) in enumerate(boxes(step)):
            value = source
            for axis, function, geometry in ((1, "across", across), (0, "down", down)):
                if not geometry.is_identity:
                    begin, rows = self._band(geometry, axis)
                    value = f"{function}({value}, bands + {begin}, {rows})"
            if step.terms:
                value = f"{value} * tl.load(numbers + {number} * {self._width} + {3 + place})"
            lines.append(f"{new} {'+' if place else ''}= {value}")
        return lines

    def _band(self, geometry: Axis, axis: int) -> tuple[int, int]:
        """Where a band begins among all, and its rows."""
        rows, columns = (self._extents.filled(n, axis) for n in (geometry.outputs, geometry.inputs))
        if (geometry, axis) not in self._places:
            self._places[geometry, axis] = 1 + self._size
            self._bands.append(geometry.matrix(rows, columns))
            self._size += rows * columns
        return self._places[geometry, axis], rows

    def _numbers(self, step: Step) -> list[float]:
        return [step.weight, step.bias, step.slope, *(term.weight for term in step.terms)]

    @property
    def _width(self) -> int:
        return 3 + max(len(step.terms) for step in self._steps)


def _is_affine(step: Step) -> bool:
    return (step.weight, step.bias) != (1.0, 0.0)


def _slots(steps: list[Step], result: Value) -> dict[Value, int]:
    """A number for each value, of those that are free once its step has read what it needs."""
    last = {value: i for i, step in enumerate(steps) for value in (step.source, step.added) if value}
    last[result] = len(steps)
    found: dict[Value, int] = {}
    for i, step in enumerate(steps):
        taken = {found[value] for value in found if last.get(value, -1) > i}
        found[step.target] = next(n for n in range(len(steps)) if n not in taken)
    return found


def _repeats(marks: list[Hashable], states: list[dict[int, tuple[int, int]]], at: int) -> tuple[int, int]:
    """The period and the number of repetitions, from one step on, that cover the most: (1, 1) where nothing repeats.

    What a loop changes has the same shape before as after each round.
    """
    best = (1, 1)
    for period in range(1, (len(marks) - at) // 2 + 1):
        block, count = marks[at : at + period], 1
        while marks[at + count * period : at + (count + 1) * period] == block:
            count += 1
        if states[at] != states[at + period] or count < 2:
            continue
        if period * count > best[0] * best[1]:
            best = (period, count)
    return best
