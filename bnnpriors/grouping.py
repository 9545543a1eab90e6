"""How chains are divided among the processes of a cluster, and the plan by which each evaluates its own."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .group import SamplingError
from .planning import choose_plan
from .posterior import Posterior
from .programs import Plan
from .samplers import Sampler
from .segments import one_thread
from .workers import parts

if TYPE_CHECKING:
    from distributed import Client

WAIT_SECONDS = 60  # for a first worker


def processes(posterior: Posterior, sampler: Sampler, num_chains: int) -> int:
    """Workers of a cluster on this machine that are of use: one a core or a GPU, and no more than there are groups."""
    rungs = len(posterior.temperatures)
    useful = rungs * num_chains if sampler.independent_chains else rungs
    is_cuda = posterior.device.type == "cuda"
    return min(useful, torch.cuda.device_count() if is_cuda else len(os.sched_getaffinity(0)))


def count_workers(client: Client) -> int:
    """Workers that the scheduler has.

    Raises:
        SamplingError: none comes within a minute.
    """
    address = client.scheduler.address  # type: ignore[union-attr]
    try:
        client.wait_for_workers(1, timeout=WAIT_SECONDS)
    except TimeoutError as error:
        raise SamplingError(
            f"the scheduler at {address} has no workers: start some, such as `dask worker {address} --nworkers 4 --nthreads 1`"
        ) from error
    return len(client.nthreads())


def spread_plan(
    posterior: Posterior, sampler: Sampler, theta: Tensor, gradients: tuple[float, float], workers: int, *,
    chunk_size: int | None, compile: bool | None,
) -> Plan:  # fmt: skip
    """The plan of a worker with one thread for its share of the chains, as `choose_plan` chooses it on this machine.

    Where chains depend on each other a call has chains of one rung alone, so that any two rungs can be parted.
    """
    chains, rungs = len(theta), len(posterior.temperatures)
    unit = 1 if sampler.independent_chains else chains // rungs
    share = unit * math.ceil(chains / unit / workers)
    with one_thread():
        some = theta if chunk_size is not None else theta[: rungs * math.ceil(share / rungs)]
        plan = choose_plan(posterior, some, gradients, chunk_size=chunk_size, compile=compile)
    if chunk_size is None:
        plan = fitting(plan._replace(chunk_size=min(plan.chunk_size, share)), unit)
    return plan._replace(workers=1, ahead=False)


def fitting(plan: Plan, unit: int) -> Plan:
    """The plan with so many chains in a call that calls are made of whole units, which stay together, or parts of one."""
    if unit == 1:
        return plan
    return plan._replace(chunk_size=max(n for n in range(1, plan.chunk_size + 1) if unit % n == 0))


def later_parts(chains: int, plan: Plan, sampler: Sampler, rungs: int) -> list[slice]:
    """Chains of each thread after a warm-up in which they depend on each other: calls are cut where they were, so that every
    call has the same chains as in one thread."""
    unit = chains // rungs
    if not sampler.independent_draws or (rungs > 1 and unit % plan.chunk_size):
        return [slice(0, chains)]
    return divide(chains, plan._replace(workers=1), unit if rungs > 1 else 1, plan.workers)


def divide(chains: int, plan: Plan, unit: int, workers: int) -> list[slice]:
    """Groups of chains, cut where one process under the plan cuts them into calls, so that every call has the same chains.

    Args:
        unit: chains that have to stay together.
    """
    if plan.workers > 1:
        return parts(chains, plan.workers)
    unit = math.lcm(plan.chunk_size, unit)
    return [
        slice(piece.start * unit, min(piece.stop * unit, chains))
        for piece in parts(math.ceil(chains / unit), workers)
    ]
