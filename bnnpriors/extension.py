"""The C++ part: how it is built when the package is installed, and loaded. What it does, torch does where there is none."""

from __future__ import annotations

import ctypes as c
import logging
import zlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "csrc"
LIBRARY = FOLDER / "bnnpriors.so"
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fPIC", "-pthread", "-Wno-psabi")
OWN_FLAGS = {"normal.cpp": ("-ffp-contract=off",)}
"""No multiplication is fused with an addition where numbers are drawn, so that they have the same bits on every machine."""

logger = logging.getLogger("bnnpriors")


def sources() -> int:
    """A number that changes with the sources and how they are compiled."""
    files = (file.read_bytes() for file in sorted(FOLDER.glob("*.[ch]pp")))
    return zlib.crc32(b"".join([*files, repr((FLAGS, OWN_FLAGS)).encode()]))


def commands(compiler: str, library: Path) -> list[list[str]]:
    """How the library is compiled: each file by itself, and then together, all in the folder of `library`."""
    objects = {file: str(library.with_name(f"{file.stem}.o")) for file in sorted(FOLDER.glob("*.cpp"))}
    macro = f"-DSOURCES={sources()}u"
    return [
        [compiler, *FLAGS, *OWN_FLAGS.get(file.name, ()), macro, "-c", str(file), "-o", made]
        for file, made in objects.items()
    ] + [[compiler, *FLAGS, "-shared", *objects.values(), "-o", str(library)]]


@cache
def load() -> c.CDLL | str:
    """The library, or why there is none, which is logged once."""
    found = _load()
    if isinstance(found, str):
        logger.warning(
            "bnnpriors: %s (in a checkout: python hatch_build.py). Until then torch draws the normal numbers, which are others "
            "for the same seed, and computes the kernels of infinite width, both more slowly",
            found,
        )
    return found


def _load() -> c.CDLL | str:
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
