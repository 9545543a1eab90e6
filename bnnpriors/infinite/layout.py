"""The memory of the fused kernel: where each value lives, and the arrays that the compiled part reads."""

from __future__ import annotations

import ctypes as c
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import library
from .steps import Lowered, Pair, Step, Term, Value, offsets_of_segments


@dataclass
class Layout:
    """A program of the compiled part, with the arrays that it points to.

    Attributes:
        program: the structure. keep: what has to live as long as it. terms: of the last readout, if they were asked for.
    """

    program: library.Program
    keep: list[Any]

    def work_vectors(self, group: int) -> int:
        """Vectors of memory that a thread needs for a group of images."""
        program = self.program
        scratch = 2 * program.line_size + program.plane_size
        return scratch + group * (program.locals * program.local_size + program.store_size)


def lay_out_memory(lowered: Lowered, inputs: Pair, channels: int, *, expand: Step | None = None) -> Layout:
    """Slots for all values, and the program.

    Args:
        inputs: height and width of the inputs. channels: of the inputs.
        expand: a readout whose terms are wanted one by one, without their weights; the result is then [terms].
    """
    steps = lowered.steps if expand is None else lowered.steps[: lowered.steps.index(expand) + 1]
    result = lowered.result if expand is None else expand.target
    offsets = offsets_of_segments(steps, lowered.segments)
    order = sorted(range(len(steps)), key=lambda i: (_segment(steps[i]), i))
    steps = [steps[i] for i in order]
    slots = _Slots(steps, result, offsets, expand)
    operations = (library.Operation * len(steps))()
    terms: list[tuple[float, ...]] = []
    ranges: list[int] = []
    for operation, step in zip(operations, steps, strict=True):
        _fill(operation, step, slots)
        operation.first, operation.count = len(terms), len(step.terms)
        if step.kind == library.READOUT:
            operation.first, operation.count = len(ranges), int(step is expand)
            at: dict[Pair, list[Term]] = defaultdict(list)
            for term in step.terms:
                at[term.dy, term.dx].append(term)
            for offset in offsets[_segment(step)]:
                ranges.append(len(terms))
                terms += [(*t[:-1], 1.0 if step is expand else t.weight) for t in at[offset]]
            ranges.append(len(terms))
        else:
            terms += step.terms
    term_array = (library.Term * max(1, len(terms)))(*(library.Term(*term) for term in terms))
    segments = (library.Segment * len(offsets))()
    first_operation = first_offset = 0
    for number, (segment, places) in enumerate(zip(segments, offsets, strict=True)):
        count = sum(_segment(step) == number for step in steps)
        segment.first_operation, segment.operations = first_operation, count
        segment.first_offset, segment.offsets = first_offset, len(places)
        first_operation, first_offset = first_operation + count, first_offset + len(places)
    flat = np.array([pair for places in offsets for pair in places], dtype=np.int32)
    range_array = np.array(ranges or [0], dtype=np.int32)
    tables = np.array(slots.tables or [0], dtype=np.int64)
    stores = (library.Store * max(1, len(slots.stores)))(*(library.Store(*store) for store in slots.stores))
    program = library.Program(
        operations=c.addressof(operations),
        terms=c.addressof(term_array),
        ranges=range_array.ctypes.data,
        segments=c.addressof(segments),
        offsets=flat.ctypes.data,
        stores=c.addressof(stores),
        tables=tables.ctypes.data,
        local_size=slots.local_size,
        store_size=slots.store_size,
        line_size=max(map(_line, steps)),
        plane_size=max(step.target.height * step.target.width for step in steps),
        segments_count=len(offsets),
        stores_count=len(slots.stores),
        locals=slots.locals,
        result=slots.slot(result),
        outputs=1 if expand is None else len(expand.terms),
        channels=channels,
        positions_y=inputs[0],
        positions_x=inputs[1],
        maps=lowered.map_size,
    )
    return Layout(program, [operations, term_array, range_array, segments, flat, stores, tables])


