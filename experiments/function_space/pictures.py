"""One-dimensional regression with a gap, by every method of the library side by side.

    python experiments/function_space/pictures.py       # writes results/methods.png, methods.md and methods.csv

The same network, priors, noise and data for all (`problem`): its limit of infinite width, HMC, variational inference in weight
space and in function space, Laplace's approximation, and a deep ensemble. HMC is what the others approximate; each panel shows
its interval too.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import variational as V
from bnnpriors.evaluation.compare import distances
from bnnpriors.evaluation.predictive import Predictive

RESULTS = Path(__file__).parent / "results"
NOISE, WIDTH, SEED = 0.15, 50, 0
GAP, LOW, HIGH = (-0.7, 1.0), -3.0, 3.0
JITTER = 0.03
"""Of function values, for the fits in function space."""
REFERENCE = "HMC"


def truth(x: Tensor) -> Tensor:
    """A wave that grows, about as wide as Snelson's data are high."""
    return torch.sin(2 * x) + 0.3 * x


def data(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs uniform in [−3, 3] without the gap, and noisy targets, [count, 1] each."""
    generator = torch.Generator().manual_seed(seed)
    left = GAP[0] - LOW
    place = (left + HIGH - GAP[1]) * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    x = torch.where(place < left, LOW + place, GAP[1] + place - left)
    return x, truth(x) + NOISE * torch.randn(count, 1, generator=generator, dtype=torch.float64)


def problem() -> bp.Posterior:
    """Fifty points, a network of 50 tanh units with normal priors, and noise of known scale."""
    net = nn.Sequential(nn.Linear(1, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)).double()
    priors = {
        "0.weight": bp.priors.Normal(0.0, 1.5),
        "0.bias": bp.priors.Normal(0.0, 2.0),
        "2.weight": bp.priors.Normal(0.0, bp.priors.fan_in(gain=2.0)),
        "2.bias": bp.priors.Normal(0.0, 0.5),
    }
    return bp.Posterior(bp.attach(net, priors), bp.likelihoods.Gaussian(NOISE), *data(50, SEED))


def measurement() -> list[Any]:
    """All training inputs, and 25 points across what is drawn."""
    return ["training", torch.linspace(-4, 4, 25, dtype=torch.float64)[:, None]]


def infinite_width(post: bp.Posterior) -> Any:
    """The exact posterior of the limit of infinite width."""
    return bp.infinite.GPRegression(bp.infinite.kernel(post.model), post.data.x, post.data.y, noise=NOISE**2)


def hmc(post: bp.Posterior) -> Any:
    """Four chains."""
    sampler = bp.samplers.HMC(step_size=0.01, num_steps=60)
    draws = bp.sample(post, sampler, num_samples=400, num_warmup=400, num_chains=4, seed=SEED, progress=False)
    print(draws.summary(post.data.x).verdict, flush=True)
    return draws


def ensemble(post: bp.Posterior) -> Any:
    """Ten maxima of the posterior, from draws of the prior."""
    sampler = bp.samplers.MAP()
    return bp.sample(post, sampler, num_samples=1, num_warmup=1500, num_chains=10, seed=SEED, progress=False)


def laplace(post: bp.Posterior) -> Any:
    """The best of five maxima, and the curvature there."""
    fit = V.Laplace(post).fit(num_steps=3000, learning_rate=0.02, num_starts=5, seed=SEED, progress=False)
    print(f"Laplace: a Newton step would go {fit.decrement:.2g} standard deviations further", flush=True)
    return fit


def weights(family: Callable[[bp.Posterior], V.GaussianFit]) -> Callable[[bp.Posterior], Any]:
    """A fit in weight space."""
    return lambda post: _told(family(post).fit(num_steps=4000, learning_rate=0.02, seed=SEED, progress=False))


def functions(**given: Any) -> Callable[[bp.Posterior], Any]:
    """A fit in function space of a full normal law."""

    def fitted(post: bp.Posterior) -> Any:
        prior = bp.infinite.kernel(post.model) if given.get("process") else None
        fit = V.FunctionSpace(
            post,
            prior=prior,
            measurement=measurement(),
            jitter=JITTER,
            estimator=given.get("estimator", "closed form"),
            family=V.FullRank(post, scale=0.02),
        )
        return _told(fit.fit(num_steps=1500, learning_rate=0.01, seed=SEED, progress=False))

    return fitted


METHODS: dict[str, Callable[[bp.Posterior], Any]] = {
    "infinite width (exact GP)": infinite_width,
    REFERENCE: hmc,
    "mean-field": weights(V.MeanField),
    "low rank": weights(lambda post: V.LowRank(post, rank=10)),
    "Laplace, linearised": laplace,
    "function space, GP prior": functions(process=True),
    "function space, own prior": functions(),
    "function space, own prior, SSGE": functions(estimator="ssge"),
    "deep ensemble": ensemble,
}
"""Name -> from the posterior to anything with `predict(x)`. A further method is a further entry."""


def _told(fit: Any) -> Any:
    print(f"{fit.verdict} {fit.bound()}", flush=True)
    return fit


def judge(found: dict[str, tuple[Predictive, Predictive, float]], y: Tensor) -> list[dict[str, Any]]:
    """A row a method: test figures where there are data, and on the grid distance from HMC and width in the gap."""
    reference = found[REFERENCE][0] if REFERENCE in found else None
    grid = torch.linspace(-4, 4, 161, dtype=torch.float64)
    inside = (grid > GAP[0]) & (grid < GAP[1])
    rows = []
    for name, (drawn, tested, seconds) in found.items():
        scores = bp.evaluate(tested, y)
        spread = drawn.epistemic_variance[:, 0].clamp_min(0).sqrt()
        rows.append(
            {
                "method": name,
                "nll": float(scores["nll"]),
                "rmse": float(scores["rmse"]),
                "total variation from HMC": float("nan")
                if reference is None
                else distances(drawn, reference)[1],
                "sd of f in the gap": float(spread[inside].mean()),
                "sd of f at the data": float(spread[(grid.abs() < HIGH) & ~inside].mean()),
                "CPU seconds": seconds,
            }
        )
    return rows


def draw(found: dict[str, tuple[Predictive, Predictive, float]], post: bp.Posterior, path: Path) -> None:
    """A panel a method: mean, ±2 standard deviations of f, and HMC's as dashed lines."""
    from matplotlib.figure import Figure

    columns = 3
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(11, 2.8 * lines), dpi=110, layout="constrained")
    grid = torch.linspace(-4, 4, 161, dtype=torch.float64)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    reference = found.get(REFERENCE)
    for place, panel in enumerate(panels.flat):
        if place >= len(found):
            panel.set_visible(False)
            continue
        name, (drawn, _, _) = list(found.items())[place]
        mean, spread = drawn.mean[:, 0], 2 * drawn.epistemic_variance[:, 0].clamp_min(0).sqrt()
        panel.axvspan(*GAP, color="0.93", lw=0)
        panel.plot(grid, truth(grid), color="0.45", lw=1, ls=(0, (1, 1.5)), label="truth")
        panel.fill_between(grid, mean - spread, mean + spread, color="C0", alpha=0.3, lw=0, label="f ± 2 sd")
        panel.plot(grid, mean, color="C0", lw=1.6, label="mean")
        if reference is not None and name != REFERENCE:
            centre = reference[0].mean[:, 0]
            wide = 2 * reference[0].epistemic_variance[:, 0].sqrt()
            for side, label in ((-1, "HMC ± 2 sd"), (1, None)):
                panel.plot(grid, centre + side * wide, color="C3", lw=0.9, ls="--", label=label)
        panel.plot(post.data.x, post.data.y, "k.", ms=3.5, label="data")
        panel.set_title(name, fontsize=10)
        panel.set(ylim=(-3.6, 3.6), xlim=(-4, 4))
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path)


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """`methods.csv` and `methods.md`."""
    with (folder / "methods.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    for row in rows:
        lines.append(f"| {row['method']} | " + " | ".join(f"{row[name]:.3g}" for name in names[1:]) + " |")
    (folder / "methods.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Fit all, write the table and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    post = problem()
    grid = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
    x, y = data(200, SEED + 1)
    found = {}
    for name in given.methods:
        start = time.process_time()
        fitted = METHODS[name](post)
        seconds = time.process_time() - start
        found[name] = (fitted.predict(grid), fitted.predict(x), seconds)
        print(f"{name}: {seconds:.0f} CPU seconds", flush=True)
    write(judge(found, y), given.output)
    draw(found, post, given.output / "methods.png")


if __name__ == "__main__":
    main()
