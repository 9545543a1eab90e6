"""One run of a sampler: steps, recorded draws and figures, checkpoints, signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .posterior import Target
from .progress import Progress
from .samplers import Sampler
from .store import Store
from .streams import Streams
from .workers import parts, working

CHECKPOINT_SECONDS = 30.0
MEET_SECONDS = 0.2  # how long workers run on their own before a signal or the progress bar is looked at


class SamplingError(RuntimeError):
    """A run that cannot go on, with what to do about it."""


@dataclass
class _Group:
    """Chains that one worker advances, and their figures since the last kept draw."""

    target: Target
    streams: Streams
    state: Any
    figures: dict[str, Tensor]
    steps: int = 0

    def add(self, info: dict[str, Tensor]) -> None:
        """Figures of one step: acceptance is averaged over the steps of a draw, a divergence is kept, others are the last."""
        self.steps += 1
        if self.steps > 1:
            if "acceptance" in info:
                mean = self.figures["acceptance"]
                info = info | {"acceptance": mean + (info["acceptance"] - mean) / self.steps}
            if "divergent" in info:
                info = info | {"divergent": info["divergent"] | self.figures["divergent"]}
        self.figures = info


class Run:
    """One run from its start, or from the store's checkpoint, to its end."""

    def __init__(
        self, target: Target, sampler: Sampler, streams: Streams, store: Store, theta: Tensor, num_warmup:
            int, num_samples: int, thin: int
    ) -> None:  # fmt: skip
        self.target, self.sampler, self.store = target, sampler, store
        self.num_warmup, self.num_samples, self.thin = num_warmup, num_samples, thin
        self.total = num_warmup + num_samples * thin
        self._reserved = False
        split = parts(len(theta), target.plan.workers)
        self.groups = [_Group(target.part(part), streams.part(part), None, {}) for part in split]
        if store.checkpoint is None:
            self.iteration = 0
            with working(target.plan) as workers:
                states = workers.map(
                    lambda pair: sampler.init(pair[0].target, theta[pair[1]], pair[0].streams),
                    list(zip(self.groups, split, strict=True)),
                )
        else:
            self.iteration = int(store.checkpoint["iteration"])
            saved = {name: value.to(theta.device) for name, value in store.checkpoint["state"].items()}
            states = [sampler.state_type(**{n: value[part] for n, value in saved.items()}) for part in split]
            streams.restore(store.checkpoint["streams"])
        figures = {} if store.checkpoint is None else store.checkpoint.get("figures", {})
        for group, state, part in zip(self.groups, states, split, strict=True):
            group.state = state
            group.figures = {name: value[part].to(theta.device) for name, value in figures.items()}
            group.steps = 0 if store.checkpoint is None else int(store.checkpoint["steps"])
        if store.checkpoint is None:
            self._check_start()

    @property
    def state(self) -> Any:
        """The state of all chains."""
        if len(self.groups) == 1:
            return self.groups[0].state
        fields = [group.state._asdict() for group in self.groups]
        return type(self.groups[0].state)(
            **{name: torch.cat([each[name] for each in fields]) for name in fields[0]}
        )

    def go(self, bar: Progress) -> bool:
        """Run to the end; False where a signal stopped it."""
        saved = checked = time.monotonic()
        pace = 1
        numbers = (signal.SIGINT,) if self.store.path is None else (signal.SIGINT, signal.SIGTERM)
        with working(self.target.plan) as workers, _interruptible(numbers) as stop:
            for group in self.groups:
                group.streams.spare = workers.spare
            while self.iteration < self.total and not stop.is_set():
                steps, begun = min(pace, self._steps_to_record()), time.monotonic()
                workers.map(lambda group: self._advance(group, steps), self.groups)  # noqa: B023
                self.iteration += steps
                if len(self.groups) > 1:
                    pace = max(1, int(MEET_SECONDS * steps / (time.monotonic() - begun + 1e-9)))
                warm = self.iteration > self.num_warmup
                if warm and (self.iteration - self.num_warmup) % self.thin == 0:
                    self._record()
                elif time.monotonic() - checked > MEET_SECONDS:
                    self._finite_state()
                    checked = time.monotonic()
                if bar.due():
                    bar.show(self.iteration, self._shown(), self.iteration <= self.num_warmup)
                if self.store.path is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._commit()
                    saved = time.monotonic()
            self._commit()
        return self.iteration >= self.total

    def _steps_to_record(self) -> int:
        if self.iteration < self.num_warmup:
            return self.num_warmup - self.iteration
        return self.thin - (self.iteration - self.num_warmup) % self.thin

    def _advance(self, group: _Group, steps: int) -> None:
        for iteration in range(self.iteration, self.iteration + steps):
            group.state, info = self.sampler.step(group.target, group.state, group.streams)
            if iteration < self.num_warmup:
                group.state = self.sampler.adapt(group.state, info, iteration, self.num_warmup)
                group.figures = info
            else:
                group.add(info)

    def _figures(self) -> dict[str, Tensor]:
        """Figures of all chains since the last kept draw."""
        each = [group.figures for group in self.groups]
        return {name: torch.cat([figures[name] for figures in each]) for name in each[0]}

    def _commit(self) -> None:
        state = self._finite_state()
        fields = {name: value.cpu() for name, value in state._asdict().items()}
        figures = {name: value.cpu() for name, value in self._figures().items()}
        streams = torch.cat([group.streams.state() for group in self.groups])
        self.store.commit(
            {
                "iteration": self.iteration,
                "state": fields,
                "figures": figures,
                "steps": self.groups[0].steps,
                "streams": streams,
            }
        )

    def _record(self) -> None:
        state, info = self._finite_state(), self._figures()
        for group in self.groups:
            group.steps = 0
        values = {"theta": _array(state.theta)}
        values |= {f"stats/{name}": _array(value) for name, value in info.items()}
        if hasattr(state, "potential") and not state.potential.isnan().all():
            values["stats/potential"] = _array(state.potential)
        for name, (overall, per_tensor) in self._temperatures(state).items():
            values[f"stats/{name}"] = _array(overall)
            values[f"tensor_stats/{name}"] = _array(per_tensor)
        if not self._reserved:
            self.store.reserve(values, self.num_samples)
            self._reserved = True
        self.store.append(values)

    def _temperatures(self, state: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Kinetic mᵀM⁻¹m/d and configurational θᵀ∇U/d, overall and per tensor."""
        layout = self.target.layout
        sizes = state.theta.new_tensor(layout.sizes)
        result = {}
        if hasattr(state, "momentum"):
            squares = state.momentum**2
            if hasattr(state, "inverse_mass"):
                squares = squares * state.inverse_mass
            result["kinetic_temperature"] = squares
        if hasattr(state, "gradient"):
            result["configurational_temperature"] = state.theta * state.gradient
        sums = {name: layout.per_tensor_sum(value) for name, value in result.items()}
        return {name: (value.sum(1) / layout.dim, value / sizes) for name, value in sums.items()}

    def _shown(self) -> dict[str, float]:
        figures, state, info = {}, self.state, self._figures()
        if "acceptance" in info:
            figures["acceptance"] = float(info["acceptance"].mean())
        if hasattr(state, "momentum"):
            kinetic, _ = self._temperatures(state)["kinetic_temperature"]
            figures["T_kinetic/T"] = float((kinetic / self.target.temperature).mean())
        return figures

    def _check_start(self) -> None:
        state = self.state
        potential = getattr(state, "potential", None)
        if potential is None or potential.isnan().all():
            potential = self.target.uncompiled().potential(state.theta)
        if not potential.isfinite().all():
            chains = (~potential.isfinite()).nonzero().flatten().tolist()
            raise SamplingError(
                f"chains {chains} start where the potential is not finite: check the prior's scales and the "
                f"data's range, or start "
                "elsewhere with init='model'"
            )

    def _finite_state(self) -> Any:
        """The state of all chains; raises SamplingError where one has left the finite numbers."""
        state = self.state
        chains = (~state.theta.isfinite().all(1)).nonzero().flatten().tolist()
        if not chains:
            return state
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