def _segment(step: Step) -> int:
    """The segment in which a step runs: a readout while the planes of its source are at hand."""
    if step.kind == library.READOUT and step.source is not None:
        return step.source.segment
    return step.target.segment


def _line(step: Step) -> int:
    """The longest row that a step may need, zeros on both sides included."""
    assert step.source is not None or step.kind == library.INPUT
    width = step.target.width if step.source is None else step.source.width
    reach = max([step.size[1], *(term.x + term.width for term in step.terms)])
    span = width + step.target.width * step.stride[1] + reach * step.dilation[1] + abs(step.padding[1])
    return 4 * span


def _fill(operation: Any, step: Step, slots: _Slots) -> None:
    operation.kind = step.kind
    operation.source = -1 if step.source is None else slots.slot(step.source)
    operation.target = slots.slot(step.target)
    operation.added = -1 if step.added is None else slots.slot(step.added)
    source = step.target if step.source is None else step.source
    operation.in_height, operation.in_width = source.shape
    operation.out_height, operation.out_width = step.target.shape
    operation.size, operation.stride = step.size, step.stride
    operation.dilation, operation.padding = step.dilation, step.padding
    operation.activation, operation.map = step.activation, step.map
    operation.weight, operation.bias, operation.slope = step.weight, step.bias, step.slope


class _Slots:
    """Values that are used while one plane is made share a few slots; others are stored for all offsets."""

    def __init__(
        self, steps: Sequence[Step], result: Value, offsets: list[list[Pair]], expand: Step | None
    ) -> None:
        self.stores: list[tuple[int, ...]] = []
        self.tables: list[int] = []
        self.store_size = 0
        self._numbers: dict[Value, int] = {}
        stored = self._stored(steps)
        self.locals = self._share(steps, result, stored)
        for value, accumulates in stored.items():
            size = len(expand.terms) if expand is not None and value is expand.target else None
            self._numbers[value] = self.locals + len(self.stores)
            self._store(value, accumulates, [(0, 0)] if accumulates else offsets[value.segment], size)

    def slot(self, value: Value) -> int:
        """The number of a value's slot."""
        return self._numbers[value]

    def _stored(self, steps: Sequence[Step]) -> dict[Value, bool]:
        """The values that outlast their plane, and whether they are sums over planes."""
        found: dict[Value, bool] = {}
        for step in steps:
            if step.kind == library.READOUT:
                found[step.target] = True
            for value in (step.source, step.added):
                if value is None or value in found or value.segment == _segment(step):
                    if step.mixes and value is step.source and value is not None:
                        found.setdefault(value, False)
                    continue
                found[value] = False
        return found

    def _share(self, steps: Sequence[Step], result: Value, stored: dict[Value, bool]) -> int:
        last = {value: i for i, step in enumerate(steps) for value in (step.source, step.added) if value}
        last[result] = len(steps)
        free: list[int] = []
        count = 0
        self.local_size = 1
        for i, step in enumerate(steps):
            done = [v for v in (step.source, step.added) if v and v not in stored and last[v] == i]
            early = [v for v in done if step.is_pointwise or v is not step.source]
            free += [self._numbers[v] for v in dict.fromkeys(early)]
            if step.target not in stored:
                if not free:
                    free.append(count)
                    count += 1
                self._numbers[step.target] = free.pop()
                self.local_size = max(self.local_size, step.target.height * step.target.width)
            free += [self._numbers[v] for v in done if v not in early]
        return count

    def _store(self, value: Value, accumulates: bool, places: list[Pair], size: int | None) -> None:
        reach_y, reach_x = (0, 0) if accumulates else (value.height - 1, value.width - 1)
        begin, table = self.store_size, len(self.tables)
        entries = {(dy, dx): -1 for dy in range(-reach_y, reach_y + 1) for dx in range(-reach_x, reach_x + 1)}
        for dy, dx in places:
            if (dy, dx) in entries:
                entries[dy, dx] = self.store_size
                self.store_size += size or (value.height - abs(dy)) * (value.width - abs(dx))
        self.tables += list(entries.values())
        self.stores.append((table, reach_y, reach_x, int(accumulates), 0, begin, self.store_size - begin))
