"""Effective samples of the predictions per second: our best sampler against the NUTS of other libraries.

    python -m benchmarks.prediction_ess --data ../shared/data/uci          # diabetes and concrete, 3 rounds
    python -m benchmarks.prediction_ess --problems diabetes --contenders "bnnpriors, ChEES" "blackjax, NUTS" --rounds 1

Ours is `ChEES` with 16 chains on every problem: it has nothing to set, so nothing is chosen by looking at results. HMC, whose
number of steps was chosen, and Pyro are measured only where they are named.

The posteriors are those of `benchmarks.regression`. Every contender runs as its library suggests, adaptation included, in a
fresh process bound to `--threads` cores, in interleaved rounds (A B C A B C ...). Judged are the predicted means f(x) at 64 test
inputs: the effective sample size is ArviZ's bulk ESS over all chains, and R̂ its rank-normalised split R̂. Seconds are those of
the whole call: compiling, warm-up and draws.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from benchmarks.harness import ROOT, child_environment, limit_threads
from benchmarks.problem import Parameters
from benchmarks.regression import Regression, load

TOLERANCE = 1e-3


class Sampled(Protocol):
    """A contender ready to run once."""

    gradients: float
    """Gradients in the run, all chains together; NaN where the library does not tell."""

    def log_density(self, theta: Parameters) -> float:
        """Log density of one chain at `theta`, up to a constant."""

    def sample(self) -> dict[str, np.ndarray]:
        """Warm up and draw: each parameter [chains, draws, *shape]."""


@dataclass(frozen=True)
class Entry:
    """A contender.

    Attributes:
        name, module, packages: as in `benchmarks.harness.Entry`.
        chains, warmup, draws: how it is run.
        by_default: whether it is measured where no contenders are named.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    chains: int = 4
    warmup: int = 300
    draws: int = 300
    ours: bool = False
    by_default: bool = True


OURS = ("torch", "bnnpriors")
CONTENDERS = (
    Entry("bnnpriors, ChEES", "ess_chees", OURS, chains=16, warmup=200, draws=600, ours=True),
    Entry("bnnpriors, HMC", "ess_ours", OURS, chains=8, warmup=200, draws=1000, ours=True, by_default=False),
    Entry("blackjax, NUTS", "ess_blackjax", ("jax", "blackjax")),
    Entry("numpyro, NUTS", "ess_numpyro", ("jax", "numpyro")),
    Entry("pyro, NUTS", "ess_pyro", ("torch", "pyro"), chains=2, warmup=50, draws=50, by_default=False),
)


def work(entry: Entry, regression: Regression) -> dict[str, Any]:
    """The record of one run, in this process.

    Raises:
        AssertionError: the contender samples another density.
    """
    missing = [package for package in entry.packages if importlib.util.find_spec(package) is None]
    if missing:
        return {"skipped": f"{', '.join(missing)} not installed"}
    build = importlib.import_module(f"benchmarks.contenders.{entry.module}").build
    contender: Sampled = build(regression, entry.chains, entry.warmup, entry.draws)
    check_density(contender, regression)
    start = time.perf_counter()
    theta = contender.sample()
    seconds = time.perf_counter() - start
    return judge(regression, theta) | {"seconds": seconds, "gradients": contender.gradients}


def judge(regression: Regression, theta: Parameters) -> dict[str, float]:
    """ESS and R̂ over the test inputs of draws [chains, draws, *shape], and the error of the mean prediction."""
    from arviz_stats.base import array_stats

    found = regression.outputs(theta, regression.x_test)[..., 0]
    columns = [np.ascontiguousarray(column) for column in np.moveaxis(found, -1, 0)]
    sizes = [float(array_stats.ess(column, method="bulk")) for column in columns]
    rhat = [float(array_stats.rhat(column)) for column in columns]
    return {
        "ess": median(sizes),
        "ess_min": min(sizes),
        "rhat": max(rhat),
        "mean": float(found.mean()),
        "sd": float(found.std(axis=(0, 1)).mean()),
    }


