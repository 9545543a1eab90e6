"""Pictures of the sweeps, from the records that `table.py` reads."""

from __future__ import annotations

import math
import statistics
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REFERENCE = "Normal"
LABELS = {
    "error": "test error",
    "rmse": "RMSE",
    "nll": "NLL (nats)",
    "ece": "calibration error (ECE)",
    "auroc_ood": "OOD AUROC",
}
SHOWN = {"classification": ("error", "nll", "ece", "auroc_ood"), "regression": ("rmse", "nll")}
Record = dict[str, Any]


def curves(records: list[Record]) -> Figure:
    """Every metric against temperature: light tails dark, heavy bright, Normal dashed; hollow where a run has not settled."""
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
            faces = [colour if _settled(r) else "white" for r in mine]
            axes.scatter(across, up, s=16, c=faces, edgecolors=[colour], linewidths=1, zorder=4)
        axes.set_ylim(*_range([record[metric] for record in records]))
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
        low, high = _range(
            [row["nll_minus_normal"] + side * row["nll_minus_normal_se"] for row in rows for side in (-2, 2)]
        )
        for place, row in enumerate(rows):
            colour = "black" if row["prior"] == REFERENCE else _colour(place, len(rows))
            half, face = 1.96 * row["nll_minus_normal_se"], colour if _settled(row) else "white"
            value = row["nll_minus_normal"]
            if low < value < high:
                axes.errorbar(
                    value, place, xerr=half, fmt="o", ms=5, color=colour, mfc=face, capsize=2.5, lw=1.4
                )
            else:
                axes.text(0.98, place, f"{value:+.2f} →", transform=axes.get_yaxis_transform(), fontsize=8.5,
                          color=colour, ha="right", va="center")  # fmt: skip
        axes.set_xlim(low, high)
        axes.axvline(0, color="#6b6b6b", lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(rows)), [row["prior"] for row in rows])
        axes.set_title(name, fontsize=10)
        axes.invert_yaxis() if axes is grid[0] else None
        _tidy(axes)
    figure.supxlabel(
        "NLL − NLL of Normal at T = 1, nats a test point (left: better than Normal; hollow: not settled)",
        fontsize=9.5,
    )
    return figure


def _range(values: list[float], margin: float = 0.15) -> tuple[float, float]:
    """What an axis shows: all values within eight median deviations of the median, with a margin."""
    middle = statistics.median(values)
    spread = statistics.median(abs(value - middle) for value in values)
    kept = [value for value in values if abs(value - middle) <= 8 * spread]
    room = margin * (max(kept) - min(kept))
    return min(kept) - room, max(kept) + room


def _settled(record: Record) -> bool:
    """Whether the configurational temperature is within 10 % of the temperature asked for."""
    return bool(abs(record["configurational_temperature"] - 1) <= 0.1)


def _colour(index: int, count: int) -> Any:
    return colormaps["plasma"](0.05 + 0.87 * index / max(count - 1, 1))


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(color="#ececec", lw=0.6)
    axes.set_axisbelow(True)
