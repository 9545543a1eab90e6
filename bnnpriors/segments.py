"""What a worker of a cluster does: some chains from one checkpoint to the next, with nothing kept between two such calls.

A segment is a function of its arguments, so that it can be done again elsewhere when its worker dies.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cluster import require_distributed
from .group import Checkpoint, Group, Record, SamplingError, Schedule, refuse_lost, refuse_starts
from .posterior import Posterior
from .programs import Plan
from .samplers import Sampler
from .streams import Streams, normal_source
from .workers import working

Problem = tuple[Posterior, Sampler]


class Job(NamedTuple):
    """What all segments of a run share, beside the problem. `token` names the run, `keys` its streams, one a chain;
    `normal` is the driver's `normal_source`."""

    token: str
    plan: Plan
    seed: int
    keys: list[tuple[int, int]]
    normal: str
    schedule: Schedule
    path: Path | None


class Segment(NamedTuple):
    """Some chains, where they stand, and the iteration to which they go.

    At the beginning of a run `start` has `theta` and `streams`; later it is a checkpoint of these chains.
    """

    chains: slice
    start: Checkpoint
    stop: int


class Stretch(NamedTuple):
    """What comes of a segment.

    Attributes:
        draws: name -> [chains, draws, ...]; empty where there are none.
        end: where the chains stand. shown: for the progress bar. pace: steps a second.
    """

    draws: Record
    end: Checkpoint
    shown: dict[str, Tensor]
    pace: float


def pack(problem: Problem) -> bytes:
    """A posterior and a sampler for other processes, what a script or a notebook defines itself included.

    Raises:
        ImportError: dask.distributed is missing. TypeError: what cannot be pickled.
    """
    require_distributed()
    import cloudpickle

    content = io.BytesIO()
    try:
        torch.save(problem, content, pickle_module=cloudpickle)
    except Exception as error:
        raise TypeError(
            f"sample: executor='dask' sends the posterior and the sampler to other processes, and they cannot be pickled "
            f"({error}): keep open files, locks, generators and the like out of the network, the likelihood and the sampler, or "
            "leave executor out"
        ) from error
    return content.getvalue()


def advance(packed: bytes, job: Job, segment: Segment) -> Stretch:
    """Do a segment, with operations of one thread.

    Raises:
        SamplingError: a start without finite density, or a chain that leaves the finite numbers.
    """
    with _ONE_AT_A_TIME, one_thread(), working(job.plan._replace(workers=1, ahead=False)):
        posterior, sampler = _unpacked(job.token, packed)
        _check_normal(posterior, job.normal)
        target = posterior.target(len(job.keys), job.plan)
        streams = Streams(job.seed, job.keys[segment.chains], dtype=posterior.dtype, device=posterior.device)
        group = Group(sampler, target.part(segment.chains), streams, segment.chains.start)
        start, schedule, draws = segment.start, job.schedule, []
        if "theta" in start:
            streams.restore(start["streams"])
            group.start(start["theta"].to(posterior.device))
            refuse_starts(group.bad_starts())
        else:
            group.resume(start)
        first = iteration = int(start["iteration"])
        begun = time.perf_counter()
        while iteration < segment.stop:
            steps = min(schedule.until_draw(iteration), segment.stop - iteration)
            group.advance(iteration, steps, schedule.num_warmup)
            iteration += steps
            refuse_lost(group.lost(), target.temperature, iteration, sampler, job.path)
            if schedule.is_draw(iteration):
                draws.append(group.record())
        pace = (iteration - first) / (time.perf_counter() - begun + 1e-9)
        stacked = (
            {name: np.stack([draw[name] for draw in draws], axis=1) for name in draws[0]} if draws else {}
        )
        return Stretch(stacked, group.checkpoint(iteration), group.shown(), pace)


def _check_normal(posterior: Posterior, wanted: str) -> None:
    found = normal_source(posterior.dtype, posterior.device)
    if found != wanted:
        raise SamplingError(
            f"a worker draws normal numbers by {found}, the process that began the run by {wanted}: install bnnpriors with a C++ "
            "compiler (g++) on all machines, or without one on all"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations of torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_ONE_AT_A_TIME = threading.Lock()
"""Threads and switches of torch hold for the process, which may have several threads for tasks."""
_problems: dict[str, Problem] = {}


def _unpacked(token: str, packed: bytes) -> Problem:
    """The problem of a run; the last one is kept, with its traced programs."""
    if token not in _problems:
        _problems.clear()
        _problems[token] = torch.load(io.BytesIO(packed), map_location=_own_device, weights_only=False)
    return _problems[token]


def _own_device(storage: Any, location: str) -> Any:
    """Where a tensor of the driver's goes: to this worker's GPU where it was on one.

    Of the devices that the worker sees it has the one at its number among the workers; a worker that sees one has that one.
    """
    if not location.startswith("cuda"):
        return storage
    from distributed import get_worker

    name = str(get_worker().name)
    return storage.cuda(int(name) % torch.cuda.device_count() if name.isdigit() else 0)
