"""Layer programs as the compiled part takes them (csrc/program.hpp)."""

from __future__ import annotations

import ctypes as c
from typing import Any

INPUT, WINDOW, TERMS, READOUT = range(4)
NONE, RELU, ERF, GELU, MEANS = range(5)


def _fields(kinds: dict[str, Any]) -> list[Any]:
    """The fields of a structure, from names separated by spaces to their types."""
    return [(name, kind) for names, kind in kinds.items() for name in names.split()]


_PAIR = c.c_int32 * 2


class Term(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields({"dy dx y x height width": c.c_int32, "weight": c.c_double})


class Operation(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields(
        {
            "kind source target added in_height in_width out_height out_width": c.c_int32,
            "size stride dilation padding": _PAIR,
            "activation map first count": c.c_int32,
            "weight bias slope": c.c_double,
        }
    )


class Segment(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields({"first_operation operations first_offset offsets": c.c_int32})


class Store(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields(
        {"table": c.c_int64, "reach_y reach_x accumulates unused": c.c_int32, "begin size": c.c_int64}
    )


class Program(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields(
        {
            "operations terms ranges segments offsets stores tables": c.c_void_p,
            "local_size store_size line_size plane_size": c.c_int64,
            "segments_count stores_count locals result outputs channels positions_y positions_x": c.c_int32,
            "maps": c.c_int64,
        }
    )


class Side(c.Structure):
    """As in program.hpp."""

    _fields_ = _fields({"inputs maps inputs_in_lanes maps_in_lanes": c.c_void_p, "images": c.c_int64})
