"""The disk under a store: locks, errors that say what to do, free space."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
