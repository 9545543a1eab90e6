"""Kernel matrices that are computed tile by tile, here or on other processes and machines, into a folder."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cluster import open_client
from ..cost import free_memory, size
from ..disk import StoreError, free_bytes
from ..fingerprint import describe
from ..progress import Progress
from .plan import lay_out
from .program import Activation
from .stored import StoredGram, Tile

if TYPE_CHECKING:
    from distributed import Client, Future

    from .nngp import InfiniteWidthKernel

logger = logging.getLogger("bnnpriors")

ENOUGH = 0.3
"""Seconds of a trial that is long enough to tell how long the rest will take."""
CPU = torch.device("cpu")
Rows = NDArray[Any]
Task = Callable[..., Any]


@dataclass(frozen=True)
class GramCost:
    """What the tiles that are missing will take, known before they are computed.

    Attributes:
        tiles: how many; pairs: of inputs, in them. disk_bytes: they will take. memory_bytes: of one process, about.
        seconds: all of them, from a block of pairs that was timed; processes: that share them.
    """

    tiles: int
    pairs: int
    disk_bytes: int
    memory_bytes: int
    seconds: float
    processes: int

    def __str__(self) -> str:
        share = f"{self.processes} processes" if self.processes > 1 else "1 process"
        return (
            f"{self.tiles} tiles, {self.pairs:.3g} pairs at {1e6 * self.seconds / max(1, self.pairs):.3g} µs: about "
            f"{duration(self.seconds)} for {share} of about {size(self.memory_bytes)}, {size(self.disk_bytes)} on the disk"
        )


def store_gram(
    kernel: InfiniteWidthKernel,
    x1: Tensor,
    x2: Tensor | None,
    path: Path,
    *,
    device: torch.device,
    memory: int,
    tile: int | None,
    resume: bool,
    workers: int | None,
    scheduler: str | None,
    progress: bool,
    announce: Callable[[GramCost], None] | None = None,
) -> StoredGram:
    """`InfiniteWidthKernel.gram` into a folder; its arguments and errors are described there.

    Args:
        announce: is told the cost before the first tile, unless all are there.
    """
    if tile is not None and tile < 1:
        raise ValueError(f"gram: tile {tile} given, expected rows and columns of a tile, such as 1024")
    if workers is not None and (workers < 1 or scheduler is not None):
        raise ValueError(
            f"gram: workers {workers} and scheduler {scheduler!r} given, expected a number of processes on this machine, or "
            "the address of a scheduler that has workers of its own"
        )
    for x in (x1,) if x2 is None else (x1, x2):
        if not len(x):
            raise ValueError(
                f"gram: inputs {tuple(x.shape)} given, expected one at least for a matrix in a folder"
            )
    lay_out(kernel.program, tuple(x1.shape[1:]))
    shape = (len(x1), len(x1 if x2 is None else x2))
    store = StoredGram.begin(
        path,
        shape,
        x1.dtype,
        tile,
        fingerprint(kernel, x1, x2, device),
        is_symmetric=x2 is None,
        resume=resume,
    )
    try:
        missing = [each for each in store.tiles() if not store.done[each]]
        if missing:
            columns = x1 if x2 is None else x2
            with _processes(workers, scheduler) as client:
                cost = _cost(kernel, x1, store, missing, client, memory, device)
                _check_room(cost, path)
                logger.info("%s: %s", path, cost)
                if announce is not None:
                    announce(cost)
                _fill(
                    kernel, (x1, columns), store, missing, client, memory, device, progress, f"{path}: {cost}"
                )
    finally:
        store.close()
    return StoredGram.open(path)


def fingerprint(
    kernel: InfiniteWidthKernel, x1: Tensor, x2: Tensor | None, device: torch.device = CPU
) -> dict[str, Any]:
    """What makes two matrices the same: layer program, hyperparameters, inputs (by sha256), dtype and backend.

    The backends round differently. On the CPU it is the one that this machine uses, elsewhere the one that was asked for.
    """
    layers = [
        replace(
            layer,
            weight_variance=0.0,
            bias_variance=0.0,
            taps=layer.taps and replace(layer.taps, lengthscale=1.0),
        )
        for layer in kernel.program.layers
    ]
    values = (kernel.weight_variance, kernel.bias_variance, kernel.lengthscale_of_taps)
    return {
        "program": describe([kernel.program.nodes, layers, kernel.program.mean_terms]),
        "hyperparameters": [value.tolist() for value in values],
        "inputs": [describe(x1.detach()), "the same" if x2 is None else describe(x2.detach())],
        "dtype": str(x1.dtype),
        "backend": kernel.backend_of(x1) if device.type == "cpu" else f"{kernel.backend} on {device.type}",
    }


def compute_tile(
    kernel: InfiniteWidthKernel, rows: Rows, columns: Rows | None, memory: int, device: torch.device
) -> NDArray[Any]:
    """One tile; of a set of rows with itself where there are no columns."""
    x1 = torch.from_numpy(rows).to(device)
    x2 = None if columns is None else torch.from_numpy(columns).to(device)
    with torch.no_grad():
        return kernel.matrix(x1, x2, memory=memory).cpu().numpy()


def seconds_per_pair(kernel: InfiniteWidthKernel, rows: Rows, memory: int, device: torch.device) -> float:
    """Timed on a block of pairs, twice as many rows each time until it takes long enough to tell, or all rows are in it.

    A first block is not timed: it pays for what is set up once.
    """
    count = min(8, len(rows))
    compute_tile(kernel, rows[:count], rows[-count:], memory, device)
    while True:
        start = time.perf_counter()
        compute_tile(kernel, rows[:count], rows[-count:], memory, device)
        seconds = time.perf_counter() - start
        if seconds >= ENOUGH or count == len(rows):
            return seconds / count**2
        count = min(2 * count, len(rows))


def _cost(
    kernel: InfiniteWidthKernel, x: Tensor, store: StoredGram, missing: list[Tile], client: Client | None, memory: int,
    device: torch.device,
) -> GramCost:  # fmt: skip
    pairs = 0
    for i, j in missing:
        down, across = (len(range(n)[store.span(k)]) for n, k in zip(store.shape, (i, j), strict=True))
        pairs += down * (down + 1) // 2 if store.is_symmetric and i == j else down * across
    processes = 1 if client is None else max(1, sum(client.nthreads().values()))
    trial = (kernel, _rows(x[: store.tile]), memory, device)
    each = _submit(client, seconds_per_pair, *trial).result() if client else seconds_per_pair(*trial)
    plan = lay_out(kernel.program, tuple(x.shape[1:]))
    maps = sum(
        math.prod(plan.positions[node.sources[0]])
        for node in kernel.program.nodes
        if isinstance(node, Activation)
    )
    item = x.element_size()
    held = memory + item * store.tile * (2 * maps + 2 * x[0].numel() + 2 * store.tile)
    disk = len(missing) * store.tile**2 * item
    return GramCost(len(missing), pairs, disk, held, pairs * each / min(processes, len(missing)), processes)


def _check_room(cost: GramCost, path: Path) -> None:
    if cost.disk_bytes > (free := free_bytes(path)):
        raise StoreError(
            f"{path}: the tiles need {size(cost.disk_bytes)} and the disk has {size(free)} free. Choose another disk, "
            "dtype=torch.float32, or fewer inputs"
        )
    if cost.memory_bytes > (available := free_memory()):
        raise MemoryError(
            f"a tile needs {size(cost.memory_bytes)} of memory and {size(available)} is free: lower tile or memory"
        )


def _fill(
    kernel: InfiniteWidthKernel, inputs: tuple[Tensor, Tensor], store: StoredGram, missing: list[Tile], client: Client | None,
    memory: int, device: torch.device, progress: bool, heading: str,
) -> None:  # fmt: skip
    def arguments(tile: Tile) -> tuple[Any, ...]:
        rows, columns = (_rows(x[store.span(k)]) for x, k in zip(inputs, tile, strict=True))
        is_own = store.is_symmetric and tile[0] == tile[1]
        return kernel, rows, None if is_own else columns, memory, device

    total = len(list(store.tiles()))
    with Progress(total, heading=heading, enabled=progress, doing="tiles") as bar:
        bar.show(total - len(missing), {})
        for done, (tile, block) in enumerate(_results(client, missing, arguments), total - len(missing) + 1):
            store.put(tile, block)
            if bar.due():
                bar.show(done, {})
        bar.complete()


def _results(
    client: Client | None, tiles: Iterable[Tile], arguments: Callable[[Tile], tuple[Any, ...]]
) -> Iterator[tuple[Tile, NDArray[Any]]]:
    """Tiles as they are finished; with a client two for each thread of its workers are under way at a time."""
    if client is None:
        for tile in tiles:
            yield tile, compute_tile(*arguments(tile))
        return
    from distributed import KilledWorker, as_completed

    waiting, owners = iter(tiles), dict[Any, Tile]()
    finished = as_completed(loop=client.loop)

    def send() -> None:
        room = 2 * max(1, sum(client.nthreads().values())) - len(owners)
        for tile in islice(waiting, max(0, room)):
            future = _submit(client, compute_tile, *arguments(tile))
            owners[future.key] = tile
            finished.add(future)

    send()
    for future in finished:
        try:
            block = future.result()
        except KilledWorker as error:
            raise StoreError(
                f"tile {owners[future.key]} ended the process that computed it several times ({error}), for want of memory, "
                "perhaps: lower tile, memory or workers, and run again with resume=True"
            ) from error
        yield owners.pop(future.key), block
        send()


def _submit(client: Client, task: Task, *arguments: Any) -> Future:
    import dask

    with dask.config.set(
        {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
    ):  # the rows go with the task
        return client.submit(task, *arguments, pure=False)


@contextmanager
def _processes(workers: int | None, scheduler: str | None) -> Iterator[Client | None]:
    """A client where other processes are asked for; None for this process alone."""
    if workers is None and scheduler is None:
        yield None
        return
    with open_client(scheduler, workers=workers) as client:
        yield client


def _rows(x: Tensor) -> Rows:
    return np.ascontiguousarray(x.detach().cpu().numpy())


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
