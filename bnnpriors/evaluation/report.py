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
from .report_verdict import RULES, Row, best_row, grade, nearest_to_one, reasons, verdict

LABELS = {
    "error": "test error", "nll": "NLL (nats)", "ece": "calibration error (ECE)", "brier": "Brier score", "rmse": "RMSE",
    "coverage_95": "coverage of 95 % intervals", "auroc_ood": "OOD AUROC",
}  # fmt: skip
HIGHER_IS_BETTER = ("auroc_ood",)
MARKS = {"good": "● good", "fair": "◐ fair", "poor": "▲ poor"}
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖")
"""The shapes of `plots.MARKERS`, for the tables."""


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        rows: one mapping a posterior: prior, temperature, the metrics with `*_se`, diagnostics, warnings.
        metrics: the names of the metrics, in order.
        draws: prior -> its draws at all temperatures.
        data: the `Dataset`. ood: out-of-distribution inputs, or None.
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


def write_report(report: Report, path: Path) -> None:
    """Write the page, complete or not at all.

    Raises:
        ValueError: no rows, or rows that are not those of `draws`: evaluate the run first.
    """
    priors = {row["prior"] for row in report.rows}
    if not report.rows or priors != set(report.draws):
        raise ValueError(
            f"report: metrics of the priors {sorted(priors)} and draws of {sorted(report.draws)} given, expected the same; finish the "
            "run, or judge it with `bnnpriors evaluate`"
        )
    template = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=escape(report.title),
        subtitle=_subtitle(report),
        verdict="".join(f"<dt>{escape(q)}</dt><dd>{escape(a)}</dd>" for q, a in verdict(report.rows)),
        table=_metrics_table(report),
        curves=_curves(report),
        calibration=_calibration(report),
        examples=_examples(report),
        rules=escape(RULES),
        diagnostics=_diagnostics_table(report),
        warnings=_warnings(report),
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
        f"{len(report.draws)} priors × {len(_ladder(report))} temperatures",
        f"{row['chains']} chains × {row['draws']} draws each", dim,
        f"{escape(data.name)}: {len(data.x_train):,} training and {len(data.x_test):,} test points of {shape} numbers",
        escape(str(report.results.get("date", ""))),
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def _metrics_table(report: Report) -> str:
    heads = "".join(f'<th scope="col">{escape(LABELS.get(m, m))}</th>' for m in _shown(report))
    body = []
    for row, opening in _by_prior(report):
        cells = "".join(f"<td>{_with_error(row, m)}</td>" for m in _shown(report))
        body.append(f'<tr{_one(report, row)}>{opening}<td class="t">{row["temperature"]:g}</td>{cells}<td>{_mark(row)}</td></tr>')
    return (
        f'<table><thead><tr><th scope="col">prior</th><th scope="col">T</th>{heads}<th scope="col">sampling</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _curves(report: Report) -> str:
    figures = []
    for metric in _shown(report):
        label = LABELS.get(metric, metric)
        better = "higher is better" if metric in HIGHER_IS_BETTER else "lower is better"
        better = "0.95 is right" if metric == "coverage_95" else better
        rows = [{**row, f"{metric}_se": _zero(row.get(f"{metric}_se"))} for row in report.rows]
        figure = plots.temperature_curve(rows, metric, label=f"{label}, {better}")
        figures.append(_figure(svg(figure, f"{label} against temperature for each prior"), ""))
    return "".join(figures)


@torch.no_grad()
def _calibration(report: Report) -> str:
    figures = []
    one = nearest_to_one(report.rows)
    for position, prior in enumerate(report.draws):
        best = best_row([row for row in report.rows if row["prior"] == prior])["temperature"]
        for temperature in dict.fromkeys((one, best)):
            pred = report.draws[prior].at_temperature(temperature).predict(report.data.x_test)
            colour = plots.COLOURS[position % len(plots.COLOURS)]
            figure = plots.reliability(pred, report.data.y_test, num_bins=10, colour=colour)
            note = f"{prior}, T = {temperature:g}" + (" (lowest NLL)" if temperature == best else "")
            figures.append(_figure(svg(figure, f"Reliability of {note}"), note))
    return "".join(figures)


@torch.no_grad()
def _examples(report: Report) -> str:
    one = nearest_to_one(report.rows)
    chosen = {prior: draws.at_temperature(one) for prior, draws in report.draws.items()}
    preds = {prior: draws.predict(report.data.x_test) for prior, draws in chosen.items()}
    ood = None if report.ood is None else {prior: draws.predict(report.ood[:2]) for prior, draws in chosen.items()}
    other = None if report.ood is None else as_pictures(report.data, report.ood[:2])
    figure = examples(preds, report.data.y_test, as_pictures(report.data, report.data.x_test), ood, other)
    return _figure(svg(figure, f"Single predictions of each prior at T = {one:g}"), f"T = {one:g}")


def _diagnostics_table(report: Report) -> str:
    columns: list[tuple[str, str, Any]] = [
        ("R̂ predictions", "worst of a sample", lambda r: _cell(r, "rhat_predictions", ".3f", lambda v: v > 1.1)),
        ("R̂ weights", "worst of a sample", lambda r: _cell(r, "rhat_weights", ".2f", None)),
        ("ESS bulk", "predictions, worst", lambda r: _cell(r, "ess_bulk_predictions", ".0f", None)),
        ("ESS tail", "predictions, worst", lambda r: _cell(r, "ess_tail_predictions", ".0f", None)),
        ("acceptance", "", lambda r: _cell(r, "acceptance", ".2f", lambda v: v < 0.4)),
        ("step size", "mean", lambda r: _cell(r, "step_size", ".2g", None)),
        ("kinetic / T", "1 expected", lambda r: _cell(r, "kinetic_temperature", ".3f", lambda v: abs(v - 1) > 0.05)),
        ("in 99 %", "of draws", lambda r: _cell(r, "kinetic_inside", ".0%", lambda v: v < 0.95)),
        ("in 99 %", "of tensors", lambda r: _cell(r, "kinetic_inside_tensors", ".0%", lambda v: v < 0.95)),
        ("configurational / T", "1 expected", _configurational),
    ]  # fmt: skip
    columns = [column for column in columns if any("—" not in column[2](row) for row in report.rows)]
    heads = "".join(f'<th scope="col">{name}<small>{note}</small></th>' for name, note, _ in columns)
    body = [
        f'<tr{_one(report, row)}>{opening}<td class="t">{row["temperature"]:g}</td>{"".join(show(row) for _, _, show in columns)}'
        f"<td>{_mark(row)}</td></tr>"
        for row, opening in _by_prior(report)
    ]
    return (
        f'<table><thead><tr><th scope="col">prior</th><th scope="col">T</th>{heads}<th scope="col">sampling</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _warnings(report: Report) -> str:
    items = []
    for row in report.rows:
        notes = "".join(f"<li>{escape(note)}</li>" for note in row["warnings"])
        why = "; ".join(reasons(row))
        head = f"{escape(row['prior'])}, T = {row['temperature']:g} {_mark(row)}" + (f" — {escape(why)}" if why else "")
        items.append(f"<details><summary>{head}</summary><ul>{notes or '<li>No warnings.</li>'}</ul></details>")
    return "".join(items)


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
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    facts = {
        "Command": f"<code>{escape(results['line'])}</code>",
        "Again": f"<code>bnnpriors {results['command']} --config {escape(report.folder)}/config.yaml --output another-folder</code>",
        "Data": escape(report.data.name),
        "Versions": escape(versions),
        "Machine": f"{escape(results['machine'])}; {results['seconds'] / 60:.1f} minutes of sampling and judging",
        "Draws": f"<code>{escape(report.folder)}/draws/</code>, one store a prior: <code>bnnpriors.Draws.open(…)</code>",
    }
    return "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())


def _figure(picture: str, note: str) -> str:
    return f"<figure>{picture}{f'<figcaption>{escape(note)}</figcaption>' if note else ''}</figure>"


def _by_prior(report: Report) -> list[tuple[Row, str]]:
    """Rows by prior and rising temperature, with the cell that opens each prior's group."""
    result = []
    for position, prior in enumerate(report.draws):
        mine = sorted((row for row in report.rows if row["prior"] == prior), key=lambda row: row["temperature"])
        colour, glyph = plots.COLOURS[position % len(plots.COLOURS)], GLYPHS[position % len(GLYPHS)]
        head = f'<th scope="rowgroup" rowspan="{len(mine)}"><span style="color:{colour}">{glyph}</span> {escape(prior)}</th>'
        result += [(row, head if index == 0 else "") for index, row in enumerate(mine)]
    return result


def _ladder(report: Report) -> list[float]:
    return sorted({row["temperature"] for row in report.rows})


def _shown(report: Report) -> list[str]:
    return [metric for metric in report.metrics if all(metric in row for row in report.rows)]


def _one(report: Report, row: Row) -> str:
    return ' class="one"' if row["temperature"] == nearest_to_one(report.rows) and len(_ladder(report)) > 1 else ""


def _mark(row: Row) -> str:
    return f'<span class="{grade(row)}">{MARKS[grade(row)]}</span>'


def _with_error(row: Row, metric: str) -> str:
    error = row.get(f"{metric}_se", math.nan)
    return f"{row[metric]:.4f}" + ("" if math.isnan(error) else f'<span class="se"> ± {error:.4f}</span>')


def _cell(row: Row, name: str, form: str, wrong: Any) -> str:
    value = row.get(name, math.nan)
    if math.isnan(value):
        return "<td>—</td>"
    return f'<td{" class=wrong" if wrong is not None and wrong(value) else ""}>{value:{form}}</td>'


def _configurational(row: Row) -> str:
    value, error = row.get("configurational_temperature", math.nan), _zero(row.get("configurational_temperature_se"))
    if math.isnan(value):
        return "<td>—</td>"
    wrong = " class=wrong" if abs(value - 1) > max(0.05, 4 * error) else ""
    return f'<td{wrong}>{value:.3f}<span class="se"> ± {error:.3f}</span></td>'


def _zero(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value
