"""The disk: files written whole or not at all, locks of stores, errors that say what to do, free space."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class StoreError(RuntimeError):
    """A store that cannot be used as asked, with what to do about it."""


def lock(path: Path) -> int:
    """Lock a store for writing until the file descriptor is closed, or the process ends.

    Raises:
        StoreError: another process has it.
    """
    descriptor = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(
            f"{path}: another process is writing to this store; wait for it or choose another path"
        ) from error
    return descriptor


@contextmanager
def explained(path: Path | None) -> Iterator[None]:
    """Turn a write error into a StoreError that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise StoreError(
            f"{path}: cannot write, {reason}. The draws up to the last checkpoint are safe; make room and "
            f"run again with resume=True"
        ) from error


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds, or would hold, `path`."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def write_text(path: Path, text: str) -> None:
    """Write a file, complete or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
