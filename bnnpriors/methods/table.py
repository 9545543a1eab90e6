"""The table of a comparison: rows, as Markdown, as files, and as a page with pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..disk import write_text

Row = dict[str, Any]
Points = dict[str, NDArray[Any]]

METRICS = {
    "classification": ("nll", "accuracy", "ece", "brier", "auroc_ood"),
    "regression": ("nll", "rmse", "ece", "coverage_95", "auroc_ood"),
}
HEADS = {
    "nll": "NLL",
    "accuracy": "accuracy",
    "rmse": "RMSE",
    "ece": "ECE",
    "brier": "Brier",
    "auroc_ood": "OOD AUROC",
    "coverage_95": "95 % coverage",
    "gap": "NLL above the best",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class MethodTable:
    """What `compare` found.

    Attributes:
        kind: "regression" or "classification".
        rows: one a method, in order: `method` with the figures of `bp.evaluate`, `seconds` and `own`, the figures of the method
            itself; or `method` with the `reason` why there are none.
        points: method -> figures of each test point (`bnnpriors.methods.comparing.pointwise`).
    """

    kind: str
    rows: Sequence[Row]
    points: Mapping[str, Points]

    @property
    def metrics(self) -> list[str]:
        """The metrics that there are, in order."""
        return [name for name in METRICS[self.kind] if any(name in row for row in self.rows)]

    @property
    def best(self) -> str | None:
        """The method of the lowest NLL; None where no method has one."""
        done = [row for row in self.rows if "reason" not in row]
        return min(done, key=lambda row: row["nll"])["method"] if done else None

    def gap(self, method: str) -> tuple[float, float]:
        """How far the NLL of a method is above the best one's, and the standard error of this difference over the test points,
        at which both are paired.
        """
        best = self.best
        assert best is not None
        difference = self.points[best]["log_prob"].astype(float) - self.points[method]["log_prob"]
        count = len(difference)
        error = float(difference.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        return float(difference.mean()), error

    def cells(self) -> list[list[str]]:
        """Heads, then a line for each method."""
        heads = ["method", *(HEADS[name] for name in self.metrics), HEADS["gap"], HEADS["seconds"]]
        lines = [heads]
        for row in self.rows:
            if "reason" in row:
                lines.append([row["method"], row["reason"], *[""] * (len(heads) - 2)])
                continue
            figures = [_number(row, name) for name in self.metrics]
            gap, error = self.gap(row["method"])
            apart = "best" if row["method"] == self.best else f"{gap:.3f} ± {error:.3f}"
            lines.append([row["method"], *figures, apart, f"{row['seconds']:.1f}"])
        return lines

    def markdown(self) -> str:
        """The table, with reasons below it."""
        heads, *lines = self.cells()
        reasons = {row["method"]: row["reason"] for row in self.rows if "reason" in row}
        text = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        text += [
            _line([line[0], *["—"] * (len(heads) - 1)] if line[0] in reasons else line) for line in lines
        ]
        notes = [f"- {name} has no figures: {reason}" for name, reason in reasons.items()]
        return "\n".join([*text, *(["", *notes] if notes else [])]) + "\n"

    def flat(self) -> list[Row]:
        """Rows for a file, with the figures of the methods themselves as `own.name`, and the paired gap."""
        found = []
        for row in self.rows:
            own = {f"own.{name}": value for name, value in row.get("own", {}).items()}
            flat = {name: value for name, value in row.items() if name != "own"} | own
            if "reason" not in row:
                flat["gap"], flat["gap_se"] = self.gap(row["method"])
            found.append(flat)
        return found

    def write(self, folder: Path, title: str | None = None) -> None:
        """`table.md` and `comparison.html`, whose title is the folder's name if none is given."""
        from .page import write_page

        write_text(folder / "table.md", self.markdown())
        write_page(self, folder / "comparison.html", title or folder.name)

    def __str__(self) -> str:
        return self.markdown()


def _number(row: Row, name: str) -> str:
    if name not in row:
        return "—"
    error = row.get(f"{name}_se", math.nan)
    value = f"{row[name]:.3f}"
    return value if math.isnan(error) else f"{value} ± {error:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def calibration(kind: str, points: Points, num_bins: int = 10) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is claimed and what holds: levels of central intervals and the share of targets inside, or the mean confidence of bins
    and the accuracy there.
    """
    if kind == "regression":
        levels = np.linspace(0, 1, 101)
        inside = points["inside"].ravel()
        return levels, (inside <= levels[:, None]).mean(1)
    probs = np.exp(points["log_probs"].astype(float))
    confidence, right = probs.max(1), probs.argmax(1) == points["label"]
    which = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(which, minlength=num_bins)
    filled = counts > 0
    sums = [np.bincount(which, values, minlength=num_bins)[filled] for values in (confidence, right)]
    return sums[0] / counts[filled], sums[1] / counts[filled]
