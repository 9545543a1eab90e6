"""A comparison as one HTML page that needs nothing else: table, metrics side by side, calibration, single predictions."""

from __future__ import annotations

import math
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import evaluation
from ..disk import write_text
from ..evaluation.plots import style
from ..evaluation.report_figures import svg
from .table import HEADS, MethodTable, calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY = "#6b6b6b"
BETTER = {"accuracy": "higher is better", "auroc_ood": "higher is better", "coverage_95": "0.95 is right"}


def write_page(table: MethodTable, path: Path, title: str) -> None:
    """Write the page, complete or not at all."""
    template = resources.files(__package__).joinpath("comparison.html").read_text(encoding="utf-8")
    look = resources.files(evaluation.__name__).joinpath("report.css").read_text(encoding="utf-8")
    figures = []
    if table.points:
        figures = [
            ("Metrics of each method", metrics_figure(table)),
            ("Calibration of each method", calibration_figure(table)),
        ]
        if table.kind == "regression":
            figures.append(("Intervals of single predictions", intervals_figure(table)))
    page = Template(template).substitute(
        title=escape(title),
        style=look,
        table=_html(table),
        reasons="".join(
            f"<p class='note'>{escape(row['method'])} has no figures: {escape(row['reason'])}</p>"
            for row in table.rows
            if "reason" in row
        ),
        figures="".join(f"<figure>{svg(figure, note)}</figure>" for note, figure in figures),
        own=_own(table),
    )
    write_text(path, page)


def metrics_figure(table: MethodTable) -> Figure:
    """A panel for each metric, a point with its standard error for each method."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(table.points)
    rows = {row["method"]: row for row in table.rows}
    metrics = [*table.metrics, "seconds"]
    width = 1.4 + 1.75 * len(metrics)
    figure = Figure(figsize=(width, 0.9 + 0.34 * len(names)), dpi=150, layout="constrained")
    for axes, metric in zip(
        figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True
    ):
        for place, name in enumerate(names):
            colour, marker = style(place)
            error = rows[name].get(f"{metric}_se", 0.0)
            axes.errorbar(
                rows[name].get(metric, math.nan), place, xerr=0.0 if math.isnan(error) else error,
                fmt=marker, ms=6, color=colour, elinewidth=1.2,
            )  # fmt: skip
        if metric == "seconds":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if metric == "coverage_95":
            axes.axvline(0.95, color=_GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
        axes.set_title(HEADS[metric], fontsize=9)
        axes.set_xlabel(BETTER.get(metric, "lower is better"), fontsize=8, color=_GREY)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(labelsize=8, width=0.6, length=3, color=_GREY)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set(linewidth=0.6, color=_GREY)
        axes.grid(axis="both", color="#e6e6e6", lw=0.6)
        axes.set_axisbelow(True)
    return figure


def calibration_figure(table: MethodTable) -> Figure:
    """What holds against what is claimed, all methods in one panel: below the diagonal they are overconfident."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color=_GREY, lw=1, ls=(0, (4, 3)))
    for place, (name, points) in enumerate(table.points.items()):
        colour, marker = style(place)
        claimed, holds = calibration(table.kind, points)
        every = max(1, len(claimed) // 10)
        axes.plot(claimed, holds, color=colour, marker=marker, markevery=every, ms=4.5, lw=1.6, label=name)
    if table.kind == "regression":
        axes.set(xlabel="nominal level of the central interval", ylabel="share of targets inside")
    else:
        axes.set(xlabel="confidence (top probability)", ylabel="accuracy in the bin")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", lw=0.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def intervals_figure(table: MethodTable, count: int = 60) -> Figure:
    """The 95 % intervals of some test points under each method, in the order of their targets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 0.6 + 1.35 * len(table.points)), dpi=150, layout="constrained")
    grid = figure.subplots(len(table.points), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for place, (axes, (name, points)) in enumerate(zip(grid, table.points.items(), strict=True)):
        truth = points["target"][:, 0]
        chosen = np.argsort(truth)[np.linspace(0, len(truth) - 1, min(count, len(truth))).astype(int)]
        across = np.arange(len(chosen))
        axes.vlines(
            across,
            points["low"][chosen, 0],
            points["high"][chosen, 0],
            color=style(place)[0],
            lw=2,
            alpha=0.6,
        )
        axes.plot(across, truth[chosen], ".", color="black", ms=3.5)
        axes.set_title(name, loc="left", fontsize=9, color=_GREY, pad=2)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("target, in the unit of the model", fontsize=8.5)
    grid[-1].set_xlabel(
        "test points, in the order of their targets; dots are the targets, bars 95 % intervals", fontsize=8.5
    )
    return figure


def _html(table: MethodTable) -> str:
    heads, *lines = table.cells()
    reasons = {row["method"] for row in table.rows if "reason" in row}
    marks = {name: style(place)[0] for place, name in enumerate(table.points)}
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = []
    for name, *cells in lines:
        shown = ["—"] * len(cells) if name in reasons else cells
        colour = marks.get(name, _GREY)
        best = ' class="one"' if name == table.best else ""
        body.append(
            f'<tr{best}><th scope="row"><span style="color:{colour}">●</span> {escape(name)}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in shown)
            + "</tr>"
        )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _own(table: MethodTable) -> str:
    """What each method says of itself."""
    items = []
    for row in table.rows:
        own: dict[str, Any] = row.get("own", {})
        if own:
            facts = ", ".join(f"{escape(name)} {value:.4g}" for name, value in own.items())
            items.append(f"<dt>{escape(row['method'])}</dt><dd>{facts}</dd>")
    return "".join(items)
