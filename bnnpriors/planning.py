"""How a run evaluates its potentials: chains in one call, examples in one call, traced or compiled.

Short runs take a fixed rule: dense networks run eight chains at a time (which fits the cache), other networks one after
the other, accelerators all at once; compiled programs run on as many threads as torch has, each with its own chains. Long
runs measure the candidates once on this machine and remember the figures in the user's cache folder, so that the same
problem gets the same plan, and with it the same bits, the next time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .batched import is_dense
from .programs import Plan
from .workers import onednn_pays, parts, working

if TYPE_CHECKING:
    from .posterior import Posterior, Target

logger = logging.getLogger("bnnpriors")

BLOCK_BYTES = 256 * 2**20
MEASURE_ABOVE = 15.0
COMPILE_ABOVE = 45.0
CHUNK = 8
BARRIERS = 1.2  # the best of a few timings flatters operations whose threads wait for one another: another process stops them


def default_plan(
    posterior: Posterior, num_chains: int, chunk_size: int | None = None, compiled: bool = False
) -> Plan:
    """The fixed rule."""
    if chunk_size is None:
        x = posterior.data.x
        dense = x is None or is_dense(posterior.forward_for(x))
        chunk_size = num_chains if posterior.device.type != "cpu" else CHUNK if dense else 1
    if chunk_size < 1:
        raise ValueError(f"chunk_size {chunk_size} given, expected 1 or more chains")
    return _plan(
        posterior, num_chains, chunk_size, _threads(posterior, num_chains) if compiled else 1, compiled
    )


def choose_plan(
    posterior: Posterior,
    theta: Tensor,
    evaluations: float,
    *,
    chunk_size: int | None,
    compile: bool | None,
) -> Plan:
    """The plan for about `evaluations` full-data gradients of every chain in `theta`.

    Args:
        chunk_size, compile: fixed by the user where they are not None.
    """
    chains = theta.shape[0]
    plan = default_plan(posterior, chains, chunk_size, bool(compile))
    if posterior.device.type != "cpu" or (chunk_size is not None and compile is not None):
        return plan
    figures = _Figures(posterior, theta)
    if figures.is_new and not _worth_measuring(posterior, theta, plan, evaluations):
        return plan
    sizes = [chunk_size] if chunk_size is not None else sorted({1, min(CHUNK, chains), chains})
    threads = _threads(posterior, chains)
    counts = [threads] if compile else sorted({1, threads})
    pairs = [(size, count) for count in counts for size in sizes]
    candidates = list(dict.fromkeys(_plan(posterior, chains, *pair, bool(compile)) for pair in pairs))
    plan = min(candidates, key=lambda p: figures.seconds(p) * (BARRIERS if p.workers < threads else 1.0))
    slow = figures.seconds(plan) * evaluations
    if compile is None and slow > COMPILE_ABOVE:
        fast = _plan(posterior, chains, plan.chunk_size, threads, True)
        try:
            gain = slow - figures.seconds(fast) * evaluations
        except RuntimeError as error:
            gain = 0.0
            logger.warning(
                "programs stay uncompiled, about half as fast: is a C++ compiler (g++) installed? %s", error
            )
        plan = fast if gain > 0 and gain > 2 * figures.setup(fast) else plan
    if posterior.dtype == torch.float32 and onednn_pays():
        plan = min((plan, plan._replace(onednn=True)), key=figures.seconds)
    return plan


def _threads(posterior: Posterior, chains: int) -> int:
    """Threads that can share the chains: torch's own number, or one where there are fewer chains than that."""
    threads = torch.get_num_threads() if posterior.device.type == "cpu" else 1
    return threads if chains >= threads else 1


def _plan(posterior: Posterior, chains: int, chunk_size: int, workers: int, compiled: bool) -> Plan:
    chunk_size = min(chunk_size, -(-chains // workers))
    return Plan(chunk_size, _block_size(posterior, chunk_size), compiled, workers)


def _worth_measuring(posterior: Posterior, theta: Tensor, plan: Plan, evaluations: float) -> bool:
    uncompiled = plan._replace(compiled=False, workers=1)
    return _time(posterior, theta, uncompiled, repeats=1)[1] * evaluations > MEASURE_ABOVE


def _time(posterior: Posterior, theta: Tensor, plan: Plan, repeats: int) -> tuple[float, float]:
    """Seconds of the first gradient, with all set-up, and of the best of the next ones."""
    target = posterior.target(theta.shape[0], plan)
    groups = [(target.part(part), theta[part]) for part in parts(len(theta), plan.workers)]
    with working(plan.workers, onednn=plan.onednn) as workers:

        def gradients(times: int) -> float:
            def work(group: tuple[Target, Tensor]) -> None:
                for _ in range(times):
                    group[0].value_and_gradient(group[1])

            start = time.perf_counter()
            workers.map(work, groups)
            return (time.perf_counter() - start) / times

        setup = gradients(1)
        return setup, min((gradients(3) for _ in range(repeats)), default=float("inf"))


class _Figures:
    """Seconds a gradient of all chains, by plan, measured once and kept in the cache folder."""

    def __init__(self, posterior: Posterior, theta: Tensor) -> None:
        self._measure: Callable[[Plan], tuple[float, float]] = lambda plan: _time(
            posterior, theta, plan, repeats=5
        )
        shapes = [None if t is None else tuple(t.shape) for t in posterior.data[:2]]
        machine = [platform.machine(), _cpu_name(), torch.__version__, torch.get_num_threads()]
        problem = [
            str(posterior.model.net),
            posterior.layout.shapes,
            shapes,
            tuple(theta.shape),
            str(theta.dtype),
        ]
        priors = {name: str(prior) for name, prior in posterior.model.named_priors().items()}
        key = hashlib.sha256(repr([problem, priors, machine]).encode()).hexdigest()[:24]
        self._file = cache_folder() / "plans" / f"{key}.json"
        self._known = _read_figures(self._file)
        self.is_new = not self._known

    def seconds(self, plan: Plan) -> float:
        """Seconds a gradient."""
        return self._of(plan)[1]

    def setup(self, plan: Plan) -> float:
        """Seconds of the first gradient."""
        return self._of(plan)[0]

    def _of(self, plan: Plan) -> list[float]:
        name = "/".join(map(str, plan))
        if name not in self._known:
            self._known[name] = list(self._measure(plan))
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


def _read_figures(file: Path) -> dict[str, list[float]]:
    """What the file holds; nothing where it is absent, damaged or of another version."""
    try:
        known = json.loads(file.read_text())
        return {name: [float(setup), float(seconds)] for name, (setup, seconds) in known.items()}
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


def _block_size(posterior: Posterior, chunk_size: int) -> int:
    """Examples a call such that activations, forward and backward, stay near `BLOCK_BYTES`."""
    x = posterior.data.x
    if x is None:
        return 1
    numbers = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal numbers
        if isinstance(output, Tensor):
            numbers += output.numel()

    hooks = [m.register_forward_hook(count) for m in posterior.model.modules() if not list(m.children())]
    try:
        with torch.no_grad():
            posterior.model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    example_bytes = 3 * chunk_size * x.element_size() * max(numbers, 1) + x[0].numel() * x.element_size()
    return max(1, min(len(x), max(32, BLOCK_BYTES // example_bytes)))
