"""How long the gradients of a posterior take under each plan, measured once on this machine and remembered."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .programs import Plan
from .streams import Streams
from .tracing import CompileError
from .workers import parts, working

if TYPE_CHECKING:
    from .posterior import Posterior, Target

Figures = tuple[float, float]
"""Seconds of the first gradient of all chains, with all set-up, and of one after it."""
EXACT, ESTIMATE = "exact", "estimate"


class Timings:
    """Seconds that a run spends in gradients, by plan; figures are kept in the cache folder.

    Args:
        gradients: exact ones and estimates of the whole run; without a batch size all are exact.
    """

    def __init__(self, posterior: Posterior, theta: Tensor, gradients: tuple[float, float]) -> None:
        exact, estimates = gradients
        if posterior.batch_size is None and not posterior.is_random:
            exact, estimates = exact + estimates, 0.0
        self._counts = {kind: n for kind, n in ((EXACT, exact), (ESTIMATE, estimates)) if n > 0}
        self._measure: Callable[[Plan, str, int], Figures] = lambda *given: measure(posterior, theta, *given)
        shapes = [None if t is None else tuple(t.shape) for t in posterior.data[:2]]
        copies = None if posterior.augmented is None else repr(posterior.augmented)
        machine = [platform.machine(), _cpu_name(), torch.__version__, torch.get_num_threads()]
        problem = [
            str(posterior.model.net),
            posterior.layout.shapes,
            shapes,
            posterior.batch_size,
            tuple(theta.shape),
            str(theta.dtype),
            *([] if copies is None else [copies]),
        ]
        priors = {name: str(prior) for name, prior in posterior.model.named_priors().items()}
        key = hashlib.sha256(repr([problem, priors, machine]).encode()).hexdigest()[:24]
        self._file = cache_folder() / "plans" / f"{key}.json"
        self._known = _read(self._file)

    def estimate(self, plan: Plan) -> float:
        """`seconds` where they are known; otherwise from a single gradient, which is not remembered."""
        total = 0.0
        for kind, count in self._counts.items():
            figures = self._known.get(_name(plan, kind)) or self._measure(plan, kind, 1)
            total += count * figures[1]
        return total

    def seconds(self, plan: Plan) -> float:
        """Seconds of the run without set-up; infinity where the network cannot be evaluated under this plan."""
        return sum(count * self._of(plan, kind)[1] for kind, count in self._counts.items())

    def setup(self, plan: Plan) -> float:
        """Seconds of set-up."""
        return sum(self._of(plan, kind)[0] for kind in self._counts)

    def build(self, plan: Plan) -> None:
        """Trace, and compile if the plan says so, what the run will evaluate. Raises CompileError."""
        for kind in self._counts:
            self._measure(plan, kind, 1)

    def _of(self, plan: Plan, kind: str) -> Figures:
        name = _name(plan, kind)
        if name not in self._known:
            try:
                self._known[name] = self._measure(plan, kind, 5)
            except CompileError:
                raise
            except RuntimeError:  # several chains at once, of a network that vmap does not take
                self._known[name] = (math.inf, math.inf)
            self._save()
        return self._known[name]

    def _save(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(self._known))
            partial.replace(self._file)
        except OSError:
            return


def measure(posterior: Posterior, theta: Tensor, plan: Plan, kind: str, repeats: int) -> Figures:
    """Time gradients of one kind as a run would evaluate them, estimates with their noise; the best of `repeats`."""
    target = posterior.target(theta.shape[0], plan)
    streams = Streams(0, [(0, k) for k in range(len(theta))], dtype=theta.dtype, device=theta.device)
    groups = [(target.part(p), theta[p], streams.part(p)) for p in parts(len(theta), plan.workers)]

    with working(plan) as workers:
        for _, _, numbers in groups:
            numbers.spare = workers.spare

        def seconds(times: int) -> float:
            def gradients(group: tuple[Target, Tensor, Streams]) -> None:
                own, start, numbers = group
                for _ in range(times):
                    if kind == EXACT:
                        own.value_and_gradient(start)
                    else:
                        numbers.normal(own.dim)
                        own.gradient_estimate(start, numbers)

            begun = time.perf_counter()
            workers.map(gradients, groups)
            return (time.perf_counter() - begun) / times

        setup = seconds(1)
        return setup, min(seconds(3 if repeats > 1 else 1) for _ in range(repeats))


def _name(plan: Plan, kind: str) -> str:
    return "/".join(map(str, (*plan, kind)))


def _read(file: Path) -> dict[str, Figures]:
    """What the file holds; nothing where it is absent, damaged or of another version."""
    try:
        known = json.loads(file.read_text())
        return {name: (float(setup), float(seconds)) for name, (setup, seconds) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def cache_folder() -> Path:
    """`BNNPRIORS_CACHE`, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("BNNPRIORS_CACHE") or pooch.os_cache("bnnpriors"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
