"""Processes and machines that share work: a dask.distributed client, of a cluster on this machine by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


def require_distributed() -> None:
    """Raise ImportError, which says what to install, where dask.distributed is missing."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "work on several processes needs dask.distributed: pip install 'bnnpriors[dask]'"
        ) from error


@contextmanager
def open_client(scheduler: str | None = None, *, workers: int | None = None) -> Iterator[Client]:
    """A client, closed at the end together with the cluster that was started for it.

    Args:
        scheduler: address of a running scheduler, such as "tcp://10.0.0.1:8786" (its workers need bnnpriors installed); None
            starts a `LocalCluster` of processes with one thread each, which dask replaces when they die.
        workers: processes of a cluster on this machine; the number of its cores by default.

    Raises:
        ImportError: dask.distributed is missing. OSError: no scheduler answers at the address.
    """
    require_distributed()
    from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler, timeout="10s", set_as_default=False) as client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers or len(os.sched_getaffinity(0)), threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
