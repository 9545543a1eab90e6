"""Function-space inference where the posterior is known: every estimator × family × measurement set × features.

    python experiments/function_space/run.py            # writes results/table.csv, table.md, gaps.png and jitter.png

Linear models on features of one input, twenty points (`problem`), several seeds of their noise and of the fit: a fit of
`bp.variational.fit` each. Judged are log Z − L with the measurement points of the fit and with all training points, and the
predictive distribution at 50 inputs against the exact one: KL(q‖exact) of noisy targets, jointly, and W₂² of the function values.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnpriors import variational as V

RESULTS = Path(__file__).parent / "results"
NOISE = 0.01
COUNT = 12
FEATURES = ("polynomial", "radial", "random ReLU", "frozen network")
FAMILIES = ("diagonal", "full", "implicit")
ESTIMATORS = ("closed form", "ssge")
MEASUREMENTS = ("training and more", "minibatch", "random")
NAMES = ("features", "family", "estimator", "measurement points")
FIGURES = ("gap", "gap_training", "predictive_kl", "w2_squared")
BATCH = 5
SETS = 200
"""Measurement sets over which an objective is averaged."""


def inputs() -> Tensor:
    """Twenty inputs in [−2, −0.5] and [0.5, 2]: nothing is known between."""
    half = torch.linspace(0.5, 2, 10, dtype=torch.float64)
    return torch.cat([-half.flip(0), half])[:, None]


def feature_map(name: str) -> Callable[[Tensor], Tensor]:
    """One of `FEATURES`, about a dozen features each."""
    generator = torch.Generator().manual_seed(0)
    if name == "polynomial":
        scaled = V.features.polynomial(COUNT - 1)
        return lambda x: scaled(x / 2)
    if name == "radial":
        return V.features.radial(torch.linspace(-2.5, 2.5, COUNT, dtype=torch.float64)[:, None], 0.6)
    if name == "random ReLU":
        return V.features.random_relu(1, COUNT, generator)
    net = nn.Sequential(nn.Linear(1, COUNT), nn.Tanh(), nn.Linear(COUNT, COUNT), nn.Tanh())
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=1.5 if parameter.shape[-1] == 1 else 0.6, generator=generator)
    return V.features.network(net)


def problem(name: str, seed: int = 0) -> tuple[V.LinearRegression, Callable[[Tensor], Tensor]]:
    """y = sin 2x + ε with ε of variance 0.01, and weights N(0, 1)."""
    features, x = feature_map(name), inputs()
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(1 + seed), dtype=torch.float64)
    y = torch.sin(2 * x[:, 0]) + math.sqrt(NOISE) * noise
    return V.LinearRegression(features(x), y, NOISE), features


def measurement_points(
    name: str, model: V.LinearRegression, features: Callable[[Tensor], Tensor]
) -> Callable[[torch.Generator], Tensor]:
    """All training inputs and five more; five training inputs; five inputs uniform in [−2.5, 2.5]."""

    def uniform(count: int, generator: torch.Generator) -> Tensor:
        return features(5 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 2.5)

    if name == "training and more":
        return lambda generator: torch.cat([model.features, uniform(BATCH, generator)])
    if name == "minibatch":
        return lambda generator: model.features[torch.randperm(len(model.y), generator=generator)[:BATCH]]
    return lambda generator: uniform(BATCH, generator)


def family(name: str) -> V.Family:
    """One of `FAMILIES`, begun at a tenth of the prior's width."""
    if name == "implicit":
        return V.Implicit(COUNT, 0.1, generator=torch.Generator().manual_seed(2))
    return (V.DiagonalGaussian if name == "diagonal" else V.FullGaussian)(COUNT, 0.1)


def one(job: Job) -> dict[str, Any]:
    """Fit and judge."""
    torch.set_num_threads(1)
    features_name, family_name, estimator, points_name, seed, num_steps = job
    model, features = problem(features_name, seed)
    points = measurement_points(points_name, model, features)
    law, start = family(family_name), time.process_time()
    V.fit(
        model, law, points, estimator=estimator, num_steps=num_steps, learning_rate=RATE, jitter=JITTER, seed=seed
    )  # fmt: skip
    seconds = time.process_time() - start
    q, exact, evidence = V.moments(law), model.posterior(), model.log_evidence()
    test = features(torch.linspace(-2.5, 2.5, 50, dtype=torch.float64)[:, None])
    generator = torch.Generator().manual_seed(3)
    own = torch.stack([model.objective(q, points(generator), jitter=JITTER) for _ in range(SETS)]).mean()
    predictive, truth = q.image(test), exact.image(test)
    scale = math.sqrt(NOISE)
    return {
        "features": features_name,
        "family": family_name,
        "estimator": estimator,
        "measurement points": points_name,
        "seed": seed,
        "gap": float(evidence - own),
        "gap_training": float(evidence - model.objective(q, jitter=JITTER)),
        "predictive_kl": float(V.kl_divergence(predictive.noisy(scale), truth.noisy(scale))),
        "w2_squared": float(V.wasserstein_squared(predictive, truth)),
        "cpu_seconds": seconds,
    }


