"""Tables and pictures of cold posteriors, every seed (chain) judged by itself.

    python -m experiments.cold_posteriors.table runs/cold_posteriors/*    # run folders of `bnnpriors sweep`, also unfinished ones
    python -m experiments.cold_posteriors.table                           # again, from results/*.csv

Given run folders it writes `results/<name>.csv`, a row a posterior and seed; a posterior that was judged before is not judged
again. From these files come `results/<name>.png`, `effect.png` and the tables of the README, `tables.md`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

import bnnpriors as bp
from bnnpriors.cli.build import ood_inputs
from bnnpriors.cli.parsers import build_parser, sweep_parser
from bnnpriors.cli.runs import RunFolder, write_table
from bnnpriors.evaluation import SamplePredictive
from experiments.shared import (
    GREY,
    HEADS,
    REFERENCE,
    Cells,
    Record,
    colour,
    contrast_interval,
    curves,
    markdown,
    mean_interval,
    read_table,
    rounded,
    settled,
    signed,
    temperature_axis,
    tidy,
)

RESULTS = Path(__file__).parent / "results"
METRICS = ("error", "nll", "ece", "auroc_ood")
DIAGNOSTICS = (
    "rhat_predictions",
    "ess_bulk_predictions",
    "kinetic_temperature",
    "configurational_temperature",
)


@torch.no_grad()
def judge(folder: Path) -> tuple[str, list[Record]]:
    """The name of a run, and a record for each seed of each posterior that is sampled."""
    run = RunFolder.open(folder)
    parser = sweep_parser()
    settings = parser.instantiate(run.parse(parser))
    ood = ood_inputs(settings.data, settings.ood, settings.seed)
    cells = Cells(folder / "seeds.csv", ("prior", "temperature", "draws"))
    records: list[Record] = []
    for row in run.results["rows"]:
        key = {name: row[name] for name in cells.keys}

        def compute(row: Record = row) -> list[Record]:
            draws = run.draws(row["prior"]).at_temperature(row["temperature"])
            ours = apart(draws.predict(settings.data.x_test))
            others = [None] * len(ours) if ood is None else apart(draws.predict(ood))
            found = []
            for seed, (pred, other) in enumerate(zip(ours, others, strict=True)):
                figures = bp.evaluate(pred, settings.data.y_test, ood=other)
                figures["error"] = 1 - figures["accuracy"]
                kept = {name: figures[name] for name in METRICS if name in figures}
                found.append(
                    {"seed": seed, **kept, **{name: row[name] for name in DIAGNOSTICS if name in row}}
                )
            return found

        records += cells.fill(key, compute)
    return settings.name, records


def apart(pred: SamplePredictive) -> list[SamplePredictive]:
    """The predictive distribution of each chain by itself."""
    parts = torch.arange(pred.num_draws).unflatten(0, (pred.num_chains, -1))
    return [pred.take(part.to(pred.outputs.device)) for part in parts]


def pool(rows: Sequence[Record]) -> list[Record]:
    """One record a posterior: the mean of each metric over seeds, and `_half` its 95 % interval."""
    groups: dict[tuple[str, float], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["prior"], row["temperature"]), []).append(row)
    pooled = []
    for group in groups.values():
        record: Record = {**group[0], "seeds": len(group)}
        for metric in (name for name in METRICS if name in group[0]):
            values = [row[metric] for row in group]
            record[metric], record[f"{metric}_half"] = mean_interval(values)
            record[f"{metric}_seeds"] = values
        pooled.append(record)
    return pooled


def effects(pooled: Sequence[Record], reference: str = REFERENCE) -> list[Record]:
    """For each prior: NLL at T = 1, the coldest posteriors' gain over it, and how much smaller that is than the reference's.

    `gain` = NLL(T = 1) − NLL(best T), with the best T by mean NLL; `weaker` = gain of the reference − gain of this prior.
    Intervals are over seeds, by Welch, and take the best T as given.
    """
    found = []
    base = _ladder(pooled, reference)
    base_best = _best(base)
    for prior in dict.fromkeys(record["prior"] for record in pooled):
        mine = _ladder(pooled, prior)
        best = _best(mine)
        record: Record = {"prior": prior, "best": best}
        record["gain"] = _contrast([(mine[1.0], 1), (mine[best], -1)])
        record["from_reference"] = _contrast([(mine[1.0], 1), (base[1.0], -1)])
        record["weaker"] = _contrast(
            [(base[1.0], 1), (base[base_best], -1), (mine[1.0], -1), (mine[best], 1)]
        )
        found.append(record)
    return found


def table(pooled: Sequence[Record], reference: str = REFERENCE, head: str = "prior") -> str:
    """Markdown: each prior at T = 1 and at its best temperature."""
    shown = [metric for metric in METRICS if metric in pooled[0]]
    heads = [head, *(HEADS[metric] for metric in shown), f"NLL − {reference}'s", "R̂", "T̂", "best T"]
    heads += ["error there", "NLL there", "NLL gained by cooling", f"less than {reference}'s by"]
    lines = []
    for effect in effects(pooled, reference):
        mine = _ladder(pooled, effect["prior"])
        one, best = mine[1.0], mine[effect["best"]]
        cells = [effect["prior"], *(_figure(one, metric) for metric in shown)]
        cells.append("" if effect["prior"] == reference else signed(*effect["from_reference"]))
        cells += [f"{one['rhat_predictions']:.2f}", f"{one['configurational_temperature']:.2f}"]
        cells.append(f"{effect['best']:g}")
        cells += (
            ["", "", ""]
            if best is one
            else [_figure(best, "error"), _figure(best, "nll"), signed(*effect["gain"])]
        )
        cells.append("" if effect["prior"] == reference else signed(*effect["weaker"]))
        lines.append(cells)
    return markdown(heads, lines)


def ladder_table(pooled: Sequence[Record]) -> str:
    """Markdown: NLL and the diagnostics of every posterior."""
    ladder = sorted({record["temperature"] for record in pooled})
    lines = []
    for prior in dict.fromkeys(record["prior"] for record in pooled):
        mine = _ladder(pooled, prior)
        cells = [
            f"{mine[t]['nll']:.3f}; {mine[t]['configurational_temperature']:.2f}; {mine[t]['rhat_predictions']:.2f}"
            if t in mine
            else ""
            for t in ladder
        ]
        lines.append([prior, *cells])
    return markdown(["NLL; T̂; R̂", *(f"T = {t:g}" for t in ladder)], lines)


def effect_picture(found: dict[str, list[Record]], reference: str = REFERENCE) -> Figure:
    """NLL against that at T = 1, with 95 % intervals over seeds: below 0 a colder posterior is better."""
    figure = Figure(figsize=(4.1 * len(found) + 1.8, 3.6), dpi=110, layout="constrained")
    priors = list(dict.fromkeys(record["prior"] for pooled in found.values() for record in pooled))
    legend: dict[str, ErrorbarContainer] = {}
    for axes, (name, pooled) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        for index, prior in enumerate(priors):
            mine = _ladder(pooled, prior)
            if not mine:
                continue
            colder = sorted(t for t in mine if t < 1)
            values = [_contrast([(mine[t], 1), (mine[1.0], -1)]) for t in colder]
            shade = "black" if prior == reference else colour(index, len(priors))
            across = [t * 1.04 ** (index - len(priors) / 2) for t in colder]
            up, half = [value for value, _ in values], [size for _, size in values]
            dashes = (0, (4, 2)) if prior == reference else "-"
            legend[prior] = axes.errorbar(
                across, up, half, color=shade, lw=1.4, ls=dashes, elinewidth=0.9, capsize=2
            )
            faces = [shade if settled(mine[t]) and settled(mine[1.0]) else "white" for t in colder]
            axes.scatter(across, up, s=18, c=faces, edgecolors=[shade], zorder=4)
        axes.axhline(0, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        temperature_axis(axes, [record["temperature"] for record in pooled])
        axes.set_ylabel("NLL − NLL at T = 1 (nats)")
        axes.set_title(name, fontsize=10)
        tidy(axes)
    shown = [prior for prior in priors if prior in legend]
    figure.legend(
        [legend[prior] for prior in shown], shown, loc="outside right center", frameon=False, fontsize=8.5
    )
    return figure


def _ladder(pooled: Sequence[Record], prior: str) -> dict[float, Record]:
    return {record["temperature"]: record for record in pooled if record["prior"] == prior}


def _best(ladder: dict[float, Record]) -> float:
    return min(ladder, key=lambda temperature: statistics.fmean(ladder[temperature]["nll_seeds"]))


def _contrast(terms: Sequence[tuple[Record, int]]) -> tuple[float, float]:
    """Σ ± NLL over posteriors; those that occur twice count twice, and with both signs not at all."""
    weights: dict[int, float] = {}
    records = {id(record): record for record, _ in terms}
    for record, sign in terms:
        weights[id(record)] = weights.get(id(record), 0) + sign
    kept = [name for name, weight in weights.items() if weight]
    if not kept:
        return 0.0, 0.0
    return contrast_interval([records[name]["nll_seeds"] for name in kept], [weights[name] for name in kept])


def _figure(record: Record, metric: str) -> str:
    scale, unit, digits = (100, " %", 2) if metric in ("error", "ece") else (1, "", 3)
    return f"{record[metric] * scale:.{digits}f} ± {record[f'{metric}_half'] * scale:.{digits}f}{unit}"


def main() -> None:
    """Judge the run folders given, then write tables and pictures of all that there is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    build_parser()  # teaches jsonargparse which classes are data sets and scale rules
    for argument in sys.argv[1:]:
        name, records = judge(Path(argument))
        write_table(RESULTS / f"{name}.csv", list(map(rounded, records)))
    found = {file.stem: pool(read_table(file)) for file in sorted(RESULTS.glob("*.csv"), reverse=True)}
    texts = []
    for name, pooled in found.items():
        texts.append(f"### {name}\n\n{table(pooled)}\n\n{ladder_table(pooled)}\n")
        curves(pooled, METRICS, bars="half", title="prior", whole=True).savefig(RESULTS / f"{name}.png")
    if found:
        effect_picture(found).savefig(RESULTS / "effect.png")
    (RESULTS / "tables.md").write_text("\n".join(texts), encoding="utf-8")
    print("\n".join(texts))


if __name__ == "__main__":
    main()
