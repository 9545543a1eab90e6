"""The C++ part: how it is built when the package is installed, and loaded. What it does, torch does where there is none."""

from __future__ import annotations

import ctypes as c
import zlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "csrc"
LIBRARY = FOLDER / "bnnpriors.so"
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-Wno-psabi")


def sources() -> int:
    """A number that changes with the sources."""
    return zlib.crc32(b"".join(file.read_bytes() for file in sorted(FOLDER.glob("*.[ch]pp"))))


def command(compiler: str, library: Path) -> list[str]:
    """How the library is compiled."""
    files = map(str, sorted(FOLDER.glob("*.cpp")))
    return [compiler, *FLAGS, f"-DSOURCES={sources()}u", *files, "-o", str(library)]


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
        run, normal = (getattr(library, f"bnnpriors_{kind}_{name}") for kind in ("run", "normal"))
        run.restype = normal.restype = None
        pointers, rows, integers = [c.c_void_p] * 3, [c.c_int64] * 2, [c.c_int] * 3
        run.argtypes = [c.c_int, *pointers, *rows, *integers, c.c_void_p, c.c_int64, c.c_void_p, c.c_int64]
        normal.argtypes = [c.c_int, c.c_void_p, c.c_int64, c.c_void_p, c.c_int64]
    return library
