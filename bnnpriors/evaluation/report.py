"""`write_report`: a sweep as one HTML page that needs nothing else: verdict, curves, calibration, examples, diagnostics.

Figures are inline SVG; the page loads nothing and runs no script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor

from . import plots
from .report_figures import as_pictures, examples, svg
from .report_tables import LABELS, diagnostics_table, metrics_table, warnings_list
from .report_verdict import RULES, Row, best_row, nearest_to_one, verdict
from .shift import shift_curves, shift_table

HIGHER_IS_BETTER = ("auroc_ood",)


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        rows: one mapping a posterior: prior, temperature, the metrics with `*_se`, diagnostics, warnings.
        metrics: the names of the metrics, in order.
        draws: prior -> its draws at all temperatures.
        data: the `Dataset`. ood: out-of-distribution inputs, or None.
        shift: rows of `evaluate_shift` with their prior and temperature, or none.
        results: versions, machine, date, line (the command) and seconds. settings: the configuration, as YAML.
        folder: the name of the run folder.
    """

    title: str
    rows: Sequence[Row]
    metrics: Sequence[str]
    draws: Mapping[str, Any]
    data: Any
    ood: Tensor | None
    results: Mapping[str, Any]
    settings: str
    folder: str
    shift: Sequence[Row] = ()


