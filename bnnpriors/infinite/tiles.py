"""Kernel matrices that are computed tile by tile, here or on other processes and machines, into a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cluster import open_client
from ..disk import StoreError
from ..fingerprint import describe
from ..progress import Progress
from . import tile_work as work
from .plan import lay_out
from .stored import StoredGram, Tile

if TYPE_CHECKING:
    from distributed import Client

    from .nngp import InfiniteWidthKernel

logger = logging.getLogger("bnnpriors")

CPU = torch.device("cpu")


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
    announce: Callable[[work.GramCost], None] | None = None,
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
                cost = work.cost_of(kernel, x1, store, missing, client, memory, device)
                work.check_room(cost, path)
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


def _fill(
    kernel: InfiniteWidthKernel, inputs: tuple[Tensor, Tensor], store: StoredGram, missing: list[Tile], client: Client | None,
    memory: int, device: torch.device, progress: bool, heading: str,
) -> None:  # fmt: skip
    def arguments(tile: Tile) -> tuple[Any, ...]:
        rows, columns = (work.as_rows(x[store.span(k)]) for x, k in zip(inputs, tile, strict=True))
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
            yield tile, work.compute_tile(*arguments(tile))
        return
    from distributed import KilledWorker, as_completed

    waiting, owners = iter(tiles), dict[Any, Tile]()
    finished = as_completed(loop=client.loop)

    def send() -> None:
        room = 2 * max(1, sum(client.nthreads().values())) - len(owners)
        for tile in islice(waiting, max(0, room)):
            future = work.submit(client, work.compute_tile, *arguments(tile))
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


@contextmanager
def _processes(workers: int | None, scheduler: str | None) -> Iterator[Client | None]:
    """A client where other processes are asked for; None for this process alone."""
    if workers is None and scheduler is None:
        yield None
        return
    with open_client(scheduler, workers=workers) as client:
        yield client
