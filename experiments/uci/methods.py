"""Other methods on the network, priors and splits of `run.py`: variational inference, Laplace, deep ensembles, infinite width.

    python experiments/uci/methods.py --data ../shared/data/uci --names concrete energy --splits 20

Each method's result on a split is kept under `runs/uci` as soon as it is there, and the figures of a split are written to
`results/methods/<name>/<split>.json`; what is there is not run again. `table.py` puts them beside those of HMC.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from run import HERE, make_posterior

from bnnpriors import methods as M
from bnnpriors.datasets import uci
from bnnpriors.disk import write_text

METHODS: dict[str, M.Method] = {
    "infinite width": M.InfiniteWidth(learn=True, num_steps=50),
    "Laplace": M.Laplace(num_steps=1000, num_polish=3000, noise="evidence"),
    "deep ensemble": M.DeepEnsemble(num_members=5, num_steps=1500),
    "mean field": M.MeanField(num_steps=10_000, num_draws=8, learning_rate=0.02),
}
FUNCTION_SPACE = {
    "concrete": {"jitter": 0.05, "num_steps": 600},
    "energy": {"jitter": 0.01, "num_steps": 1500},
}
"""A jitter of a quarter of the noise that the fit learns, or less; steps that could be afforded."""


def methods_for(name: str) -> dict[str, M.Method]:
    """All methods with their settings for a data set."""
    function_space = M.FunctionSpace(
        M.InfiniteWidth(learn=True, num_steps=8),
        learning_rate=0.05,
        num_draws=4,
        **FUNCTION_SPACE.get(name, FUNCTION_SPACE["energy"]),  # type: ignore[arg-type]
    )
    return METHODS | {"function space": function_space}


NAMES = tuple(methods_for("concrete"))


def main() -> None:
    """Run the splits asked for that have no result yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a data set")
    parser.add_argument("--names", nargs="+", default=["concrete", "energy"])
    parser.add_argument("--splits", type=int, default=20, help="the first so many splits of each data set")
    parser.add_argument("--only", nargs="+", default=list(NAMES), choices=NAMES, metavar="METHOD")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/uci"))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "methods")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for split in range(args.splits):
        for name in args.names:
            data = uci(args.data / name, split=split)
            start = time.process_time()
            chosen = {method: methods_for(name)[method] for method in args.only}
            table = M.compare(
                make_posterior(data), data, chosen, seed=split, folder=args.work / name / f"{split:02d}"
            )
            file = args.output / name / f"{split:02d}.json"
            before = json.loads(file.read_text()) if file.exists() else []
            rows = [row for row in before if row["method"] not in chosen] + table.flat()
            for row in rows:
                row.pop("gap", None), row.pop("gap_se", None)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(rows, indent=1) + "\n")
            print(f"{name} {split} ({time.process_time() - start:.0f} s of CPU)", flush=True)
            print(table, flush=True)


if __name__ == "__main__":
    main()
