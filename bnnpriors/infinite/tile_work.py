"""One tile of a kernel matrix, and what many of them take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cost import free_memory, size
from ..disk import StoreError, free_bytes
from .plan import lay_out
from .program import Activation
from .stored import StoredGram, Tile

if TYPE_CHECKING:
    from distributed import Client, Future

    from .nngp import InfiniteWidthKernel

ENOUGH = 0.3
"""Seconds of a trial that is long enough to tell how long the rest will take."""
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


def cost_of(
    kernel: InfiniteWidthKernel, x: Tensor, store: StoredGram, missing: list[Tile], client: Client | None, memory: int,
    device: torch.device,
) -> GramCost:  # fmt: skip
    """What the missing tiles will take; a block of pairs is timed, by a worker of the client if there is one."""
    pairs = 0
    for i, j in missing:
        down, across = (len(range(n)[store.span(k)]) for n, k in zip(store.shape, (i, j), strict=True))
        pairs += down * (down + 1) // 2 if store.is_symmetric and i == j else down * across
    processes = 1 if client is None else max(1, sum(client.nthreads().values()))
    trial = (kernel, as_rows(x[: store.tile]), memory, device)
    each = submit(client, seconds_per_pair, *trial).result() if client else seconds_per_pair(*trial)
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


def check_room(cost: GramCost, path: Path) -> None:
    """Raise StoreError where the tiles do not fit the disk, MemoryError where one does not fit the memory."""
    if cost.disk_bytes > (free := free_bytes(path)):
        raise StoreError(
            f"{path}: the tiles need {size(cost.disk_bytes)} and the disk has {size(free)} free. Choose another disk, "
            "dtype=torch.float32, or fewer inputs"
        )
    if cost.memory_bytes > (available := free_memory()):
        raise MemoryError(
            f"a tile needs {size(cost.memory_bytes)} of memory and {size(available)} is free: lower tile or memory"
        )


def submit(client: Client, task: Task, *arguments: Any) -> Future:
    """Have a worker do a task."""
    import dask

    with dask.config.set(
        {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
    ):  # the rows go with the task
        return client.submit(task, *arguments, pure=False)


def as_rows(x: Tensor) -> Rows:
    """Inputs as tasks take them: a contiguous array in the memory of the CPU."""
    return np.ascontiguousarray(x.detach().cpu().numpy())


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
