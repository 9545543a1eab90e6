"""What the commands print: lines of progress, and tables of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evaluation.report_verdict import grade
from .scores import METRICS

HEADS = {"auroc_ood": "ood", "coverage_95": "cover"}
console = Console(highlight=False)


def say(text: str) -> None:
    """One line of progress, at once, whatever its brackets and its length."""
    console.print(text, markup=False, soft_wrap=True)


def findings(rows: Sequence[dict[str, Any]], kind: str) -> Table:
    """A small table: the metrics of each posterior, and how well it is sampled."""
    names = [name for name in METRICS[kind] if any(name in row for row in rows)]
    table = Table(box=None, pad_edge=False)
    for head in ("prior", "T", *(HEADS.get(name, name) for name in names), "R̂", "draws"):
        table.add_column(head, no_wrap=True)
    for row in rows:
        figures = [
            f"{row[name]:.3f}" + (f" ± {row['nll_se']:.3f}" if name == "nll" else "") for name in names
        ]
        table.add_row(
            row["prior"], f"{row['temperature']:g}", *figures, f"{row['rhat_predictions']:.2f}", grade(row)
        )
    return table


def shift_findings(rows: Sequence[dict[str, Any]]) -> Table:
    """Accuracy, NLL and ECE at every level of every corruption."""
    table = Table(box=None, pad_edge=False)
    for head in ("prior", "T", "corruption", "level", "accuracy", "nll", "ece"):
        table.add_column(head, no_wrap=True)
    for row in rows:
        figures = [f"{row[name]:.3f}" for name in ("accuracy", "nll", "ece")]
        level = str(row["level"])
        table.add_row(row["prior"], f"{row['temperature']:g}", row["corruption"], level, *figures)
    return table


def worst(rows: Sequence[dict[str, Any]]) -> str:
    """How many posteriors are sampled well, fairly and poorly."""
    grades = [grade(row) for row in rows]
    return ", ".join(f"{grades.count(name)} {name}" for name in ("good", "fair", "poor") if name in grades)
