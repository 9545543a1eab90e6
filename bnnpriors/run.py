"""One run of a sampler: steps, recorded draws and figures, checkpoints, signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .posterior import Target
from .progress import Progress
from .samplers import Sampler
from .store import Store
from .streams import Streams

CHECKPOINT_SECONDS = 30.0


class SamplingError(RuntimeError):
    """A run that cannot go on, with what to do about it."""


class Run:
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
        numbers = (signal.SIGINT,) if self.store.path is None else (signal.SIGINT, signal.SIGTERM)
        with _interruptible(numbers) as stop:
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
def _interruptible(numbers: tuple[int, ...]) -> Iterator[threading.Event]:
    """An event that these signals set; a second signal interrupts at once. Outside the main thread
    signals are left alone."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _array(value: Tensor) -> NDArray[Any]:
    return np.asarray(value.detach().cpu())
