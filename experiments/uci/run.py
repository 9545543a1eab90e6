"""HMC on the UCI regression splits of Hernández-Lobato & Adams: one hidden layer of 50, every split a run of its own.

    python experiments/uci/run.py --data ../shared/data/uci --names concrete energy --splits 20

Each split's figures are written to `results/<name>/<split>.json` as soon as it is done; splits that are there are skipped,
so the command continues where it stopped. `table.py` makes the table of the README from them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import bnnpriors as bp
from bnnpriors.datasets import uci
from bnnpriors.evaluation import convergence
from bnnpriors.models import mlp

HERE = Path(__file__).parent


def make_posterior(data: bp.datasets.Dataset) -> bp.Posterior:
    """The model of the README on one split."""
    net = mlp(data.x_train.shape[1], 1, hidden=(50,), activation="tanh")
    model = bp.attach(
        net,
        {
            "0.weight": bp.priors.Normal(0.0, bp.priors.HalfNormal(1.0), centred=False),
            "0.bias": bp.priors.Normal(0.0, bp.priors.HalfNormal(1.0), centred=False),
            "2.weight": bp.priors.Normal(
                0.0, bp.priors.HalfNormal(bp.priors.fan_in(gain=2.0)), centred=False
            ),
            "2.bias": bp.priors.Normal(0.0, 1.0),
        },
    )
    likelihood = bp.likelihoods.Gaussian(scale=bp.priors.HalfNormal(1.0))
    return bp.Posterior(model, likelihood, data.x_train, data.y_train)


def run_split(folder: Path, split: int, args: argparse.Namespace) -> dict[str, float]:
    """Sample, predict the test points, and return the figures of one split in the data's own units."""
    data = uci(folder, split=split)
    posterior = make_posterior(data)
    start = time.perf_counter()
    draws = bp.sample(
        posterior,
        bp.samplers.HMC(step_size=0.005, num_steps=args.num_steps),
        num_samples=args.num_samples,
        num_warmup=args.num_warmup,
        num_chains=args.num_chains,
        seed=split,
    )
    seconds = time.perf_counter() - start
    prediction = draws.predict(data.x_test)
    figures = bp.evaluate(prediction, data.y_test, target_scale=float(data.target_scale))
    diagnosis = convergence(prediction.outputs_by_chain())
    return {
        "test_log_likelihood": -figures["nll"],
        "rmse": figures["rmse"],
        "coverage_95": figures["coverage_95"],
        "noise": float(draws["likelihood.scale"].mean()) * float(data.target_scale),
        "acceptance": float(draws.stats["acceptance"].mean()),
        "divergent": float(draws.stats["divergent"].double().mean()),
        "rhat_max": float(np.nanmax(diagnosis.rhat)),
        "rhat_median": float(np.nanmedian(diagnosis.rhat)),
        "ess_bulk_min": float(np.nanmin(diagnosis.ess_bulk)),
        "ess_bulk_median": float(np.nanmedian(diagnosis.ess_bulk)),
        "seconds": seconds,
    }


def main() -> None:
    """Run the splits asked for that have no result yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a data set")
    parser.add_argument("--names", nargs="+", default=["concrete", "energy"])
    parser.add_argument("--splits", type=int, default=20, help="the first so many splits of each data set")
    parser.add_argument("--num-chains", type=int, default=4)
    parser.add_argument("--num-warmup", type=int, default=400)
    parser.add_argument("--num-samples", type=int, default=400)
    parser.add_argument("--num-steps", type=int, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for split in range(args.splits):
        for name in args.names:
            file = args.output / name / f"{split:02d}.json"
            if file.exists():
                continue
            figures = run_split(args.data / name, split, args)
            settings = {
                k: v
                for k, v in vars(args).items()
                if k not in ("data", "names", "splits", "output", "threads")
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps({"figures": figures, "settings": settings}, indent=1) + "\n")
            partial.replace(file)
            print(name, split, {k: round(v, 4) for k, v in figures.items()}, flush=True)


if __name__ == "__main__":
    main()
