"""The compiled kernels: what is built of them when the package is installed, and how it is called."""

from __future__ import annotations

import ctypes as c
import zlib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "csrc"
LIBRARY = FOLDER / "fused.so"
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-Wno-psabi")

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


def sources() -> int:
    """A number that changes with the sources."""
    return zlib.crc32(b"".join(file.read_bytes() for file in sorted(FOLDER.glob("*.[ch]pp"))))


def command(compiler: str, library: Path) -> list[str]:
    """How the library is compiled."""
    return [compiler, *FLAGS, f"-DSOURCES={sources()}u", str(FOLDER / "fused.cpp"), "-o", str(library)]


@cache
def load() -> c.CDLL | str:
    """The library, or why there is none."""
    if not LIBRARY.is_file():
        return "its C++ part was not compiled when the package was installed: install a C++ compiler (g++) and the package anew"
    try:
        library = c.CDLL(str(LIBRARY))
        built_from = library.bnnpriors_sources
    except (OSError, AttributeError) as error:
        return f"its C++ part does not load ({error}): install the package anew"
    built_from.restype = c.c_uint
    if built_from() != sources():
        return "its C++ part was compiled from other sources: install the package anew"
    for name in ("float", "double"):
        run = getattr(library, f"bnnpriors_run_{name}")
        run.restype = None
        pointers, rows, integers = [c.c_void_p] * 3, [c.c_int64] * 2, [c.c_int] * 3
        run.argtypes = [c.c_int, *pointers, *rows, *integers, c.c_void_p, c.c_int64, c.c_void_p, c.c_int64]
    return library