Job = tuple[str, str, str, str, int, int]
RATE = 0.04
JITTER = 1e-3
"""Standard deviation of noise on function values: with more points than weights their law has no density."""


def jobs(num_steps: int, seeds: int) -> Iterator[Job]:
    """All combinations; an implicit law has no closed form."""
    for *names, seed in product(FEATURES, FAMILIES, ESTIMATORS, MEASUREMENTS, range(seeds)):
        features, law, estimator, points = names
        if (law, estimator) != ("implicit", "closed form"):
            yield features, law, estimator, points, seed, num_steps


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of all seeds as one each: the mean of every figure, and the lowest and highest predictive KL."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in NAMES), []).append(row)
    result = []
    for names, own in found.items():
        averages = {name: sum(row[name] for row in own) / len(own) for name in FIGURES}
        divergences = [row["predictive_kl"] for row in own]
        ends = {"lowest": min(divergences), "highest": max(divergences)}
        result.append(dict(zip(NAMES, names, strict=True)) | averages | ends)
    return result


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """`table.csv`, a row a fit, and `table.md`, of means over seeds."""
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    lines = [
        "| features | q | estimator | measurement points | log Z − L | with all training points | predictive KL | W₂² |",
        "|---|---|---|---|--:|--:|--:|--:|",
    ]
    for row in means(rows):
        figures = [f"{row[name]:.3g}" for name in FIGURES]
        names = [row[name] for name in NAMES]
        lines.append("| " + " | ".join(names + figures) + " |")
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot_gaps(rows: list[dict[str, Any]], path: Path) -> None:
    """Predictive KL of each combination, a panel for each set of measurement points; lines from lowest to highest seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(MEASUREMENTS), sharey=True)
    found = {tuple(row[name] for name in NAMES): row for row in means(rows)}
    kinds = list(dict.fromkeys((row["family"], row["estimator"]) for row in rows))
    for panel, points in zip(axes, MEASUREMENTS, strict=True):
        for k, (law, estimator) in enumerate(kinds):
            own = [found[name, law, estimator, points] for name in FEATURES]
            values = [row["predictive_kl"] for row in own]
            places = [i + 0.15 * (k - 2) for i in range(len(FEATURES))]
            style = {"marker": "o"} if estimator == "closed form" else {"marker": "s", "mfc": "none"}
            colour = f"C{FAMILIES.index(law)}"
            panel.vlines(
                places, [row["lowest"] for row in own], [row["highest"] for row in own], color=colour, lw=1
            )
            panel.plot(places, values, ls="", label=f"{law}, {estimator}", color=colour, **style)
        panel.set(title=points, yscale="log", xticks=range(len(FEATURES)))
        panel.set_xticklabels(FEATURES, rotation=20)
        panel.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("KL(q‖exact), 50 predictions, nats")
    axes[-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=150)


def plot_jitter(path: Path) -> None:
    """The divergence of a law of three weights, against a process of full rank and against the weights' own prior."""
    from matplotlib.figure import Figure

    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    features = torch.stack([x**0, x, x * x], 1)
    q = V.Gaussian(torch.tensor([0.3, 1.0, -0.5]).double(), 0.04 * torch.eye(3, dtype=torch.float64))
    process = V.Gaussian(torch.zeros_like(x), torch.exp(-((x[:, None] - x) ** 2) / 0.1))
    weights = V.Gaussian(torch.zeros(3).double(), torch.eye(3, dtype=torch.float64))
    scales = torch.logspace(-5, 0, 26).tolist()
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for prior, label in (
        (process, "GP prior, rank 8"),
        (weights.image(features), "prior of the weights, rank 3"),
    ):
        values = [float(V.functional_kl(q.image(features), prior, jitter=scale)) for scale in scales]
        axes.plot(scales, values, label=label)
    exact = float(V.kl_divergence(q, weights))
    axes.axhline(exact, color="0.6", ls="--", lw=1, label="KL of the weights")
    axes.set(xscale="log", xlabel="jitter η", ylabel="KL at 8 points, nats", title="q has rank 3")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Fit all, write the table and the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = []
    with ProcessPoolExecutor(given.processes) as pool:
        for row in pool.map(one, jobs(given.steps, given.seeds)):
            rows.append(row)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    write(rows, given.output)
    plot_gaps(rows, given.output / "gaps.png")
    plot_jitter(given.output / "jitter.png")


if __name__ == "__main__":
    main()