def write_report(report: Report, path: Path) -> None:
    """Write the page, complete or not at all.

    Raises:
        ValueError: no rows, or rows that are not those of `draws`: evaluate the run first.
    """
    priors = {row["prior"] for row in report.rows}
    if not report.rows or priors != set(report.draws):
        raise ValueError(
            f"report: metrics of the priors {sorted(priors)} and draws of {sorted(report.draws)} given, expected the same; "
            "finish the run, or judge it with `bnnpriors evaluate`"
        )
    here = resources.files(__package__)
    template = here.joinpath("report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        style=here.joinpath("report.css").read_text(encoding="utf-8"),
        title=escape(report.title),
        subtitle=_subtitle(report),
        verdict="".join(
            f"<dt>{escape(question)}</dt>" + "".join(f"<dd>{escape(text)}</dd>" for text in answer)
            for question, answer in verdict(report.rows)
        ),
        table=metrics_table(report.rows, _shown(report)),
        curves=_curves(report),
        calibration=_calibration(report),
        shift=_shift(report),
        examples=_examples(report),
        rules=escape(RULES),
        diagnostics=diagnostics_table(report.rows),
        warnings=warnings_list(report.rows),
        traces=_traces(report),
        reproduce=_reproduce(report),
        settings=escape(report.settings),
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _subtitle(report: Report) -> str:
    data = report.data
    shape = " × ".join(map(str, data.x_train.shape[1:]))
    row = report.rows[0]
    dim = f"{int(row['dim']):,} parameters" if "dim" in row else ""
    parts = [
        " × ".join([_counted(len(report.draws), "prior"), _counted(len(_ladder(report)), "temperature")]),
        " × ".join([_counted(row["chains"], "chain"), _counted(row["draws"], "draw")]) + " each", dim,
        f"{escape(data.name)}: {len(data.x_train):,} training and {len(data.x_test):,} test points of {shape} numbers",
        escape(str(report.results.get("date", ""))),
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def _counted(number: float, name: str) -> str:
    return f"{number:g} {name}" + "s" * (number != 1)


def _curves(report: Report) -> str:
    figures = []
    for metric in _shown(report):
        label = LABELS.get(metric, metric)
        better = "higher is better" if metric in HIGHER_IS_BETTER else "lower is better"
        better = "0.95 is right" if metric == "coverage_95" else better
        rows = [{**row, f"{metric}_se": _error(row, metric)} for row in report.rows]
        figure = plots.temperature_curve(rows, metric, label=f"{label} — {better}")
        figures.append(_figure(svg(figure, f"{label} against temperature for each prior"), ""))
    return "".join(figures)


@torch.no_grad()
def _calibration(report: Report) -> str:
    one = nearest_to_one(report.rows)
    best = {
        p: best_row([row for row in report.rows if row["prior"] == p])["temperature"] for p in report.draws
    }
    wanted = [(p, one) for p in report.draws] + [(p, best[p]) for p in report.draws if best[p] != one]
    figures = []
    for prior, temperature in wanted:
        pred = report.draws[prior].at_temperature(temperature).predict(report.data.x_test)
        colour, _ = plots.style(list(report.draws).index(prior))
        figure = plots.reliability(pred, report.data.y_test, num_bins=10, colour=colour)
        note = f"{prior}, T = {temperature:g}" + (" (lowest NLL)" if temperature == best[prior] else "")
        figures.append(_figure(svg(figure, f"Reliability of {note}"), note))
    return "".join(figures)


def _shift(report: Report) -> str:
    if not report.shift:
        return ""
    one = nearest_to_one(report.shift)
    figure = shift_curves([row for row in report.shift if row["temperature"] == one])
    note = f"Accuracy, NLL and calibration error against the level of corruption, T = {one:g}"
    return (
        "<h2>Under shift</h2><p class='note'>Test images made worse in five levels. A model that knows when it knows less gets "
        "less sure: its accuracy falls, and its calibration error does not grow.</p>"
        f"{_figure(svg(figure, note), note)}"
        f"<details><summary>All posteriors</summary><div class='scroll'>{shift_table(report.shift)}</div></details>"
    )


@torch.no_grad()
def _examples(report: Report) -> str:
    one = nearest_to_one(report.rows)
    chosen = {prior: draws.at_temperature(one) for prior, draws in report.draws.items()}
    preds = {prior: draws.predict(report.data.x_test) for prior, draws in chosen.items()}
    ood = (
        None
        if report.ood is None
        else {prior: draws.predict(report.ood[:2]) for prior, draws in chosen.items()}
    )
    other = None if report.ood is None else as_pictures(report.data, report.ood[:2])
    figure = examples(preds, report.data.y_test, as_pictures(report.data, report.data.x_test), ood, other)
    return _figure(svg(figure, f"Single predictions of each prior at T = {one:g}"), f"T = {one:g}")


def _traces(report: Report) -> str:
    one = nearest_to_one(report.rows)
    figures = []
    for prior, draws in report.draws.items():
        chosen = draws.at_temperature(one)
        if "potential" in chosen.stats:
            note = f"{prior}, T = {one:g}: the potential U of each chain, which should look like noise around one level"
            figures.append(_figure(svg(plots.traces(chosen, ["potential"]), f"Trace of {note}"), note))
    return "".join(figures)


def _reproduce(report: Report) -> str:
    results = report.results
    folder = escape(report.folder)
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    facts = {
        "Command": f"<code>{escape(results['line'])}</code>",
        "Again": f"<code>bnnpriors {results['command']} --config {folder}/config.yaml --output another-folder</code>",
        "Data": escape(report.data.name),
        "Versions": escape(versions),
        "Machine": f"{escape(results['machine'])}; {results['seconds'] / 60:.1f} minutes of sampling and judging",
        "Draws": f"<code>{folder}/draws/</code>, one store a prior: <code>bnnpriors.Draws.open(…)</code>",
    }
    return "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())


def _figure(picture: str, note: str) -> str:
    return f"<figure>{picture}{f'<figcaption>{escape(note)}</figcaption>' if note else ''}</figure>"


def _ladder(report: Report) -> list[float]:
    return sorted({row["temperature"] for row in report.rows})


def _shown(report: Report) -> list[str]:
    return [metric for metric in report.metrics if all(metric in row for row in report.rows)]


def _error(row: Row, metric: str) -> float:
    """The standard error of a metric; 0 where there is none."""
    error = row.get(f"{metric}_se", math.nan)
    return 0.0 if math.isnan(error) else error
