"""What SGD does to weights: the analysis of Fortuin et al. (2102.06571, section 3) on MNIST networks trained here.

    python -m experiments.priors_revisited.weights --data ../shared/data/mnist

Trains with plain SGD and momentum, keeps one checkpoint a network (a network that is there already is not trained again), and
writes `results/weights/`: a table, a CSV file and pictures for each kind of network, `networks.csv` with test errors, and
`scales.csv`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.cli.runs import write_table
from bnnpriors.priors.empirical.families import degrees_of_freedom

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "weights"


class Recipe(NamedTuple):
    """How one kind of network is trained: learning rate falling linearly to 0, batches of 128, momentum 0.9."""

    kind: str
    weight_decay: float
    num_train: int
    epochs: int
    learning_rate: float


RECIPES = {
    "fcnn": Recipe("fcnn", 0.0, 60_000, 20, 0.05),
    "fcnn-decay": Recipe("fcnn", 5e-4, 60_000, 20, 0.05),
    "cnn": Recipe("cnn", 0.0, 60_000, 2, 0.05),
}
PICTURES = {
    "fcnn-decay": ["0.weight-marginals", "0.weight-correlations"],
    "cnn": ["0.weight-correlations", "3.weight-correlations", "3.weight-marginals"],
}
"""Those that are kept in the results."""


def network(kind: str, seed: int) -> nn.Module:
    """The network at its own initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return bp.models.mlp(784, 10, hidden=(100, 100)) if kind == "fcnn" else bp.models.mnist_cnn()


def train(recipe: Recipe, data: bp.datasets.Dataset, seed: int) -> tuple[nn.Module, float]:
    """One trained network, and its test error."""
    net = network(recipe.kind, seed)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * (recipe.num_train // 128)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for _ in range(recipe.epochs):
        order = torch.randperm(recipe.num_train, generator=generator)
        for batch in order.split(128)[: recipe.num_train // 128]:
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(data.x_train[batch]), data.y_train[batch]).backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        predicted = torch.cat([net(x).argmax(1) for x in data.x_test.split(1000)])
    return net, float((predicted != data.y_test).double().mean())


def trained(name: str, recipe: Recipe, args: argparse.Namespace) -> tuple[list[Path], list[dict[str, Any]]]:
    """The checkpoints of one recipe, trained where they are missing, and a record of each."""
    folder = args.checkpoints / name
    folder.mkdir(parents=True, exist_ok=True)
    data, files, rows = None, [], []
    for seed in range(args.seeds):
        files.append(folder / f"{seed}.pt")
        if not files[-1].exists():
            if data is None:
                data = bp.datasets.idx(
                    args.data, num_train=recipe.num_train, seed=0, flatten=recipe.kind == "fcnn"
                )
            start = time.monotonic()
            net, error = train(recipe, data, seed)
            record = {**recipe._asdict(), "test_error": error, "seconds": round(time.monotonic() - start, 1)}
            torch.save({"state_dict": net.state_dict(), "record": record}, files[-1])
        rows.append({"name": name, "seed": seed, **torch.load(files[-1], weights_only=True)["record"]})
        print(rows[-1], flush=True)
    return files, rows


def analyse(name: str, networks: list[Any], args: argparse.Namespace) -> None:
    """Table, CSV and pictures of one kind of network."""
    fitted = bp.priors.fit(networks, location=True)
    text = str(fitted)
    print(f"\n== {name}\n{text}", flush=True)
    (RESULTS / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    write_table(RESULTS / f"{name}.csv", fitted.rows)
    for file in fitted.plot(args.checkpoints / name / "pictures"):
        if file.stem in PICTURES.get(name, []):
            (RESULTS / f"{name}-{file.name}").write_bytes(file.read_bytes())


def unequal_scales(name: str, files: list[Path]) -> list[dict[str, Any]]:
    """Are the tails those of single weights, or of inputs whose weights differ in size?

    Degrees of freedom of a linear layer, and again after dividing the weights of each input by their root mean square. With
    less than 50 weights an input, that division alone would cut the tails, and the layer is left out.
    """
    states = [torch.load(file, weights_only=True)["state_dict"] for file in files]
    rows = []
    for key, example in states[0].items():
        if example.ndim != 2 or len(example) < 50:
            continue
        tensors = [state[key].double() - state[key].double().mean() for state in states]
        equal = [w / w.square().mean(0).sqrt() for w in tensors]
        row: dict[str, Any] = {"name": name, "layer": key}
        for label, these in (("df", tensors), ("df_equal_scales", equal)):
            found = degrees_of_freedom(torch.cat([w.flatten() for w in these]).numpy())
            row |= {label: found.value, f"{label}_low": found.low, f"{label}_high": found.high}
        rows.append(row)
    return rows


def main() -> None:
    """Train what is missing, then analyse each kind before and after training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files of MNIST")
    parser.add_argument("--names", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/priors_revisited/weights"))
    args = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    records, scales = [], []
    for name in args.names:
        files, rows = trained(name, RECIPES[name], args)
        analyse(name, list(files), args)
        records += rows
        scales += unequal_scales(name, files)
    for kind in dict.fromkeys(RECIPES[name].kind for name in args.names):
        analyse(f"{kind}-untrained", [network(kind, seed) for seed in range(args.seeds)], args)
    write_table(RESULTS / "networks.csv", records)
    write_table(RESULTS / "scales.csv", scales)


if __name__ == "__main__":
    main()
