"""One run of a sampler whose chains are spread over the processes of a cluster, and whose driver alone writes.

Every group of chains goes along the same list of marks, at its own pace. A segment, from one mark to the next, is a function of
where the group stood at the first, so when its worker dies another does it again. Draws are appended, and checkpoints made, at
marks that all groups have passed: the store is the one that a run in one process writes.
"""

from __future__ import annotations

import queue
import time
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .group import Checkpoint, SamplingError, Schedule, join_checkpoints, join_records, part_of
from .grouping import divide
from .posterior import Posterior
from .programs import Plan
from .progress import Progress
from .run import CHECKPOINT_SECONDS, MEET_SECONDS, interruptible
from .samplers import Sampler
from .segments import Job, Segment, Stretch, advance
from .store import Store
from .streams import Streams, normal_source

if TYPE_CHECKING:
    from distributed import Client, Future

SEGMENT_SECONDS = 2.0
SEGMENT_BYTES = 32 * 2**20  # of draws of all chains between two marks
AHEAD = 3  # segments by which a group may be ahead of the slowest


class SpreadRun:
    """One run from its start, or from the store's checkpoint, to its end.

    Args:
        client: of the cluster. workers: processes that share the chains.
        packed: posterior and sampler, from `segments.pack`.
    """

    def __init__(
        self, client: Client, workers: int, packed: bytes, posterior: Posterior, sampler: Sampler, plan: Plan, streams: Streams,
        store: Store, theta: Tensor, schedule: Schedule,
    ) -> None:  # fmt: skip
        self.client, self.store, self.schedule, self.sampler = client, store, schedule, sampler
        normal = normal_source(posterior.dtype, posterior.device)
        self.job = Job(uuid.uuid4().hex, plan, streams.seed, streams.keys, normal, schedule, store.path)
        unit = 1 if sampler.independent_chains else len(theta) // len(posterior.temperatures)
        own_groups = plan if sampler.independent_chains else plan._replace(workers=1)
        self.chains = divide(len(theta), own_groups, unit, workers)
        self.saved = store.checkpoint
        self.iteration = 0 if self.saved is None else int(self.saved["iteration"])
        self.marks = [self.iteration]
        self._draw_bytes = theta.numel() * theta.element_size()
        self._packed = packed
        self._starts = [self._first(chains, theta, streams) for chains in self.chains]
        self._reached = [0] * len(self.chains)
        self._under_way: dict[int, Future] = {}
        self._stretches: dict[int, dict[int, Stretch]] = {}
        self._places: dict[int, str] = {}
        self._done: queue.SimpleQueue[tuple[int, Future]] = queue.SimpleQueue()
        self._pace, self._reserved, self._passed = 0.0, False, 0
        self._shown: list[dict[str, Tensor]] = [{} for _ in self.chains]

    def go(self, bar: Progress) -> bool:
        """Run to the end; False where a signal stopped it."""
        saved = time.monotonic()
        with interruptible(self.store) as stop:
            self._problem = self.client.submit(
                bytes, self._packed, key=f"bnnpriors-{self.job.token}", pure=False
            )
            try:
                while self.iteration < self.schedule.total and not stop.is_set():
                    self._submit()
                    self._wait()
                    if bar.due():
                        bar.show(self.iteration, self._figures(), self.iteration <= self.schedule.num_warmup)
                    if self.store.path is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                        self._commit(wait=False)
                        saved = time.monotonic()
                self._commit(wait=True)
            finally:
                with suppress(OSError):  # without a scheduler there is nothing to call off
                    self.client.cancel([self._problem, *self._under_way.values()])
        return self.iteration >= self.schedule.total

    def _first(self, chains: slice, theta: Tensor, streams: Streams) -> Checkpoint:
        if self.saved is not None:
            return part_of(self.saved, chains)
        return {"iteration": 0, "theta": theta[chains].cpu(), "streams": streams.state()[chains]}

    def _submit(self) -> None:
        """A segment for every group that has none and is not too far ahead."""
        waiting = [g for g in range(len(self.chains)) if g not in self._under_way and self._may_go(g)]
        if not waiting:
            return
        try:
            places = list(self.client.nthreads())
        except OSError as error:
            raise self._lost(f"the connection to the scheduler is lost ({error})") from error
        for group in waiting:
            index = self._reached[group]
            if index + 1 == len(self.marks):
                self.marks.append(self._next_mark())
            segment = Segment(self.chains[group], self._starts[group], self.marks[index + 1])
            place = self._place(group, places)
            future = self.client.submit(
                advance, self._problem, self.job, segment, key=f"bnnpriors-{self.job.token}-{group}-{index}", pure=False,
                workers=place, allow_other_workers=place is not None,
            )  # fmt: skip
            self._under_way[group] = future
            future.add_done_callback(lambda done, group=group: self._done.put((group, done)))

    def _may_go(self, group: int) -> bool:
        index = self._reached[group]
        return self.marks[index] < self.schedule.total and index <= self._passed + AHEAD

    def _next_mark(self) -> int:
        """Some seconds of steps further, and not more draws than fit the memory many times."""
        draws = max(1, SEGMENT_BYTES // self._draw_bytes)
        steps = max(1, min(int(SEGMENT_SECONDS * self._pace), draws * self.schedule.thin))
        return min(self.marks[-1] + steps, self.schedule.total)

    def _place(self, group: int, places: list[str]) -> str | None:
        """The worker that has the group's programs already, or else the one with the fewest groups."""
        if self._places.get(group) not in places:
            self._places.pop(group, None)
            taken = list(self._places.values())
            if not places:
                return None
            self._places[group] = min(places, key=taken.count)
        return self._places[group]

    def _wait(self) -> None:
        """For a group to reach its mark, or a moment; then keep the draws up to the mark that all have passed."""
        try:
            group, future = self._done.get(timeout=MEET_SECONDS)
        except queue.Empty:
            if self.client.status not in ("running", "connecting"):
                raise self._lost("the connection to the scheduler is lost") from None
            return
        stretch = self._result(group, future)
        del self._under_way[group]
        index = self._reached[group]
        self._stretches.setdefault(index, {})[group] = stretch
        self._starts[group], self._shown[group], self._pace = stretch.end, stretch.shown, stretch.pace
        self._reached[group] += 1
        while len(self._stretches.get(self._passed, {})) == len(self.chains):
            self._keep(self._stretches.pop(self._passed))

    def _keep(self, stretches: dict[int, Stretch]) -> None:
        each = [stretches[group] for group in range(len(self.chains))]
        if each[0].draws:
            values = join_records([stretch.draws for stretch in each])
            for draw in range(values["theta"].shape[1]):
                row = {name: np.ascontiguousarray(value[:, draw]) for name, value in values.items()}
                if not self._reserved:
                    self.store.reserve(row, self.schedule.num_samples)
                    self._reserved = True
                self.store.append(row)
        self._passed += 1
        self.iteration = self.marks[self._passed]
        self.saved = join_checkpoints([stretch.end for stretch in each])

    def _result(self, group: int, future: Future) -> Stretch:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            first, last = self.chains[group].start, self.chains[group].stop - 1
            raise self._lost(
                f"worker after worker died with chains {first} to {last} after step {self.marks[self._reached[group]]}, for want "
                f"of memory perhaps ({error})"
            ) from error
        except CancelledError as error:
            raise self._lost(f"the scheduler gave up a task of this run ({error})") from error

    def _lost(self, what: str) -> SamplingError:
        rest = (
            ""
            if self.store.path is None
            else "; run again with resume=True to continue from the last checkpoint"
        )
        return SamplingError(what + rest)

    def _commit(self, *, wait: bool) -> None:
        if self.saved is not None:
            self.store.commit(self.saved, wait=wait)

    def _figures(self) -> dict[str, float]:
        names: Any = set.intersection(*(set(shown) for shown in self._shown))
        return {
            name: float(torch.cat([shown[name] for shown in self._shown]).mean()) for name in sorted(names)
        }
