"""How cost grows: seconds a step against chains and against rows of data, and memory against draws. A plot of each.

    python -m benchmarks.scaling                           # about 3 minutes on two cores; writes docs/assets/scaling.png

Time: HMC of `benchmarks.hmc_regression` (13–50–50–1), the public interface, compiled; the difference between a long and a short
call, so that set-up is left out. Memory: the highest resident set of a process that writes its draws to a store.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, child_environment, limit_threads, measure
from benchmarks.hmc_regression import PROBLEM

CHAINS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ROWS = (250, 500, 1000, 2000, 4000, 8000, 16000)
DRAWS = (100, 300, 1000, 3000, 10000)
CHAINS_FOR_ROWS = 8


def seconds_a_step(chains: int, rows: int, seconds: float) -> float:
    """One leapfrog step of all chains."""
    from benchmarks.contenders.ours import Ours

    steps = max(50, 500 * 8 * 455 // (chains * rows) // 50 * 50)
    problem = replace(PROBLEM, num_data=rows, steps_per_block=steps)
    return 1 / measure(Ours(problem, chains), steps, seconds)["rate"]


def peak_memory(draws: int) -> float:
    """MiB of a process that keeps `draws` draws of 8 chains in a store."""
    import bnnpriors as bp
    from benchmarks.contenders.ours import Ours

    ours = Ours(PROBLEM, 8)
    with tempfile.TemporaryDirectory() as folder:
        bp.sample(
            ours.posterior,
            bp.samplers.SGLD(step_size=1e-3),
            num_samples=draws,
            num_chains=8,
            store=Path(folder) / "run",
            progress=False,
            compile=False,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(what: str, value: int, seconds: float, threads: int) -> float:
    """A figure from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--child", what, str(value)]
    command += ["--seconds", str(seconds), "--threads", str(threads)]
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment(threads), capture_output=True, text=True, check=True
    )
    return float(done.stdout.strip().splitlines()[-1])


def slope(x: tuple[int, ...], y: list[float]) -> float:
    """Exponent p of y ∝ x^p over the upper half of the range."""
    half = len(x) // 2
    return float(np.polyfit(np.log(x[half:]), np.log(y[half:]), 1)[0])


def plot(curves: dict[str, tuple[tuple[int, ...], list[float]]], path: Path) -> None:
    """Three panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    labels = {
        "chains": ("chains, 455 rows", "ms a leapfrog step of all chains", 1e3),
        "rows": (f"rows of data, {CHAINS_FOR_ROWS} chains", "ms a leapfrog step of all chains", 1e3),
        "draws": ("draws of 8 chains in a store", "peak memory, MiB", 1.0),
    }
    for axes, (what, (x, y)) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        label, unit, factor = labels[what]
        values = [factor * value for value in y]
        axes.plot(x, values, "o-", color="C0")
        axes.set(xscale="log", xlabel=label, ylabel=unit)
        if what == "draws":
            axes.set_ylim(0, 1.3 * max(values))
            continue
        axes.set_yscale("log")
        axes.plot(x, [values[-1] * n / x[-1] for n in x], "--", color="0.6", label="linear", zorder=0)
        axes.set_title(f"∝ n^{slope(x, y):.2f} over the upper half", fontsize="medium")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of a timed call")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "assets" / "scaling.png")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        limit_threads(given.threads)
        what, value = given.child[0], int(given.child[1])
        if what == "draws":
            print(peak_memory(value))
        else:
            chains, rows = (value, 455) if what == "chains" else (CHAINS_FOR_ROWS, value)
            print(seconds_a_step(chains, rows, given.seconds))
        return
    curves = {}
    for what, values in {"chains": CHAINS, "rows": ROWS, "draws": DRAWS}.items():
        found = []
        for value in values:
            found.append(child(what, value, given.seconds, given.threads))
            print(f"{what} {value}: {found[-1]:.6g}", flush=True)
        curves[what] = (values, found)
    plot(curves, given.output)


if __name__ == "__main__":
    main()
