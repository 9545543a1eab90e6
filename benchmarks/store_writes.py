"""What keeping the draws on disk costs a run: `python -m benchmarks.store_writes`.

SGHMC on minibatches of 128 of a fully connected network, one draw in 50 steps, one thread. For each size: the processor time of
a step; that of `Store.append` in the run's own thread, as a share of the 50 steps of a draw; and how long `Store.commit` keeps
the run, as a share of the 30 seconds between two checkpoints. Processor time hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import bnnpriors as bp
from bnnpriors.programs import Plan
from bnnpriors.run import CHECKPOINT_SECONDS
from bnnpriors.store import FORMAT, Store
from bnnpriors.streams import Streams
from bnnpriors.workers import keep_freed_memory

THIN = 50
HIDDEN = {"40k": (48, 48), "200k": (200, 200), "1M": (784, 500)}


def posterior(hidden: tuple[int, ...]) -> bp.Posterior:
    """784-hidden-10 on 6,000 synthetic rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6000, 784, generator=generator)
    y = torch.randint(10, (6000,), generator=generator)
    model = bp.attach(bp.models.mlp(784, 10, hidden=hidden), bp.priors.Normal(0.0, 0.05))
    return bp.Posterior(model, bp.likelihoods.Categorical(), x, y, batch_size=128)


def measure(size: str, chains: int, draws: int, folder: Path) -> str:
    """One line of the table."""
    given, sampler = posterior(HIDDEN[size]), bp.samplers.SGHMC(step_size=1e-3)
    target = given.target(chains, Plan(1, 128, False))
    streams = Streams(0, [(0, k) for k in range(chains)], dtype=given.dtype, device=given.device)
    state = sampler.init(target, given.current().repeat(chains, 1), streams)
    seconds = []
    for _ in range(18):
        begun = time.thread_time()
        state, _info = sampler.step(target, state, streams)
        seconds.append(time.thread_time() - begun)
    step = float(np.median(seconds[3:]))
    store = Store.create(folder / size, {"format": FORMAT})
    row = {"theta": np.asarray(state.theta)}
    store.reserve(row, draws)
    appending = 0.0
    for _ in range(draws):
        begun = time.thread_time()
        store.append(row)
        appending += time.thread_time() - begun
        time.sleep(0.01)  # steps, in a run
    time.sleep(1.0)
    begun = time.perf_counter()
    store.commit({"state": state._asdict()}, wait=False)
    checkpoint = time.perf_counter() - begun
    store.close()
    share = appending / draws / (THIN * step)
    return f"{size:>4}  {chains:6}  {1e3 * step:9.2f}  {share:6.3%}  {checkpoint / CHECKPOINT_SECONDS:10.4%}"


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(HIDDEN), choices=list(HIDDEN))
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print("size  chains  step [ms]  append  checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            print(measure(size, options.chains, options.draws, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
