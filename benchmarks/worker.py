"""The child process: build one contender, check that it samples the right density, time it, print one line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from typing import Any

from benchmarks.harness import limit_threads, measure

DENSITY_TOLERANCE = 1e-3  # relative: float32 sums over the full data


def work(job: str, name: str, chains: int, seconds: float, threads: int) -> dict[str, Any]:
    """Record of one measurement.

    Raises:
        AssertionError: the contender's log density is not the problem's.
    """
    limit_threads(threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    module = importlib.import_module(f"benchmarks.{job}")
    entry = next(entry for entry in module.CONTENDERS if entry.name == name)
    missing = [package for package in entry.packages if importlib.util.find_spec(package) is None]
    if missing:
        return {"skipped": f"{', '.join(missing)} not installed"}
    problem = module.PROBLEM
    start = time.perf_counter()
    build = importlib.import_module(f"benchmarks.contenders.{entry.module}").build
    imports = time.perf_counter() - start
    with contextlib.redirect_stdout(sys.stderr):
        contender = build(problem, chains)
        record = measure(contender, problem.steps_per_block * chains, seconds)
        check_density(contender, problem)
    versions = {package: version(package) for package in entry.packages}
    return record | {
        "import_s": imports,
        "load": load,
        "python": platform.python_version(),
        "versions": versions,
    }


def check_density(contender: Any, problem: Any) -> None:
    """Compare log density differences between a prior draw and zero with the problem's own, in float64."""
    theta = {name: value[0] for name, value in problem.prior_draws(1, seed=7).items()}
    found = contender.log_density(theta) - contender.log_density(
        {name: 0.0 * value for name, value in theta.items()}
    )
    expected = problem.log_density(theta)
    if not abs(found - expected) <= DENSITY_TOLERANCE * abs(expected):
        raise AssertionError(
            f"log density difference {found:.6g}: expected {expected:.6g} — it samples another target"
        )


def version(package: str) -> str:
    """Version of the distribution that provides an import package."""
    names = importlib.metadata.packages_distributions().get(package, [package])
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(names[0])
    return "source tree"


def main() -> None:
    """Parse the arguments that `benchmarks.harness.launch` gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", required=True)
    parser.add_argument("--contender", required=True)
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    print(json.dumps(work(given.job, given.contender, given.chains, given.seconds, given.threads)))


if __name__ == "__main__":
    main()
