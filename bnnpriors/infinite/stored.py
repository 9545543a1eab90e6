"""A kernel matrix on disk: a zarr array whose chunks are tiles, and a record of the tiles that are there.

A tile is written under another name, renamed, and flushed to the disk; only then does it enter the record `done.npy`, which
replaces its predecessor in one rename. So a process killed at any moment leaves no tile that is half there and reads as done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..disk import StoreError, lock
from ..fingerprint import difference
from . import tile_files as files
from .tile_files import ARRAY, FORMAT, RECORD

TILE = 1024
"""Rows and columns of a tile, unless told otherwise: 8 MiB of float64, and seconds of work."""
Tile = tuple[int, int]


class StoredGram:
    """A kernel matrix in a folder, whole or in part; made by `kernel.gram(..., out=folder)`, opened by `bp.infinite.open_gram`.

    The folder is a zarr group with one array, `kernel`, [n, m], and a checksum in each chunk. Of a symmetric matrix the tiles on
    and above the diagonal are stored, and `read` mirrors them; the others, and those that are not computed yet, are NaN there.

    Attributes:
        path: the folder. shape: (n, m). dtype: torch.float32 or torch.float64. is_symmetric: whether it is one set of inputs with
            itself. tile: rows and columns of a tile. done: which tiles are there, [tiles down, tiles across].
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        array = group[ARRAY]
        assert isinstance(array, zarr.Array)
        self._array = array
        self._fingerprint: dict[str, Any] = dict(group.attrs["fingerprint"])  # type: ignore[arg-type]
        self.is_symmetric = bool(group.attrs["is_symmetric"])
        self.shape: Tile = (array.shape[0], array.shape[1])
        self.dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        self.tile = int(array.chunks[0])
        self._lock: int | None = None
        try:
            self.done: NDArray[np.bool_] = np.load(path / RECORD)
        except Exception as error:
            raise StoreError(f"{path / RECORD} is damaged ({error}): delete {path} and run again") from error

    @classmethod
    def open(cls, path: str | Path) -> StoredGram:
        """A stored matrix, to be read.

        Raises:
            StoreError: there is none in the folder, or its metadata are damaged.
        """
        path = Path(path)
        if not (path / RECORD).exists():
            raise StoreError(
                f"{path}: no kernel matrix here; check the path, or run kernel.gram(x, out={str(path)!r}) first"
            )
        try:
            group = zarr.open_group(str(path), mode="r+" if os.access(path, os.W_OK) else "r")
            if group.attrs["format"] != FORMAT:
                raise ValueError(f"format {group.attrs['format']} given, this version reads {FORMAT}")
            return cls(path, group)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{path}: the metadata of this kernel matrix are damaged: {error!r}") from error

    @classmethod
    def begin(
        cls, path: Path, shape: Tile, dtype: torch.dtype, tile: int | None, fingerprint: Mapping[str, Any], *,
        is_symmetric: bool, resume: bool,
    ) -> StoredGram:  # fmt: skip
        """A new folder, or with `resume` one that is there, locked for writing; without `tile` with the tiles that it has.

        Raises:
            StoreError: the folder is there and `resume` is false, holds another matrix, or is being written to.
        """
        if not path.exists():
            files.create(path, shape, dtype, tile or TILE, fingerprint, is_symmetric)
        elif not resume:
            raise StoreError(
                f"{path} exists: pass resume=True to continue it, choose another path, or delete it"
            )
        store = cls.open(path)
        if lines := difference(store._fingerprint, dict(fingerprint)):
            raise StoreError("\n".join([f"{path} holds another kernel matrix; choose another path:", *lines]))
        if tile is not None and store.tile != tile:
            raise StoreError(
                f"{path} has tiles of {store.tile} rows and tile={tile} is given: pass tile={store.tile}"
            )
        store._lock = lock(path)
        store.done = np.load(path / RECORD)
        return store

    def close(self) -> None:
        """Let other processes write to the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_lock": None}

    def __repr__(self) -> str:
        have, all_tiles = int(self.done.sum()), len(list(self.tiles()))
        return f"StoredGram({str(self.path)!r}, {self.shape[0]} × {self.shape[1]}, {self.dtype}, {have} of {all_tiles} tiles)"

    @property
    def is_complete(self) -> bool:
        """Whether every tile is there."""
        return all(self.done[tile] for tile in self.tiles())

    def tiles(self) -> Iterator[Tile]:
        """The tiles of the matrix; of a symmetric one those on and above the diagonal."""
        for i in range(self.done.shape[0]):
            for j in range(i if self.is_symmetric else 0, self.done.shape[1]):
                yield i, j

    def span(self, i: int) -> slice:
        """The rows, or columns, of the tiles with number i; at the end of the matrix it may reach too far, as slices can."""
        return slice(i * self.tile, (i + 1) * self.tile)

    def put(self, tile: Tile, block: NDArray[Any]) -> None:
        """Write a tile, and then that it is there.

        Raises:
            StoreError: the disk is full or cannot be written; the tiles before are safe. ValueError: NaN or infinite values.
        """
        if not np.isfinite(block).all():
            raise ValueError(
                f"tile {tile} of the kernel has NaN or infinite values: the kernel or the inputs are at fault"
            )
        with files.explained(self.path):
            self._array[self.span(tile[0]), self.span(tile[1])] = block
            file = self._file(tile)
            for place in (file, file.parent, file.parent.parent):
                files.flush(place)
            self.done[tile] = True
            files.write_record(self.path, self.done)

    def read(
        self,
        rows: slice = slice(None),
        columns: slice = slice(None),
        *,
        dtype: torch.dtype | None = None,
        out: Float[Tensor, "rows columns"] | None = None,
    ) -> Float[Tensor, "rows columns"]:
        """Rows and columns of the matrix in one tensor, which is filled tile by tile: beside it only one tile is in memory.

        Args:
            rows, columns: slices without a step; all if not given.
            dtype: of the tensor; as stored if not given. out: a tensor to fill instead of a new one, of any device.

        Raises:
            ValueError: a slice with a step, or a tensor of another shape. StoreError: tiles that are not computed yet, or that
                are missing or damaged on the disk.
        """
        (top, bottom), (left, right) = self._range(rows, 0), self._range(columns, 1)
        shape = (bottom - top, right - left)
        if out is None:
            out = torch.empty(shape, dtype=dtype or self.dtype)
        elif tuple(out.shape) != shape or (dtype is not None and out.dtype != dtype):
            raise ValueError(
                f"read: out {tuple(out.shape)} of {out.dtype} given, expected {shape} of {dtype or 'any dtype'}"
            )
        for i, j in self.tiles():
            block: Tensor | None = None
            for down, across, is_mirrored in ((i, j, False), (j, i, True))[
                : 2 if self.is_symmetric and i != j else 1
            ]:
                r0, r1 = max(top, down * self.tile), min(bottom, (down + 1) * self.tile)
                c0, c1 = max(left, across * self.tile), min(right, (across + 1) * self.tile)
                if r0 >= r1 or c0 >= c1:
                    continue
                block = self._load((i, j)) if block is None else block
                part = block.mT if is_mirrored else block
                part = part[
                    r0 - down * self.tile : r1 - down * self.tile,
                    c0 - across * self.tile : c1 - across * self.tile,
                ]
                out[r0 - top : r1 - top, c0 - left : c1 - left] = part
        return out

    def __getitem__(self, index: tuple[NDArray[np.integer], NDArray[np.integer]]) -> NDArray[Any]:
        """Some rows and columns by number, as `numpy.ix_` gives them: what `PrecomputedKernel` asks for."""
        rows, columns = (np.asarray(part).ravel() for part in index)
        if not len(rows) or not len(columns):
            return np.empty((len(rows), len(columns)), self._array.dtype)
        block = self.read(slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        return block.numpy()[rows - rows.min()][:, columns - columns.min()]

    def check_made_of(self, fingerprint: Mapping[str, Any]) -> None:
        """Raise StoreError, with the differences, where the matrix is of another kernel or other inputs."""
        if lines := difference(self._fingerprint, dict(fingerprint)):
            raise StoreError(
                "\n".join([f"{self.path} is the matrix of another kernel or other inputs:", *lines])
            )

    def _load(self, tile: Tile) -> Tensor:
        if not self.done[tile]:
            raise StoreError(
                f"{self.path}: tile {tile} is not computed yet ({int(self.done.sum())} of {len(list(self.tiles()))} are); "
                "continue with the same call of kernel.gram and resume=True"
            )
        if not self._file(tile).exists():
            raise StoreError(
                f"{self.path}: the file of tile {tile} is missing; restore it, or delete the folder and run again"
            )
        try:
            return torch.from_numpy(np.asarray(self._array[self.span(tile[0]), self.span(tile[1])]))
        except Exception as error:
            raise StoreError(
                f"{self.path}: tile {tile} is damaged ({error}); restore the folder, or delete it and run again"
            ) from error

    def _range(self, part: slice, axis: int) -> Tile:
        start, stop, step = part.indices(self.shape[axis])
        if step != 1:
            raise ValueError(f"read: {part} given, expected a slice without a step")
        return start, max(start, stop)

    def _file(self, tile: Tile) -> Path:
        return self.path / ARRAY / "c" / str(tile[0]) / str(tile[1])
