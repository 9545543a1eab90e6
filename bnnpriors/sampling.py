"""The driver: warm-up, thinning, progress, checkpoints and resuming. The only place that writes a run."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .draws import Draws
from .fingerprint import difference, fingerprint
from .planning import choose_plan
from .posterior import Posterior, Target
from .programs import Plan
from .progress import Progress
from .samplers import Sampler
from .store import FORMAT, Store, StoreError, free_bytes
from .streams import Streams

logger = logging.getLogger("bnnpriors")

CHECKPOINT_SECONDS = 30.0


class SamplingError(RuntimeError):
    """A run that cannot go on, with what to do about it."""


@dataclass(frozen=True)
class Cost:
    """What a run will take, known before it begins."""

    gradient_evaluations: float
    disk_bytes: int
    memory_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.gradient_evaluations:.3g} full-data gradients of every chain, draws of {_size(self.disk_bytes)}, "
            f"about {_size(self.memory_bytes)} of memory beside the model"
        )


def estimate(
    posterior: Posterior, sampler: Sampler, *, num_samples: int, num_warmup: int = 0, num_chains: int = 4, thin: int = 1,
    in_memory: bool = True,
) -> Cost:  # fmt: skip
    """Gradient evaluations, bytes of draws, and bytes of memory of a run of `sample` with these arguments."""
    chains = num_chains * len(posterior.temperatures)
    target = posterior.target(chains)
    row = chains * posterior.dim * torch.finfo(posterior.dtype).bits // 8
    disk = num_samples * (row + chains * 8 * (8 + 2 * len(posterior.layout.shapes)))
    work = 12 * row + min(disk, 64 * 2**20)
    evaluations = (num_warmup + num_samples * thin) * sampler.evaluations(target)
    return Cost(evaluations, disk, work + (disk if in_memory else 0))


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
    init: str = "prior",
    progress: bool = True,
    compile: bool | None = None,
    chunk_size: int | None = None,
) -> Draws:
    """Draw from a posterior with all chains in one vectorised run.

    Args:
        posterior: with a ladder of temperatures there are `num_chains` chains a rung, rung after rung.
        num_samples: draws kept a chain; every `thin`-th step after `num_warmup` warm-up steps.
        seed: chain k of rung r has its own random stream, which depends on (seed, r, k) alone.
        store: folder of a zarr store; None keeps the draws in memory.
        resume: continue the run in `store`, bit for bit as if it had not stopped, or extend it where
            `num_samples` has grown; start it where there is none.
        init: "prior" starts each chain at a draw from the prior, "model" at the module's present latents.
        progress: show a progress bar where standard error is a terminal.
        compile, chunk_size: whether programs are compiled and how many chains one call evaluates; None
            chooses (`bnnpriors.planning`). Draws depend on the choice through rounding alone; a store
            remembers it.

    Raises:
        ValueError: counts below one, a sampler that cannot serve the posterior. StoreError: a store that
            belongs to another run, is damaged, locked, or does not fit the disk. SamplingError: a start
            without finite density, a chain that diverges to NaN.

    On SIGINT or SIGTERM a run with a store stops after the step at hand, checkpoints and raises
    KeyboardInterrupt; a run in memory returns the draws so far with a warning.
    """
    _check_counts(num_samples=num_samples, num_warmup=num_warmup, num_chains=num_chains, thin=thin)
    if init not in ("prior", "model"):
        raise ValueError(f"sample: init {init!r} given, expected 'prior' or 'model'")
    if resume and store is None:
        raise ValueError("sample: resume=True given without a store; pass store='folder'")
    sampler.check(posterior.target(num_chains * len(posterior.temperatures)))
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
    _check_room(cost, path)
    logger.info("%s: %s", type(sampler).__name__, cost)

    rungs = len(posterior.temperatures)
    keys = [(rung, chain) for rung in range(rungs) for chain in range(num_chains)]
    streams = Streams(seed, keys, dtype=posterior.dtype, device=posterior.device)
    theta = _start(posterior, streams, init)
    identity = fingerprint(
        posterior, sampler, num_warmup=num_warmup, num_chains=num_chains, thin=thin, seed=seed, init=init
    )
    existing = path is not None and resume and path.exists()
    if existing:
        assert path is not None
        archive = Store.open(path, writable=True)
        _check_same(path, archive, identity)
        plan = Plan(*archive.group.attrs["plan"])  # type: ignore[misc]
    else:
        plan = choose_plan(
            posterior, theta, cost.gradient_evaluations, chunk_size=chunk_size, compile=compile
        )
        meta = {
            "format": FORMAT, "identity": identity, "plan": list(plan), "torch": torch.__version__,
            "threads": torch.get_num_threads(), "temperatures": list(posterior.temperatures), "num_chains": num_chains,
            "layout": [[name, list(shape)] for name, shape in posterior.layout.shapes],
        }  # fmt: skip
        archive = Store.create(path, meta, _picklable(posterior) if path is not None else None)
    archive.lock()
    try:
        run = _Run(
            posterior.target(len(keys), plan), sampler, streams, archive, theta, num_warmup, num_samples, thin
        )
        with Progress(run.total, enabled=progress) as bar:
            finished = run.go(bar)
    finally:
        archive.close()
    if not finished and path is not None:
        logger.warning(
            "stopped at draw %d of %d; run again with resume=True to continue", archive.num_draws, num_samples
        )
        raise KeyboardInterrupt
    if not finished:
        warnings.warn(
            f"stopped at draw {archive.num_draws} of {num_samples}; these draws are returned", stacklevel=2
        )
    return Draws(archive, posterior)


class _Run:
    """One run from its start, or from the store's checkpoint, to its end."""

    def __init__(
        self, target: Target, sampler: Sampler, streams: Streams, store: Store, theta: Tensor, num_warmup:
            int, num_samples: int, thin: int
    ) -> None:  # fmt: skip
        self.target, self.sampler, self.streams, self.store = target, sampler, streams, store
        self.num_warmup, self.num_samples, self.thin = num_warmup, num_samples, thin
        self.total = num_warmup + num_samples * thin
        self._reserved = False
        if store.checkpoint is None:
            self.iteration = 0
            self.state = sampler.init(target, theta, streams)
            self._check_start()
        else:
            self.iteration = int(store.checkpoint["iteration"])
            saved = store.checkpoint["state"]
            self.state = sampler.state_type(**{name: value.to(theta.device) for name, value in saved.items()})
            streams.restore(store.checkpoint["streams"])

    def go(self, bar: Progress) -> bool:
        """Run to the end; False where a signal stopped it."""
        saved = time.monotonic()
        with _interruptible() as stop:
            while self.iteration < self.total and not stop.is_set():
                self.state, info = self.sampler.step(self.target, self.state, self.streams)
                if self.iteration < self.num_warmup:
                    self.state = self.sampler.adapt(self.state, info, self.iteration, self.num_warmup)
                elif (self.iteration - self.num_warmup + 1) % self.thin == 0:
                    self._record(info)
                self.iteration += 1
                if bar.due():
                    bar.show(self.iteration, self._figures(info), self.iteration <= self.num_warmup)
                if self.store.path is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._commit()
                    saved = time.monotonic()
            self._commit()
        return self.iteration >= self.total

    def _commit(self) -> None:
        if not self.state.theta.isfinite().all():
            self._raise_diverged()
        state = {name: value.cpu() for name, value in self.state._asdict().items()}
        self.store.commit({"iteration": self.iteration, "state": state, "streams": self.streams.state()})

    def _record(self, info: dict[str, Tensor]) -> None:
        if not self.state.theta.isfinite().all():
            self._raise_diverged()
        values = {"theta": _array(self.state.theta)}
        values |= {f"stats/{name}": _array(value) for name, value in info.items()}
        if hasattr(self.state, "potential") and not self.state.potential.isnan().all():
            values["stats/potential"] = _array(self.state.potential)
        for name, (overall, per_tensor) in self._temperatures().items():
            values[f"stats/{name}"] = _array(overall)
            values[f"tensor_stats/{name}"] = _array(per_tensor)
        if not self._reserved:
            self.store.reserve(values, self.num_samples)
            self._reserved = True
        self.store.append(values)

    def _temperatures(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Kinetic mᵀM⁻¹m/d and configurational θᵀ∇U/d, overall and per tensor."""
        layout = self.target.layout
        sizes = self.state.theta.new_tensor(layout.sizes)
        result = {}
        if hasattr(self.state, "momentum"):
            squares = self.state.momentum**2
            if hasattr(self.state, "inverse_mass"):
                squares = squares * self.state.inverse_mass
            result["kinetic_temperature"] = squares
        if hasattr(self.state, "gradient"):
            result["configurational_temperature"] = self.state.theta * self.state.gradient
        sums = {name: layout.per_tensor_sum(value) for name, value in result.items()}
        return {name: (value.sum(1) / layout.dim, value / sizes) for name, value in sums.items()}

    def _figures(self, info: dict[str, Tensor]) -> dict[str, float]:
        figures = {}
        if "acceptance" in info:
            figures["acceptance"] = float(info["acceptance"].mean())
        if hasattr(self.state, "momentum"):
            kinetic, _ = self._temperatures()["kinetic_temperature"]
            figures["T_kinetic/T"] = float((kinetic / self.target.temperature).mean())
        return figures

    def _check_start(self) -> None:
        potential = self.target.potential(self.state.theta)
        if not potential.isfinite().all():
            chains = (~potential.isfinite()).nonzero().flatten().tolist()
            raise SamplingError(
                f"chains {chains} start where the potential is not finite: check the prior's scales and the "
                f"data's range, or start "
                "elsewhere with init='model'"
            )

    def _raise_diverged(self) -> None:
        chains = (~self.state.theta.isfinite().all(1)).nonzero().flatten().tolist()
        temperatures = [round(float(self.target.temperature[c]), 6) for c in chains]
        where = (
            ""
            if self.store.path is None
            else f"; the draws up to the last checkpoint in {self.store.path} are valid"
        )
        raise SamplingError(
            f"chains {chains} (temperatures {temperatures}) left the finite numbers by step "
            f"{self.iteration}: lower the step size of "
            f"{self.sampler!r}{where}"
        )


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second signal interrupts at once. Outside the main thread
    signals are left alone."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start(posterior: Posterior, streams: Streams, init: str) -> Tensor:
    if init == "model":
        return posterior.current().repeat(len(streams.generators), 1)
    return torch.stack([posterior.sample_prior(generator) for generator in streams.generators])


def _array(value: Tensor) -> NDArray[Any]:
    return np.asarray(value.detach().cpu())


def _picklable(posterior: Posterior) -> Any:
    """The model and likelihood, for `Draws.open`; None with a warning where they cannot be pickled."""
    import io

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


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        least = 0 if name == "num_warmup" else 1
        if not isinstance(value, int) or value < least:
            raise ValueError(f"sample: {name} {value!r} given, expected an integer from {least}")


def _check_room(cost: Cost, path: Path | None) -> None:
    if path is not None and cost.disk_bytes > free_bytes(path):
        raise StoreError(
            f"{path}: the draws need {_size(cost.disk_bytes)} and the disk has {_size(free_bytes(path))} free. Raise thin, lower "
            "num_samples or num_chains, or choose another disk"
        )
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if cost.memory_bytes > available:
        advice = (
            "pass store='folder' to stream them to disk, or raise thin"
            if path is None
            else "lower num_chains"
        )
        raise MemoryError(
            f"the run needs {_size(cost.memory_bytes)} of memory and {_size(available)} is free: {advice}"
        )


def _check_same(path: Path, store: Store, identity: dict[str, Any]) -> None:
    lines = difference(dict(store.group.attrs["identity"]), identity)  # type: ignore[arg-type]
    if lines:
        raise StoreError(
            f"{path} belongs to another configuration:\n"
            + "\n".join(lines)
            + "\nChoose another path, or delete it"
        )
    now = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    changed = {
        name: store.group.attrs[name] for name, value in now.items() if store.group.attrs[name] != value
    }
    if changed:
        warnings.warn(
            f"the store was begun with {changed}, now {now}: draws from here on may differ in rounding",
            stacklevel=3,
        )


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
