"""What keeping the draws on disk costs a run: `python -m benchmarks.store_writes`.

SGHMC on minibatches of 128 of a fully connected network, one draw in 50 steps. For each size of network, pairs of runs from one
start, in memory and with a store, in alternating order. Printed are the seconds of a step, the share of a run's time that its own
thread spends handing draws over (`Store.append`), that of a checkpoint every 30 seconds (`Store.commit`), and the ratio of the
two runs' times, the least of each.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import bnnpriors as bp
from bnnpriors import run
from bnnpriors.store import Store

THIN = 50
HIDDEN = {"40k": (48, 48), "200k": (200, 200), "1M": (784, 500)}


def posterior(hidden: tuple[int, ...]) -> bp.Posterior:
    """784-hidden-10 on 6,000 synthetic rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6000, 784, generator=generator)
    y = torch.randint(10, (6000,), generator=generator)
    model = bp.attach(bp.models.mlp(784, 10, hidden=hidden), bp.priors.Normal(0.0, 0.05))
    return bp.Posterior(model, bp.likelihoods.Categorical(), x, y, batch_size=128)


def timed(name: str, seconds: list[float]) -> Callable[..., Any]:
    """A method of `Store` that notes how long it keeps its caller."""
    real = getattr(Store, name)

    def method(self: Store, *given: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(self, *given, **options)
        finally:
            seconds.append(time.perf_counter() - begun)

    setattr(Store, name, method)
    return real


def measure(given: bp.Posterior, chains: int, draws: int, path: Path | None) -> dict[str, float]:
    """Seconds of one run, and of them those in the store's methods."""
    appends: list[float] = []
    commits: list[float] = []
    real = timed("append", appends), timed("commit", commits)
    begun = time.perf_counter()
    try:
        bp.sample(
            given, bp.samplers.SGHMC(step_size=1e-3), num_samples=draws, num_chains=chains, thin=THIN, store=path,
            progress=False, compile=False, chunk_size=1, init="model",
        )  # fmt: skip
    finally:
        Store.append, Store.commit = real  # type: ignore[method-assign]
    return {
        "total": time.perf_counter() - begun,
        "append": sum(appends),
        "commit": sum(commits[:-1]),
        "count": len(commits) - 1,
    }


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(HIDDEN), choices=list(HIDDEN))
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", default=None, help="where stores are written; the system's temporary folder by default"
    )
    options = parser.parse_args()
    run.CHECKPOINT_SECONDS = 2.0  # so that a short run has several; the share is that of one in 30 seconds
    print("size  step [ms]  append  checkpoint  store / memory")
    for size in options.sizes:
        given = posterior(HIDDEN[size])
        measure(given, options.chains, 1, None)  # traces
        memory, stored = [], []
        for _ in range(options.rounds):
            memory.append(measure(given, options.chains, options.draws, None))
            folder = Path(tempfile.mkdtemp(dir=options.folder))
            stored.append(measure(given, options.chains, options.draws, folder / "a"))
            shutil.rmtree(folder)
        best = min(stored, key=lambda one: one["total"])
        total = best["total"] - best["commit"]
        checkpoint = best["commit"] / max(best["count"], 1) / 30
        ratio = best["total"] / min(one["total"] for one in memory)
        step = 1e3 * total / (options.draws * THIN)
        print(
            f"{size:>4}  {step:9.2f}  {best['append'] / total:6.2%}  {checkpoint:10.2%}  {ratio:14.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
