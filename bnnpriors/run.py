"""One run of a sampler in this process: steps, recorded draws and figures, checkpoints, signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import torch
from torch import Tensor

from .group import Group, Schedule, join_checkpoints, join_records, part_of, refuse_lost, refuse_starts
from .grouping import later_parts
from .posterior import Target
from .progress import Progress
from .samplers import Sampler
from .store import Store
from .streams import Streams
from .workers import parts, working

CHECKPOINT_SECONDS = 30.0
MEET_SECONDS = 0.2  # how long workers run on their own before a signal or the progress bar is looked at


class Run:
    """One run from its start, or from the store's checkpoint, to its end."""

    def __init__(
        self, target: Target, sampler: Sampler, streams: Streams, store: Store, theta: Tensor, schedule: Schedule
    ) -> None:  # fmt: skip
        self.target, self.sampler, self.store, self.schedule = target, sampler, store, schedule
        self.streams, self._reserved = streams, False
        whole = slice(0, len(theta))
        split, self._later = [whole], [whole]
        if sampler.independent_chains:
            split = parts(len(theta), target.plan.workers)
        else:
            self._later = later_parts(len(theta), target.plan, sampler, len(target.temperature.unique()))
        self.groups = [self._group(chains) for chains in split]
        saved = store.checkpoint
        self.iteration = 0 if saved is None else int(saved["iteration"])
        pairs = list(zip(self.groups, split, strict=True))
        if saved is None:
            with working(target.plan) as workers:
                workers.map(lambda pair: pair[0].start(theta[pair[1]]), pairs)
            refuse_starts([chain for group in self.groups for chain in group.bad_starts()])
        else:
            for group, chains in pairs:
                group.resume(part_of(saved, chains))

    def _group(self, chains: slice) -> Group:
        return Group(self.sampler, self.target.part(chains), self.streams.part(chains), chains.start)

    def _part(self) -> None:
        """Spread the only group, whose warm-up is over, over the threads."""
        whole, self.groups = self.groups[0], [self._group(chains) for chains in self._later]
        states = self.sampler.split(whole.state, self._later)
        for group, state, chains in zip(self.groups, states, self._later, strict=True):
            group.state, group.steps = state, whole.steps
            group.figures = {name: value[chains] for name, value in whole.figures.items()}

    def go(self, bar: Progress) -> bool:
        """Run to the end; False where a signal stopped it."""
        saved = checked = time.monotonic()
        pace, schedule = 1, self.schedule
        with working(self.target.plan) as workers, interruptible(self.store) as stop:
            for group in self.groups:
                group.streams.spare = workers.spare
                group.target.share = workers.share if len(self.groups) == 1 else None
            while self.iteration < schedule.total and not stop.is_set():
                if len(self.groups) < len(self._later) and self.iteration >= schedule.num_warmup:
                    self._part()
                steps, begun = min(pace, schedule.until_draw(self.iteration)), time.monotonic()
                workers.map(partial(self._advance, steps), self.groups)
                self.iteration += steps
                if len(self.groups) > 1:
                    pace = max(1, int(MEET_SECONDS * steps / (time.monotonic() - begun + 1e-9)))
                if schedule.is_draw(self.iteration):
                    self._record()
                elif time.monotonic() - checked > MEET_SECONDS:
                    self._check()
                    checked = time.monotonic()
                if bar.due():
                    bar.show(self.iteration, self._shown(), self.iteration <= schedule.num_warmup)
                if self.store.path is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._commit(wait=False)
                    saved = time.monotonic()
            self._commit(wait=True)
        return self.iteration >= schedule.total

    def _advance(self, steps: int, group: Group) -> None:
        group.advance(self.iteration, steps, self.schedule.num_warmup)

    def _record(self) -> None:
        self._check()
        values = join_records([group.record() for group in self.groups])
        if not self._reserved:
            self.store.reserve(values, self.schedule.num_samples)
            self._reserved = True
        self.store.append(values)

    def _commit(self, *, wait: bool) -> None:
        self._check()
        groups = self.groups
        if len(groups) == len(self._later) > 1:
            whole = self._group(slice(0, len(self.target.temperature)))
            whole.state, whole.steps = self.sampler.join([group.state for group in groups]), groups[0].steps
            names = groups[0].figures
            whole.figures = {name: torch.cat([group.figures[name] for group in groups]) for name in names}
            groups = [whole]
        self.store.commit(join_checkpoints([group.checkpoint(self.iteration) for group in groups]), wait=wait)

    def _check(self) -> None:
        lost = [chain for group in self.groups for chain in group.lost()]
        refuse_lost(lost, self.target.temperature, self.iteration, self.sampler, self.store.path)

    def _shown(self) -> dict[str, float]:
        each = [group.shown() for group in self.groups]
        return {name: float(torch.cat([one[name] for one in each]).mean()) for name in each[0]}


@contextmanager
def interruptible(store: Store) -> Iterator[threading.Event]:
    """An event that SIGINT sets, and SIGTERM too where the store is on disk; a second signal interrupts at once.

    Outside the main thread signals are left alone.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGINT,) if store.path is None else (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
