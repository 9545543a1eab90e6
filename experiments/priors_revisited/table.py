"""Tables and pictures of the sweeps over priors and temperatures.

    python experiments/priors_revisited/table.py runs/priors_revisited/*    # run folders of `bnnpriors sweep`: judge their draws
    python experiments/priors_revisited/table.py                            # again, from results/sweeps/*.csv

Given run folders it writes `results/sweeps/<data>.csv`, a row a posterior and split, with differences of NLL paired by test
point. From these files come `results/sweeps/<data>.png`, `differences.png` and the tables of the README, `tables.md`.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnnpriors.cli.parsers import build_parser, sweep_parser
from bnnpriors.cli.runs import RunFolder, write_table
from bnnpriors.evaluation.report_verdict import grade

RESULTS = Path(__file__).parent / "results" / "sweeps"
REFERENCE = "Normal"
METRICS = ("error", "rmse", "nll", "ece", "coverage_95", "auroc_ood")
DIAGNOSTICS = ("acceptance", "divergent", "step_size", "rhat_predictions", "ess_bulk_predictions")
LABELS = {
    "error": "test error",
    "rmse": "RMSE",
    "nll": "NLL (nats)",
    "ece": "calibration error (ECE)",
    "auroc_ood": "OOD AUROC",
}
HEADS = {**LABELS, "error": "error", "nll": "NLL", "ece": "ECE", "auroc_ood": "AUROC"}
SHOWN = {"classification": ("error", "nll", "ece", "auroc_ood"), "regression": ("rmse", "nll")}
Record = dict[str, Any]


@torch.no_grad()
def judge(folder: Path) -> tuple[str, list[Record]]:
    """The name of a run's data, and a record for each of its posteriors."""
    run = RunFolder.open(folder)
    parser = sweep_parser()
    settings = parser.instantiate(run.parse(parser))
    data = settings.data
    split = run.settings["data"]["init_args"].get("split", 0)
    nll = {
        (row["prior"], row["temperature"]): -run.draws(row["prior"])
        .at_temperature(row["temperature"])
        .predict(data.x_test)
        .log_prob(data.y_test)
        .double()
        for row in run.results["rows"]
    }
    chain_errors = {(row["prior"], row["temperature"]): row["nll_se"] for row in run.results["rows"]}
    records = []
    for row in run.results["rows"]:
        prior, temperature = row["prior"], row["temperature"]
        record: Record = {"split": split, "prior": prior, "temperature": temperature}
        for metric in METRICS:
            record |= {name: row[name] for name in (metric, f"{metric}_se") if name in row}
        for name, other in (("normal", (REFERENCE, temperature)), ("warm", (prior, 1.0))):
            record |= _difference(
                name, nll[prior, temperature] - nll[other], row["nll_se"], chain_errors[other]
            )
        record |= {name: row[name] for name in ("chains", "draws", *DIAGNOSTICS) if name in row}
        records.append({**record, "grade": grade(row), "seconds": run.results["seconds"]})
    return settings.name, records


def _difference(name: str, difference: torch.Tensor, *chain_errors: float) -> Record:
    """The mean over test points; its error is that over points and those of both posteriors over chains, added in squares."""
    over_points = float(difference.std()) / math.sqrt(len(difference))
    error = math.hypot(over_points, *chain_errors) if difference.any() else 0.0
    return {f"nll_minus_{name}": float(difference.mean()), f"nll_minus_{name}_se": error}


def collect(folders: Sequence[Path]) -> None:
    """Write the CSV file of each data set that the run folders are of."""
    found: dict[str, list[Record]] = defaultdict(list)
    for folder in folders:
        name, records = judge(folder)
        found[name] += records
    for name, records in found.items():
        rounded = [
            {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in r.items()} for r in records
        ]
        write_table(RESULTS / f"{name}.csv", sorted(rounded, key=lambda record: record["split"]))


