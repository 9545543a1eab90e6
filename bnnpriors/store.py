"""The store of a run: draws and figures in zarr arrays, and the checkpoint that says how many of them count.

Draws are appended in whole chunks and are valid up to the number in the checkpoint, which replaces its predecessor in one
rename; so a run killed at any moment leaves the draws up to its last checkpoint, and nothing after it is read. A thread writes
beside the run: while it writes one chunk the run fills the next, and it writes a checkpoint after the draws that it counts.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.errors import ZarrUserWarning

from .background import Background
from .disk import StoreError, explained, lock

CHUNK_BYTES = 8 * 2**20
FORMAT = 1


class Store:
    """A zarr group with one array for each recorded quantity, [chains, draws, ...], in a folder or in memory.

    Attributes:
        path: the folder, or None. num_draws: draws that count.
    """

    def __init__(self, group: zarr.Group, path: Path | None, *, writable: bool) -> None:
        self.group, self.path = group, path
        self._buffers: dict[str, NDArray[Any]] = {}
        self._spare: dict[str, NDArray[Any]] = {}  # what was written last, to be filled again
        self._background = Background()
        self._lock: int | None = None
        if writable and path is not None:
            self._lock = lock(path)
        self.checkpoint = self._read_checkpoint()
        self.num_draws = self._written = 0 if self.checkpoint is None else int(self.checkpoint["num_draws"])

    @classmethod
    def create(cls, path: Path | None, meta: Mapping[str, Any], model: Any = None) -> Store:
        """A new, empty store. It appears under its name complete or not at all. `model` is pickled beside the draws."""
        if path is None:
            return cls(
                zarr.create_group(zarr.storage.MemoryStore(), attributes=dict(meta)), None, writable=True
            )
        if path.exists():
            raise StoreError(
                f"{path} exists: pass resume=True to continue it, choose another path, or delete it"
            )
        unfinished = path.with_name(f".{path.name}.partial")
        with explained(path):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            zarr.create_group(str(unfinished), attributes=dict(meta))
            if model is not None:
                torch.save(model, unfinished / "model.pt")
            unfinished.rename(path)
        return cls(zarr.open_group(str(path), mode="r+"), path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Store:
        """An existing store. Raises StoreError where it is none, or is damaged."""
        if not path.is_dir():
            raise StoreError(
                f"{path}: no store here; check the path, or run bp.sample(..., store={str(path)!r}) first"
            )
        try:
            group = zarr.open_group(str(path), mode="r+" if writable else "r")
        except Exception as error:
            raise StoreError(
                f"{path} is not a store of bnnpriors, or its metadata is damaged: {error}"
            ) from error
        if group.attrs.get("format") != FORMAT:
            raise StoreError(
                f"{path}: store format {group.attrs.get('format')} given, this version reads {FORMAT}"
            )
        return cls(group, path, writable=writable)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_buffers": {}, "_spare": {}, "_background": Background(), "_lock": None}  # a copy is read
        return vars(self) | own

    def close(self) -> None:
        """Let other processes write to the store."""
        self._background.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def reserve(self, example: Mapping[str, NDArray[Any]], num_draws: int) -> None:
        """Create, or extend, the arrays for `num_draws` draws like `example` ({name: [chains, ...]}), and load the open chunk."""
        for name, value in example.items():
            shape = (value.shape[0], num_draws, *value.shape[1:])
            if name not in self.group:
                per_draw = max(1, value.nbytes)
                chunk = max(1, min(num_draws, CHUNK_BYTES // per_draw, 512))
                with explained(self.path):
                    self.group.create_array(
                        name,
                        shape=shape,
                        chunks=(shape[0], chunk, *shape[2:]),
                        dtype=value.dtype,
                        compressors=[Crc32cCodec()],
                        config={"write_empty_chunks": True},
                    )
            array = self._array(name)
            if array.shape[1] < num_draws:
                array.resize(shape)
            start = self._chunk_start(array, self.num_draws)
            self._buffers[name] = np.empty((shape[0], array.chunks[1], *shape[2:]), value.dtype)
            if start < self.num_draws:
                self._buffers[name][:, : self.num_draws - start] = self.read(
                    name, slice(start, self.num_draws)
                )
        self._written = self.num_draws

    def append(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Add one draw: {name: [chains, ...]}. Full chunks go to the array; they count from the next `commit` on.

        Raises:
            StoreError: what was written before could not be.
        """
        index = self._written
        full: dict[str, Callable[[], None]] = {}
        for name, value in values.items():
            buffer = self._buffers[name]
            buffer[:, index % buffer.shape[1]] = value
            if (index + 1) % buffer.shape[1] == 0:
                full[name] = partial(self._flush, name, index + 1, buffer)
        self._written += 1
        if full:
            self._background.run(lambda: _all(list(full.values())))
        for name in full:  # the job before is done, so its buffers are free
            buffer = self._buffers[name]
            self._buffers[name] = self._spare[name] if name in self._spare else np.empty_like(buffer)
            self._spare[name] = buffer

    def commit(self, state: Mapping[str, Any], *, wait: bool = True) -> None:
        """Write what is buffered, then make all draws so far and `state` the checkpoint.

        Args:
            wait: until it is on the disk; otherwise the checkpoint is one as soon as it is there, and the tensors in `state` must
                not change.

        Raises:
            StoreError: what was to be written could not be.
        """
        written, jobs = self._written, []
        for name, buffer in self._buffers.items():
            if count := written % buffer.shape[1]:
                jobs.append(partial(self._flush, name, written, buffer[:, :count]))
        self._background.run(lambda: _all([*jobs, partial(self._conclude, {**state, "num_draws": written})]))
        if wait:
            self._background.wait()

    def _conclude(self, checkpoint: dict[str, Any]) -> None:
        if self.path is not None:
            unfinished = self.path / "checkpoint.partial"
            with explained(self.path):
                with unfinished.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self.path / "checkpoint.pt")
        self.checkpoint, self.num_draws = checkpoint, int(checkpoint["num_draws"])

    def read(self, name: str, draws: slice) -> NDArray[Any]:
        """Draws of one array; raises StoreError where a chunk is missing or its checksum fails."""
        array = self._array(name)
        start, stop, _ = draws.indices(self.num_draws)
        for chunk in range(start // array.chunks[1], -(-stop // array.chunks[1])):
            self._check_present(array, name, chunk)
        try:
            return np.asarray(array[:, start:stop])
        except Exception as error:
            raise StoreError(
                f"{self.path}: array {name!r} has a corrupted chunk among draws {start} to {stop} ({error}). "
                "Restore the folder from a copy, or delete it and run again with the same seed"
            ) from error

    def chunks(self, name: str) -> list[slice]:
        """The draws of one array, chunk by chunk: pieces that fit the memory, each read from the disk once."""
        array = self._array(name)
        size = array.chunks[1]
        return [slice(start, min(start + size, self.num_draws)) for start in range(0, self.num_draws, size)]

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _read_checkpoint(self) -> dict[str, Any] | None:
        file = None if self.path is None else self.path / "checkpoint.pt"
        if file is None or not file.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(file, weights_only=True)
        except Exception as error:
            self.close()
            raise StoreError(f"{file} is damaged ({error}): delete {self.path} and run again") from error
        return content

    def names(self) -> list[str]:
        """Names of all arrays."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # it warns of the files beside the arrays
            members = self.group.members(max_depth=None)
        return sorted(name for name, member in members if isinstance(member, zarr.Array))

    def _check_present(self, array: zarr.Array[Any], name: str, chunk: int) -> None:
        if self.path is None:
            return
        place = self.path / name / "c" / "/".join(["0", str(chunk), *["0"] * (array.ndim - 2)])
        if not place.exists():
            raise StoreError(
                f"{self.path}: a chunk of array {name!r} is missing ({place.name} of {place.parent}). "
                "Restore the folder from a copy, or delete it and run again with the same seed"
            )

    def _flush(self, name: str, stop: int, values: NDArray[Any]) -> None:
        """Write `values`, the draws of one chunk up to `stop`."""
        # the setting is no part of what an array's metadata remember
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = self._array(name)
        start = self._chunk_start(array, stop - 1)
        with explained(self.path):
            array[:, start:stop] = values

    @staticmethod
    def _chunk_start(array: zarr.Array[Any], index: int) -> int:
        return index // array.chunks[1] * array.chunks[1]


def _all(jobs: list[Callable[[], None]]) -> None:
    for job in jobs:
        job()
