"""How a contender is described, timed and launched in a process of its own. Standard library only."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from benchmarks.problem import Parameters

ROOT = Path(__file__).resolve().parent.parent
MAX_GROWTH = 8.0  # how much more work a call may do than the one before it while the right length is sought
CHILD_TIMEOUT_S = 1800


class Contender(Protocol):
    """A sampler ready to be timed."""

    def log_density(self, theta: Parameters) -> float:
        """Full-data log density of one chain at `theta` (arrays of `problem.shapes()`), up to a constant."""

    def run(self, blocks: int) -> float:
        """Sample `blocks` blocks with every chain, wait for the result, and return a figure that depends on all of it."""


@dataclass(frozen=True)
class Entry:
    """A contender's place in a job.

    Attributes:
        name: shown in the table.
        module: module of `benchmarks.contenders` that builds it.
        packages: what must be installed for it to run.
        chains: numbers of chains that it can run; None for all of the job's.
        ours: runs in this interpreter, and is compared with the others.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    chains: tuple[int, ...] | None = None
    ours: bool = False


def measure(contender: Contender, evaluations_per_block: int, seconds: float) -> dict[str, float]:
    """Time a contender by differences, so that what a call costs before its first step is left out of the rate.

    With t(b) the wall time of a call of b blocks in seconds, and B grown until t(B) - t(1) >= `seconds`,

        rate  = evaluations_per_block (B - 1) / (t(B) - t(1))    evaluations per second, all chains together
        setup = t_first - (t(B) - t(1)) / (B - 1)                seconds: tracing, compiling, allocating
        call  = t(1)    - (t(B) - t(1)) / (B - 1)                seconds: what later calls still pay before stepping

    where t_first is the first call (one block) of the process and t(1) the better of two later ones.

    Raises:
        ArithmeticError: a chain left the finite numbers.
    """

    def timed(blocks: int) -> float:
        start = time.perf_counter()
        figure = contender.run(blocks)
        elapsed = time.perf_counter() - start
        if not math.isfinite(figure):
            raise ArithmeticError(
                f"the chains diverged (figure {figure}): expected finite positions — lower step_size"
            )
        return elapsed

    first = timed(1)
    one = min(timed(1), timed(1))
    blocks, difference = 1, 0.0
    while difference < seconds:
        needed = 1.2 * seconds * blocks / max(difference, one)
        blocks = max(blocks + 1, math.ceil(min(needed, MAX_GROWTH * blocks)))
        difference = timed(blocks) - one
    per_block = difference / (blocks - 1)
    return {
        "rate": evaluations_per_block / per_block,
        "setup_s": max(0.0, first - per_block),
        "call_s": max(0.0, one - per_block),
        "blocks": blocks,
        "timed_s": difference,
    }


def launch(
    entry: Entry, *, job: str, chains: int, seconds: float, threads: int, interpreter: str, cache: Path
) -> dict[str, Any]:
    """Measure one contender in a fresh process limited to `threads` cores.

    `cache` holds compiled kernels of every contender, so the first process compiles and later ones may find the
    result; both are reported. Returns the worker's record, or {"skipped": reason} or {"failed": reason}.
    """
    command = [interpreter, "-m", "benchmarks.worker", "--job", job, "--contender", entry.name]
    command += ["--chains", str(chains), "--seconds", str(seconds), "--threads", str(threads)]
    environment = child_environment(threads)
    environment |= {
        name: str(cache / name) for name in ("TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    }
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {
            "failed": lines[-1] if lines else f"exit status {done.returncode}",
            "stderr": done.stderr[-4000:],
        }
    return json.loads(done.stdout.strip().splitlines()[-1])


def child_environment(threads: int) -> dict[str, str]:
    """This process's environment for a contender on `threads` cores, without accelerators."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="", PYTHONWARNINGS="ignore")
    return environment | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


def limit_threads(threads: int) -> None:
    """Bind this process to `threads` cores where the system can: XLA sizes its thread pool by them. Call before imports."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
