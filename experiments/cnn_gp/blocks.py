"""Kernel matrices in blocks of images, each a file: computed once, in any order, by any number of runs of any size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from bnnpriors import infinite

SIDE = 500


class Block(NamedTuple):
    """The file of one block, and where its images start in both sets."""

    file: Path
    row: int
    column: int


def blocks(folder: Path, name: str, rows: int, columns: int | None) -> list[Block]:
    """The blocks of a matrix of `rows` images by `columns`, or of the upper triangle of a symmetric one (`columns` None)."""
    return [
        Block(folder / f"{name}-{row:05d}-{column:05d}.npz", row, column)
        for row in range(0, rows, SIDE)
        for column in range(row if columns is None else 0, rows if columns is None else columns, SIDE)
    ]


def compute(
    kernel: infinite.InfiniteWidthKernel,
    folder: Path,
    name: str,
    x1: Tensor,
    x2: Tensor | None,
    deadline: float,
) -> bool:
    """Compute what is missing until the clock shows `deadline`, in seconds; whether all of the matrix is there.

    A block is written under another name and then renamed, so a run that is killed leaves no half of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = x1 if x2 is None else x2
    todo = [
        b
        for b in blocks(folder, name, len(x1), None if x2 is None else len(x2))
        if not _is_done(b, x1, others)
    ]
    for number, block in enumerate(todo):
        if time.monotonic() > deadline:
            Console(stderr=True).print(f"{folder.name} {name}: {len(todo) - number} blocks to go")
            return False
        rows, columns = x1[block.row : block.row + SIDE], others[block.column : block.column + SIDE]
        start = time.perf_counter()
        is_own = x2 is None and block.row == block.column
        values = kernel.gram(rows, None if is_own else columns)
        partial = block.file.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, values=values.numpy(), seconds=time.perf_counter() - start)
        partial.replace(block.file)
    return True


def read(folder: Path, name: str, rows: int, columns: int | None) -> tuple[Tensor, float]:
    """The matrix in float64, and the seconds that its blocks took together."""
    matrix = torch.empty(rows, rows if columns is None else columns, dtype=torch.float64)
    seconds = 0.0
    for block, values, spent in _contents(blocks(folder, name, rows, columns)):
        part = torch.from_numpy(values).double()[: rows - block.row, : matrix.shape[1] - block.column]
        matrix[block.row : block.row + len(part), block.column : block.column + part.shape[1]] = part
        if columns is None and block.row != block.column:
            matrix[block.column : block.column + part.shape[1], block.row : block.row + len(part)] = part.mT
        seconds += spent * part.numel() / values.size
    return matrix, seconds


def _contents(found: list[Block]) -> Iterator[tuple[Block, np.ndarray, float]]:
    for block in found:
        with np.load(block.file) as arrays:
            yield block, arrays["values"], float(arrays["seconds"])


def _is_done(block: Block, x1: Tensor, x2: Tensor) -> bool:
    """A block at the edge of a smaller run is computed again when there are more images."""
    if not block.file.is_file():
        return False
    wanted = (min(SIDE, len(x1) - block.row), min(SIDE, len(x2) - block.column))
    with np.load(block.file) as arrays:
        shape = arrays["values"].shape
    return shape[0] >= wanted[0] and shape[1] >= wanted[1]
