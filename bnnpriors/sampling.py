"""The driver: warm-up, thinning, progress, checkpoints and resuming. The only place that writes a run."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from .cluster import open_client
from .cost import check_room, estimate
from .counts import as_integer
from .draws import Draws
from .fingerprint import difference, fingerprint
from .group import Schedule
from .grouping import count_workers, fitting, processes, spread_plan
from .planning import choose_plan
from .posterior import Posterior
from .priors.funnel import FunnelWarning, hint
from .programs import Plan
from .progress import Progress
from .run import Run
from .samplers import Sampler
from .segments import pack
from .spread import SpreadRun
from .starts import check_init, identity_of, start
from .store import FORMAT, Store, StoreError
from .streams import Streams, normal_source

logger = logging.getLogger("bnnpriors")


def sample(
    posterior: Posterior,
    sampler: Sampler,
    *,
    num_samples: int,
    num_warmup: int = 0,
    num_chains: int = 4,
    thin: int = 1,
    seed: int = 0,
    store: str | Path | None = None,
    resume: bool = False,
    init: str | Draws = "prior",
    progress: bool = True,
    compile: bool | None = None,
    chunk_size: int | None = None,
    executor: str | None = None,
    scheduler: str | None = None,
) -> Draws:
    """Draw from a posterior with all chains in one vectorised run.

    Args:
        posterior: with a ladder of temperatures there are `num_chains` chains a rung, rung after rung.
        num_samples: draws kept a chain; every `thin`-th step after `num_warmup` warm-up steps.
        seed: chain k of rung r has its own random stream, which depends on (seed, r, k) alone.
        store: folder of a zarr store; None keeps the draws in memory.
        resume: continue the run in `store`, bit for bit as if it had not stopped, or extend it where
            `num_samples` has grown; start it where there is none.
        init: "prior" starts each chain at a draw from the prior, "model" at the module's present latents, "map" where 1000 steps
            of `samplers.MAP` lead from a draw from the prior, each chain by itself; the draws of another run of the same chains,
            such as an ensemble, start each chain at its last draw there.
        progress: show what the run will take and a progress bar, in a notebook or where standard error is a terminal.
        compile, chunk_size: whether programs are compiled and how many chains one call evaluates; None
            chooses (`bnnpriors.planning`). Draws depend on the choice through rounding alone; a store
            remembers it.
        executor: None runs in this process; "dask" spreads groups of chains over processes with dask.distributed, whose
            draws are those of one process with one thread of torch under the same `compile` and `chunk_size`, bit for bit.
        scheduler: address of a running scheduler; None starts processes on this machine.

    Raises:
        ValueError: counts below one or not whole, a sampler that cannot serve the posterior or such counts. TypeError: no
            sampler, or its class, or what other processes cannot be sent. StoreError: a store that belongs to
            another run, is damaged, locked, or does not fit the disk. SamplingError: a start without finite
            density, a chain that diverges to NaN, a cluster without workers.

    Warns with a `FunnelWarning` where a hyperprior scales centred weights, of which there are more than data.

    On SIGINT or SIGTERM a run with a store stops after the step at hand, checkpoints and raises
    KeyboardInterrupt; on SIGINT a run in memory returns the draws so far with a warning.
    """
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"sample: {sampler!r} given as sampler, expected an object with its settings, such as bp.samplers.HMC(step_size=0.01)"
        )
    num_samples, num_warmup, num_chains, thin, seed = _integers(
        num_samples=num_samples, num_warmup=num_warmup, num_chains=num_chains, thin=thin, seed=seed
    )
    if chunk_size is not None:
        (chunk_size,) = _integers(chunk_size=chunk_size)
    check_init(posterior, init, num_chains * len(posterior.temperatures))
    if resume and store is None:
        raise ValueError("sample: resume=True given without a store; pass store='folder'")
    if store is not None and not resume and Path(store).exists():
        raise StoreError(
            f"{store} exists: pass resume=True to continue it, choose another path, or delete it"
        )
    _check_executor(posterior, sampler, executor, scheduler)
    sampler.check(posterior.target(num_chains * len(posterior.temperatures)))
    sampler.check_run(num_samples=num_samples, num_warmup=num_warmup, thin=thin)
    path = None if store is None else Path(store)
    cost = estimate(
        posterior,
        sampler,
        num_samples=num_samples,
        num_warmup=num_warmup,
        num_chains=num_chains,
        thin=thin,
        in_memory=path is None,
    )
    check_room(cost, path)
    heading = f"{type(sampler).__name__}: {cost}"
    logger.info(heading)
    if (advice := hint(posterior.model.sites, posterior.num_data)) is not None:
        warnings.warn(advice, FunnelWarning, stacklevel=2)

    rungs = len(posterior.temperatures)
    keys = [(rung, chain) for rung in range(rungs) for chain in range(num_chains)]
    streams = Streams(seed, keys, dtype=posterior.dtype, device=posterior.device)
    identity = fingerprint(
        posterior,
        sampler,
        num_warmup=num_warmup,
        num_chains=num_chains,
        thin=thin,
        seed=seed,
        init=identity_of(init),
    )
    schedule = Schedule(num_warmup, num_samples, thin)
    exact, estimates = sampler.gradients(posterior.target(len(keys)))
    gradients = (exact * schedule.total, estimates * schedule.total)
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads() if executor is None else 1,
        "normal": normal_source(posterior.dtype, posterior.device),
    }
    packed = b"" if executor is None else pack((posterior, sampler))
    with ExitStack() as stack:
        if executor is not None:
            wanted = processes(posterior, sampler, num_chains)
            client = stack.enter_context(open_client(scheduler, workers=wanted))
            workers = count_workers(client)
        bar = stack.enter_context(Progress(schedule.total, heading=heading, enabled=progress))
        begun = path is not None and resume and path.exists() and Store.open(path).checkpoint is not None
        theta = start(posterior, streams, "prior" if begun else init)
        if path is not None and resume and path.exists():
            archive = Store.open(path, writable=True)
        else:
            if executor is None:
                plan = choose_plan(posterior, theta, gradients, chunk_size=chunk_size, compile=compile)
                if not sampler.independent_chains and chunk_size is None and rungs > 1:
                    plan = fitting(plan, num_chains)
            else:
                plan = spread_plan(
                    posterior, sampler, theta, gradients, workers, chunk_size=chunk_size, compile=compile
                )
            if not sampler.independent_draws:
                plan = plan._replace(workers=1)
            meta = {
                "format": FORMAT, "identity": identity, "plan": list(plan), **machine,
                "temperatures": list(posterior.temperatures), "num_chains": num_chains,
                "layout": [[name, list(shape)] for name, shape in posterior.layout.shapes],
            }  # fmt: skip
            archive = Store.create(path, meta, _picklable(posterior) if path is not None else None)
        stack.callback(archive.close)
        _check_same(archive, identity, machine)
        plan = Plan(*archive.group.attrs["plan"])  # type: ignore[misc]
        run: Run | SpreadRun
        if executor is None:
            run = Run(posterior.target(len(keys), plan), sampler, streams, archive, theta, schedule)
        else:
            run = SpreadRun(
                client, workers, packed, posterior, sampler, plan, streams, archive, theta, schedule
            )
        finished = run.go(bar)
        if finished:
            bar.complete()
    if finished:
        return Draws(archive, posterior)
    if path is not None:
        logger.warning(
            "stopped at draw %d of %d; run again with resume=True to continue", archive.num_draws, num_samples
        )
    if path is not None or archive.num_draws == 0:
        raise KeyboardInterrupt
    warnings.warn(
        f"stopped at draw {archive.num_draws} of {num_samples}; these draws are returned", stacklevel=2
    )
    return Draws(archive, posterior)


def _picklable(posterior: Posterior) -> Any:
    """The model and likelihood, for `Draws.open`; None with a warning where they cannot be pickled."""
    content = {"model": posterior.model, "likelihood": posterior.likelihood}
    try:
        torch.save(content, io.BytesIO())
    except Exception as error:
        warnings.warn(
            f"the model cannot be pickled ({error}), so the store holds draws alone: open it with "
            f"Draws.open(path, posterior=...)",
            stacklevel=3,
        )
        return None
    return content


def _integers(**given: int) -> list[int]:
    """The values as ints, whatever integers they are. Raises ValueError for other numbers and negative ones."""
    numbers = []
    for name, value in given.items():
        least = 0 if name in ("num_warmup", "seed") else 1
        number = as_integer(value)
        if number is None or number < least:
            raise ValueError(f"sample: {name} {value!r} given, expected an integer from {least}")
        numbers.append(number)
    return numbers


def _check_executor(
    posterior: Posterior, sampler: Sampler, executor: str | None, scheduler: str | None
) -> None:
    if executor not in (None, "dask"):
        raise ValueError(f"sample: executor {executor!r} given, expected None or 'dask'")
    if executor is None and scheduler is not None:
        raise ValueError(f"sample: scheduler {scheduler!r} given without an executor; pass executor='dask'")
    if executor is not None and len(posterior.temperatures) > 1 and not sampler.independent_rungs:
        raise ValueError(
            f"sample: {type(sampler).__name__} exchanges states between temperatures at every few steps, so its chains cannot be "
            "spread over processes: leave executor out"
        )


def _check_same(store: Store, identity: dict[str, Any], machine: dict[str, Any]) -> None:
    lines = difference(dict(store.group.attrs["identity"]), identity)  # type: ignore[arg-type]
    if lines:
        raise StoreError(
            f"{store.path} belongs to another configuration:\n"
            + "\n".join(lines)
            + "\nChoose another path, or delete it"
        )
    begun = {name: store.group.attrs.get(name) for name in machine}
    changed = {name: value for name, value in begun.items() if value != machine[name]}
    if changed:
        warnings.warn(
            f"the store was begun with {changed}, now {machine}: draws from here on are of the same posterior, but not bit "
            "for bit those of an unbroken run",
            stacklevel=3,
        )
