"""Tables and pictures of the sweeps over priors and temperatures.

    python -m experiments.priors_revisited.table runs/priors_revisited/*    # run folders of `bnnpriors sweep`: judge their draws
    python -m experiments.priors_revisited.table                            # again, from results/sweeps/*.csv

Given run folders it writes `results/sweeps/<data>.csv`, a row a posterior and split, with differences of NLL paired by test
point. From these files come `results/sweeps/<data>.png`, `differences.png` and the tables of the README, `tables.md`.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from bnnpriors.cli.parsers import build_parser, sweep_parser
from bnnpriors.cli.runs import RunFolder, write_table
from experiments.priors_revisited.pictures import SHOWN, differences
from experiments.shared import HEADS, REFERENCE, Record, curves, markdown, read_table, rounded, signed

RESULTS = Path(__file__).parent / "results" / "sweeps"
METRICS = ("error", "rmse", "nll", "ece", "coverage_95", "auroc_ood")
DIAGNOSTICS = (
    "acceptance",
    "step_size",
    "rhat_predictions",
    "ess_bulk_predictions",
    "configurational_temperature",
)


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
        records.append(record)
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
        ordered = sorted(map(rounded, records), key=lambda record: record["split"])
        write_table(RESULTS / f"{name}.csv", ordered)


def load(file: Path) -> list[Record]:
    """The records of one CSV file, averaged over splits.

    Errors of metrics are over chains where there is one split (the jackknife of the sweep) and over splits where there are
    several; those of paired differences are over test points and chains, pooled. R̂ and the configurational temperature are
    the worst of the splits.
    """
    groups: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for row in read_table(file):
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
    temperatures = [row["configurational_temperature"] for row in group]
    pooled["configurational_temperature"] = max(temperatures, key=lambda value: abs(value - 1))
    return pooled


def table(records: list[Record]) -> str:
    """Markdown: every family at T = 1 and at its best temperature; the order is that of the configuration."""
    shown = SHOWN["classification" if "error" in records[0] else "regression"]
    names = [
        "prior",
        *(HEADS[m] for m in shown),
        "NLL − Normal's",
        "R̂",
        "T̂",
        "best T",
        *(f"{HEADS[m]} there" for m in shown[:2]),
    ]
    lines = []
    for prior in dict.fromkeys(record["prior"] for record in records):
        mine = {record["temperature"]: record for record in records if record["prior"] == prior}
        one, best = mine[1.0], min(mine.values(), key=lambda record: record["nll"])
        cells = [prior, *(_figure(one, m) for m in shown)]
        cells += ["" if prior == REFERENCE else _interval(one, "nll_minus_normal")]
        cells += [f"{one['rhat_predictions']:.2f}", f"{one['configurational_temperature']:.2f}"]
        cells += [
            f"{best['temperature']:g}",
            *(_figure(best, m) if best is not one else "" for m in shown[:2]),
        ]
        cells.append("" if best is one else _interval(best, "nll_minus_warm", sign=-1))
        lines.append(cells)
    return markdown([*names, "NLL gained by it"], lines)


def _figure(record: Record, metric: str) -> str:
    scale, unit, digits = (
        (100, " %", 1) if metric in ("error", "ece") else (1, "", 2 if metric == "rmse" else 3)
    )
    text = f"{record[metric] * scale:.{digits}f}"
    error = f" ± {record[f'{metric}_se'] * scale:.{digits}f}" if metric in ("error", "rmse", "nll") else ""
    return text + error + unit


def _interval(record: Record, name: str, sign: int = 1) -> str:
    return signed(sign * record[name], 1.96 * record[f"{name}_se"])


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
        shown = SHOWN["classification" if "error" in records[0] else "regression"]
        curves(records, shown, bars="se", title="light tails first").savefig(RESULTS / f"{name}.png")
    (RESULTS / "tables.md").write_text("\n".join(texts), encoding="utf-8")
    differences(found).savefig(RESULTS / "differences.png")
    print("\n".join(texts))


if __name__ == "__main__":
    main()