def load(file: Path) -> list[Record]:
    """The records of one CSV file, averaged over splits.

    Errors of metrics are over chains where there is one split (the jackknife of the sweep) and over splits where there are
    several; those of paired differences are over test points and chains, pooled. R̂ and grade are the worst of
    the splits.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [
            {name: value if name in ("prior", "grade") else float(value) for name, value in row.items()}
            for row in csv.DictReader(stream)
        ]
    groups: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for row in rows:
        groups[row["prior"], row["temperature"]].append(row)
    return [_pool(group) for group in groups.values()]


def _pool(group: list[Record]) -> Record:
    first, count = group[0], len(group)
    pooled = {**first, "splits": count}
    for name in (*METRICS, "nll_minus_normal", "nll_minus_warm"):
        if name not in first:
            continue
        pooled[name] = statistics.fmean(row[name] for row in group)
        if count > 1:
            errors = [row[f"{name}_se"] for row in group]
            pooled[f"{name}_se"] = (
                math.hypot(*errors) / count
                if "minus" in name
                else statistics.stdev(row[name] for row in group) / math.sqrt(count)
            )
    pooled["rhat_predictions"] = max(row["rhat_predictions"] for row in group)
    pooled["grade"] = max((row["grade"] for row in group), key=("good", "fair", "poor").index)
    return pooled


def table(records: list[Record]) -> str:
    """Markdown: every family at T = 1 and at its best temperature; the order is that of the configuration."""
    shown = SHOWN["classification" if "error" in records[0] else "regression"]
    names = [
        "prior",
        *(HEADS[m] for m in shown),
        "NLL − Normal's",
        "R̂",
        "best T",
        *(f"{HEADS[m]} there" for m in shown[:2]),
    ]
    lines = [" | ".join([*names, "NLL gained by it"]), "|".join(["---"] * (len(names) + 1))]
    for prior in dict.fromkeys(record["prior"] for record in records):
        mine = {record["temperature"]: record for record in records if record["prior"] == prior}
        one, best = mine[1.0], min(mine.values(), key=lambda record: record["nll"])
        cells = [prior, *(_figure(one, m) for m in shown)]
        cells += ["" if prior == REFERENCE else _interval(one, "nll_minus_normal")]
        cells += [f"{one['rhat_predictions']:.2f}", f"{best['temperature']:g}"]
        cells += [_figure(best, m) for m in shown[:2]] if best is not one else ["", ""]
        lines.append(" | ".join([*cells, "" if best is one else _interval(best, "nll_minus_warm", sign=-1)]))
    return "\n".join(f"| {line} |" for line in lines)


def _figure(record: Record, metric: str) -> str:
    scale, unit, digits = (
        (100, " %", 1) if metric in ("error", "ece") else (1, "", 2 if metric == "rmse" else 3)
    )
    text = f"{record[metric] * scale:.{digits}f}"
    error = f" ± {record[f'{metric}_se'] * scale:.{digits}f}" if metric in ("error", "rmse", "nll") else ""
    return text + error + unit


def _interval(record: Record, name: str, sign: int = 1) -> str:
    value, half = sign * record[name], 1.96 * record[f"{name}_se"]
    text = f"{value:+.3f} ± {half:.3f}"
    return f"**{text}**" if abs(value) > half else text


def curves(records: list[Record]) -> Figure:
    """Every metric against temperature: light tails dark, heavy tails bright, Normal dashed; hollow where sampled poorly."""
    shown = SHOWN["classification" if "error" in records[0] else "regression"]
    figure = Figure(figsize=(8.6, 3.3 * math.ceil(len(shown) / 2)), dpi=110, layout="constrained")
    grid = figure.subplots(math.ceil(len(shown) / 2), 2, squeeze=False).flat
    priors = list(dict.fromkeys(record["prior"] for record in records))
    for axes, metric in zip(grid, shown, strict=False):
        for index, prior in enumerate(priors):
            mine = sorted((r for r in records if r["prior"] == prior), key=lambda r: r["temperature"])
            shift = 1.025 ** (index - len(priors) / 2)
            across, up = [r["temperature"] * shift for r in mine], [r[metric] for r in mine]
            colour = "black" if prior == REFERENCE else _colour(index, len(priors))
            errors = [r[f"{metric}_se"] for r in mine]
            dashes = (0, (4, 2)) if prior == REFERENCE else "-"
            axes.errorbar(
                across, up, errors, color=colour, lw=1.4, ls=dashes, elinewidth=0.9, label=prior, zorder=3
            )
            faces = ["white" if r["grade"] == "poor" else colour for r in mine]
            axes.scatter(across, up, s=16, c=faces, edgecolors=[colour], linewidths=1, zorder=4)
        axes.set_xscale("log")
        ladder = sorted({record["temperature"] for record in records})
        axes.set_xticks(ladder, [f"{temperature:g}" for temperature in ladder])
        axes.minorticks_off()
        axes.axvline(1.0, color="#6b6b6b", lw=0.8, ls=(0, (1, 2)), zorder=0)
        axes.set(xlabel="temperature", ylabel=LABELS[metric])
        _tidy(axes)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right center",
        frameon=False,
        fontsize=8.5,
        title="light tails first",
    )
    return figure


def differences(found: dict[str, list[Record]]) -> Figure:
    """NLL minus Normal's at T = 1, with the 95 % interval over test points and chains: left of zero is better than Normal."""
    figure = Figure(figsize=(2.35 * len(found) + 1.6, 3.5), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, records) in zip(grid, found.items(), strict=True):
        rows = [record for record in records if record["temperature"] == 1.0]
        for place, row in enumerate(rows):
            colour = "black" if row["prior"] == REFERENCE else _colour(place, len(rows))
            half = 1.96 * row["nll_minus_normal_se"]
            axes.errorbar(
                row["nll_minus_normal"], place, xerr=half, fmt="o", ms=5, color=colour, capsize=2.5, lw=1.4
            )
        axes.axvline(0, color="#6b6b6b", lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(rows)), [row["prior"] for row in rows])
        axes.set_title(name, fontsize=10)
        axes.invert_yaxis() if axes is grid[0] else None
        _tidy(axes)
    figure.supxlabel(
        "NLL − NLL of Normal at T = 1, nats a test point (left: better than Normal)", fontsize=9.5
    )
    return figure


def _colour(index: int, count: int) -> Any:
    return colormaps["plasma"](0.05 + 0.87 * index / max(count - 1, 1))


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(color="#ececec", lw=0.6)
    axes.set_axisbelow(True)


def main() -> None:
    """Judge the run folders given, then write tables and pictures of all that there is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    build_parser()  # teaches jsonargparse which classes are data sets and scale rules
    collect([Path(argument) for argument in sys.argv[1:]])
    files = sorted(RESULTS.glob("*.csv"), key=lambda file: (file.stem != "mnist", file.stem))
    found = {file.stem: load(file) for file in files}
    texts = []
    for name, records in found.items():
        texts.append(f"### {name}\n\n{table(records)}\n")
        curves(records).savefig(RESULTS / f"{name}.png")
    (RESULTS / "tables.md").write_text("\n".join(texts), encoding="utf-8")
    differences(found).savefig(RESULTS / "differences.png")
    print("\n".join(texts))


if __name__ == "__main__":
    main()