def check_density(contender: Sampled, regression: Regression) -> None:
    """Differences of log density between two points must be the reference's."""
    one, other = ({name: value[k] for name, value in regression.start(2, seed=7).items()} for k in (0, 1))
    other = other | {"log_noise": np.float32(-0.5)}
    found = contender.log_density(one) - contender.log_density(other)
    expected = regression.log_density(one) - regression.log_density(other)
    if not abs(found - expected) <= TOLERANCE * abs(expected):
        raise AssertionError(f"log density difference {found:.6g}, expected {expected:.6g}: another target")


def table(records: list[dict[str, Any]]) -> str:
    """One row a problem and contender: medians over rounds, of rates and ratios with the least and the most; a ratio is that
    within a round."""
    lines = [
        "| problem | contender | chains | seconds | gradients/s | R̂ | ESS, median | least | ESS/s | least | × best peer |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for problem in dict.fromkeys(record["problem"] for record in records):
        mine = [r for r in records if r["problem"] == problem and "ess" in r]
        names = list(dict.fromkeys(r["contender"] for r in mine))
        rates = {n: {r["round"]: r["ess"] / r["seconds"] for r in mine if r["contender"] == n} for n in names}
        peers = [n for n in names if not any(r["ours"] for r in mine if r["contender"] == n)]
        best = max(peers, key=lambda n: median(rates[n].values()), default=None)
        for name in names:
            runs = [r for r in mine if r["contender"] == name]

            def typical(value: Any, runs: list[dict[str, Any]] = runs) -> float:
                return median(value(r) for r in runs)

            reference = rates.get(best or "", {})
            ratios = [rate / reference[k] for k, rate in rates[name].items() if k in reference]
            line = (
                f"| {problem} | {name} | {runs[0]['chains']} | {typical(lambda r: r['seconds']):.0f} "
                f"| {typical(lambda r: r['gradients'] / r['seconds']):,.0f} | {typical(lambda r: r['rhat']):.2f} "
                f"| {typical(lambda r: r['ess']):,.0f} | {typical(lambda r: r['ess_min']):,.0f} "
                f"| {spread(list(rates[name].values()), 1)} "
                f"| {typical(lambda r: r['ess_min'] / r['seconds']):.1f} | {spread(ratios, 2)} |"
            )
            lines.append(line.replace("nan", "–"))
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """The median, with the least and the most where there are several."""
    if not values:
        return "–"
    middle, low, high = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def launch(entry: Entry, problem: str, given: argparse.Namespace) -> dict[str, Any]:
    """One run in a fresh process."""
    interpreter = sys.executable if entry.ours else given.peer_python
    command = [interpreter, "-m", "benchmarks.prediction_ess", "--child", entry.name, "--problems", problem]
    command += ["--data", str(given.data), "--threads", str(given.threads)]
    environment = child_environment(given.threads)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Run all contenders in rounds and print the table; 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=["diabetes", "concrete"])
    parser.add_argument("--contenders", nargs="+", choices=[e.name for e in CONTENDERS])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "uci")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/prediction_ess.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    entries = [
        e for e in CONTENDERS if (e.by_default if given.contenders is None else e.name in given.contenders)
    ]
    if given.child:
        limit_threads(given.threads)
        entry = next(e for e in CONTENDERS if e.name == given.child)
        print(json.dumps(work(entry, load(given.problems[0], given.data))))
        return 0
    records: list[dict[str, Any]] = []
    for problem in given.problems:
        for round_ in range(given.rounds):
            for entry in entries:
                record = launch(entry, problem, given) | {
                    "problem": problem, "contender": entry.name, "round": round_, "chains": entry.chains, "ours": entry.ours
                }  # fmt: skip
                print(record, file=sys.stderr, flush=True)
                records.append(record)
                given.output.write_text(json.dumps(records, indent=1) + "\n")
    print(table(records))
    return int(any("failed" in record for record in records))


if __name__ == "__main__":
    sys.exit(main())
