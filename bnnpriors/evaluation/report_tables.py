"""The report's tables, and its list of warnings, as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from .funnels import LOW_BFMI
from .plots import MARKERS, style
from .report_verdict import POOR_ACCEPTANCE, POOR_RHAT, POOR_TEMPERATURE, Row, grade, nearest_to_one, reasons

LABELS = {
    "error": "test error",
    "nll": "NLL (nats)",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "rmse": "RMSE",
    "coverage_95": "coverage of 95 % intervals",
    "auroc_ood": "OOD AUROC",
}
GLYPHS = dict(zip(MARKERS, "●■▲◆▼✚✖", strict=True))
"""The shapes of the markers as text."""
_MARKS = {"good": "● good", "fair": "◐ fair", "poor": "▲ poor"}
_NARROW = 0.95

Cell = Callable[[Row], str]


def metrics_table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Every metric of every posterior, with its sampling error."""
    columns: list[tuple[str, str, Cell]] = [
        (escape(LABELS.get(metric, metric)), "", lambda row, metric=metric: _metric(row, metric))  # type: ignore[misc]
        for metric in metrics
    ]
    return _table(rows, columns)


def diagnostics_table(rows: Sequence[Row]) -> str:
    """What `summary` found, without the columns that this sampler does not have; figures that are off are marked."""
    columns: list[tuple[str, str, Cell]] = [
        ("R̂", "predictions", _plain("rhat_predictions", ".3f", lambda v: v > POOR_RHAT)),
        ("R̂", "weights", _plain("rhat_weights", ".2f")),
        ("ESS bulk", "predictions", _plain("ess_bulk_predictions", ".0f")),
        ("ESS tail", "predictions", _plain("ess_tail_predictions", ".0f")),
        ("accep&shy;tance", "", _plain("acceptance", ".2f", lambda v: v < POOR_ACCEPTANCE)),
        ("E-BFMI", "", _plain("bfmi", ".2f", lambda v: v < LOW_BFMI)),
        ("step size", "", _plain("step_size", ".2g")),
        (
            "kinetic&nbsp;/&nbsp;T",
            "1 expected",
            _plain("kinetic_temperature", ".3f", lambda v: abs(v - 1) > POOR_TEMPERATURE),
        ),
        ("in 99&nbsp;%", "of draws", _plain("kinetic_inside", ".0%", lambda v: v < _NARROW)),
        ("in 99&nbsp;%", "of tensors", _plain("kinetic_inside_tensors", ".0%", lambda v: v < _NARROW)),
        ("configu&shy;rational&nbsp;/&nbsp;T", "1 expected", _configurational),
    ]
    return _table(rows, [column for column in columns if any("—" not in column[2](row) for row in rows)])


def warnings_list(rows: Sequence[Row]) -> str:
    """What `summary` said about each posterior, folded away under a line that says what matters."""
    items = []
    for row in rows:
        notes = "".join(f"<li>{escape(note)}</li>" for note in row["warnings"]) or "<li>No warnings.</li>"
        why = "; ".join(reasons(row))
        head = f"{escape(row['prior'])}, T = {row['temperature']:g} {_mark(row)}" + (
            f" — {escape(why)}" if why else ""
        )
        items.append(f"<details><summary>{head}</summary><ul>{notes}</ul></details>")
    return "".join(items)


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, str, Cell]]) -> str:
    heads = "".join(
        f'<th scope="col">{name}{f"<small>{note}</small>" if note else ""}</th>' for name, note, _ in columns
    )
    one = nearest_to_one(rows) if len({row["temperature"] for row in rows}) > 1 else math.nan
    body = []
    for position, prior in enumerate(dict.fromkeys(row["prior"] for row in rows)):
        mine = sorted((row for row in rows if row["prior"] == prior), key=lambda row: row["temperature"])
        colour, marker = style(position)
        name = f'<span style="color:{colour}">{GLYPHS[marker]}</span> {escape(prior)}'
        for index, row in enumerate(mine):
            shade = ' class="one"' if row["temperature"] == one else ""
            opening = f'<th scope="rowgroup" rowspan="{len(mine)}">{name}</th>' if index == 0 else ""
            cells = "".join(f"<td{show(row)}</td>" for _, _, show in columns)
            body.append(
                f"<tr{shade}>{opening}<td>{row['temperature']:g}</td>{cells}<td>{_mark(row)}</td></tr>"
            )
    return (
        f'<table><thead><tr><th scope="col">prior</th><th scope="col">T</th>{heads}<th scope="col">sampling</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _mark(row: Row) -> str:
    return f'<span class="{grade(row)}">{_MARKS[grade(row)]}</span>'


def _metric(row: Row, metric: str) -> str:
    return f">{row[metric]:.4f}{_plus_minus(row.get(f'{metric}_se', math.nan), '.4f')}"


def _plain(name: str, form: str, wrong: Callable[[float], bool] = lambda value: False) -> Cell:
    """Shows one figure of a row; "—" where it is missing, marked where it is wrong."""

    def show(row: Row) -> str:
        value = row.get(name, math.nan)
        return ">—" if math.isnan(value) else f"{_class(wrong(value))}>{value:{form}}"

    return show


def _configurational(row: Row) -> str:
    value = row.get("configurational_temperature", math.nan)
    if math.isnan(value):
        return ">—"
    error = row.get("configurational_temperature_se", math.nan)
    form = ".3f" if abs(value) < 10 else ".0f"
    wrong = abs(value - 1) > max(POOR_TEMPERATURE, 4 * (0.0 if math.isnan(error) else error))
    return f"{_class(wrong)}>{value:{form}}{_plus_minus(error, form)}"


def _class(wrong: bool) -> str:
    return ' class="wrong"' if wrong else ""


def _plus_minus(error: float, form: str) -> str:
    return "" if math.isnan(error) else f'<span class="se"> ± {error:{form}}</span>'
