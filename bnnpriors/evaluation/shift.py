"""Does a model know when it knows less? Accuracy, NLL and calibration on inputs that get worse level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from .metrics import evaluate
from .plots import _tidy, style
from .predictive import Predictive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("accuracy", "nll", "ece")
_LABELS = {"accuracy": "accuracy", "nll": "NLL (nats)", "ece": "calibration error (ECE)"}
Row = Mapping[str, Any]


@torch.no_grad()
def evaluate_shift(
    predict: Callable[[Tensor], Predictive], shifted: Iterable[Any], y: Shaped[Tensor, "batch *out"]
) -> list[dict[str, Any]]:
    """Figures of a classifier on each of several corrupted versions of one test set (Ovadia et al. 2019, 1906.02530).

    A model that is calibrated under shift gets less sure as it gets worse: its accuracy falls, and its ECE does not grow.

    Args:
        predict: inputs to a predictive distribution, such as `draws.predict`.
        shifted: objects with `corruption`, `level` and `inputs`, such as `bnnpriors.datasets.corruptions(data)` gives.
        y: the classes of the test inputs, which corruption does not change.

    Returns:
        a row for each: corruption, level, accuracy, nll and ece, with `*_se` over the test points for the first two.

    Raises:
        ValueError: predictions that are no probabilities of classes, and whatever `evaluate` refuses.
    """
    rows = []
    for version in shifted:
        pred = predict(version.inputs)
        if pred.kind != "classification":
            raise ValueError(f"evaluate_shift: predictions for {pred.kind} given, expected classification")
        figures = evaluate(pred, y)
        kept = ("accuracy", "accuracy_se", "nll", "nll_se", "ece")
        rows.append(
            {"corruption": version.corruption, "level": version.level}
            | {name: figures[name] for name in kept}
        )
    return rows


def shift_curves(rows: Sequence[Row]) -> Figure:
    """Accuracy, NLL and ECE against the level, a column a corruption, a line a posterior.

    Args:
        rows: of `evaluate_shift`; with several posteriors also `prior` and `temperature`, by which lines are told apart.

    Raises:
        ValueError: no rows, or none of a corruption.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["corruption"] for row in rows if row["corruption"] != "none"))
    if not kinds:
        raise ValueError(
            f"shift_curves: {len(rows)} rows and no corruption: expected those of evaluate_shift"
        )
    lines = list(dict.fromkeys(map(_posterior, rows)))
    figure = Figure(figsize=(2.6 * len(kinds) + 1.0, 6.0), dpi=150, layout="constrained")
    grid = figure.subplots(len(METRICS), len(kinds), sharex=True, sharey="row", squeeze=False)
    for column, kind in enumerate(kinds):
        for axes, metric in zip(grid[:, column], METRICS, strict=True):
            for index, name in enumerate(lines):
                mine = sorted(
                    (row for row in rows if _posterior(row) == name and row["corruption"] in ("none", kind)),
                    key=lambda row: row["level"],
                )
                colour, marker = style(index)
                axes.errorbar(
                    [row["level"] for row in mine],
                    [row[metric] for row in mine],
                    [row.get(f"{metric}_se", 0.0) for row in mine],
                    color=colour, marker=marker, ms=4, lw=1.5, elinewidth=0.9, label=name,
                )  # fmt: skip
            _tidy(axes)
        grid[0, column].set_title(kind, fontsize=10)
        grid[-1, column].set(xlabel="level", xticks=range(6))
    for axes, metric in zip(grid[:, 0], METRICS, strict=True):
        axes.set_ylabel(_LABELS[metric])
    if lines != [""]:
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=min(len(lines), len(kinds)),
            frameon=False,
            fontsize=9,
        )
    return figure


def shift_table(rows: Sequence[Row]) -> str:
    """As HTML: a posterior and a corruption a line, accuracy, NLL and ECE at level 0 and at the levels after it."""
    levels = sorted({row["level"] for row in rows})
    body = []
    for name in dict.fromkeys(map(_posterior, rows)):
        mine = [row for row in rows if _posterior(row) == name]
        kinds = [kind for kind in dict.fromkeys(row["corruption"] for row in mine) if kind != "none"]
        head = f'<th scope="rowgroup" rowspan="{len(kinds) * len(METRICS)}">{escape(name)}</th>'
        for kind in kinds:
            at = {row["level"]: row for row in mine if row["corruption"] in ("none", kind)}
            for metric in METRICS:
                cells = "".join(
                    f"<td>{at[level][metric]:.3f}</td>" if level in at else "<td>—</td>" for level in levels
                )
                body.append(f"<tr>{head}<td>{escape(kind)}</td><td>{metric}</td>{cells}</tr>")
                head = ""
    heads = "".join(f'<th scope="col">level {level}</th>' for level in levels)
    return (
        f'<table><thead><tr><th scope="col">posterior</th><th scope="col">corruption</th><th scope="col">metric</th>{heads}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table>"
    )


def _posterior(row: Row) -> str:
    if "prior" not in row:
        return ""
    return f"{row['prior']}, T = {row['temperature']:g}"
