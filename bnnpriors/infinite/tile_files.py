"""The files of a kernel matrix on disk: a folder that appears whole, a record of its tiles, and writes that reach the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from ..disk import StoreError

ARRAY, RECORD, FORMAT = "kernel", "done.npy", 1


def create(
    path: Path,
    shape: tuple[int, int],
    dtype: torch.dtype,
    tile: int,
    fingerprint: Mapping[str, Any],
    is_symmetric: bool,
) -> None:
    """An empty folder. It appears under its name complete or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    attributes = {"format": FORMAT, "fingerprint": dict(fingerprint), "is_symmetric": is_symmetric}
    with explained(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        group = zarr.create_group(str(partial), attributes=attributes)
        group.create_array(
            ARRAY, shape=shape, chunks=(tile, tile), dtype=str(dtype).removeprefix("torch."), compressors=[Crc32cCodec()],
            fill_value=float("nan"),
        )  # fmt: skip
        write_record(partial, np.zeros([-(-length // tile) for length in shape], dtype=bool))
        partial.rename(path)


def write_record(path: Path, done: NDArray[np.bool_]) -> None:
    """Say which tiles are there; the record is replaced in one rename."""
    partial = path / f"{RECORD}.partial"
    with partial.open("wb") as file:
        np.save(file, done)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path / RECORD)


def flush(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a write error into a StoreError that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise StoreError(
            f"{path}: cannot write, {reason}. The tiles before are safe; make room and run again with resume=True"
        ) from error
