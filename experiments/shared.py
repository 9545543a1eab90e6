"""What the experiments share: tables that outlive a kill, intervals over seeds, markdown, and the look of pictures."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from bnnpriors.cli.runs import write_table

Record = dict[str, Any]
GREY = "#6b6b6b"
REFERENCE = "Normal"
"""The prior that others are compared with; black and dashed in pictures."""
LABELS = {
    "error": "test error",
    "rmse": "RMSE",
    "nll": "NLL (nats)",
    "ece": "calibration error (ECE)",
    "auroc_ood": "OOD AUROC",
}
HEADS = {**LABELS, "error": "error", "nll": "NLL", "ece": "ECE", "auroc_ood": "AUROC"}


class Cells:
    """A table on disk that is filled cell by cell, in as many runs as it takes.

    A cell is the rows that one computation gives, and its key is what the computation depends on. It is in the file as a whole or
    not at all, so a run that was killed goes on at the cell it was killed in.

    Args:
        file: a CSV file; what it holds is kept.
        keys: names of the columns that tell cells apart.
    """

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file, self.keys = file, tuple(keys)
        self.rows = read_table(file) if file.exists() else []

    def fill(self, key: Record, compute: Callable[[], Sequence[Record]]) -> list[Record]:
        """The rows of a cell, computed where they are not there yet."""
        if tuple(key) != self.keys:
            raise ValueError(f"{self.file}: key {list(key)} given, expected {list(self.keys)}")
        there = [row for row in self.rows if all(row[name] == value for name, value in key.items())]
        if not there:
            there = [key | dict(row) for row in compute()]
            self.rows += there
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_table(self.file, self.rows)
        return there


def read_table(file: Path) -> list[Record]:
    """The rows of a CSV file, numbers as such, nothing as None: what is written again is the same text."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(stream)]


def hold(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of a run in its folder, `settings.yaml`.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    file = folder / "settings.yaml"
    text = yaml.safe_dump(dict(settings), sort_keys=True, allow_unicode=True)
    if file.exists():
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
        now = yaml.safe_load(text)
        if changed := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            raise ValueError(
                f"output {folder} holds a run with other settings: {', '.join(changed)} differ. Choose another output"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def rounded(record: Mapping[str, Any], digits: int = 5) -> Record:
    """The record with its floats to so many significant digits."""
    return {k: float(f"{v:.{digits}g}") if isinstance(v, float) else v for k, v in record.items()}


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The mean over seeds and half its Student-t interval; NaN for one seed."""
    count = len(values)
    if count < 2:
        return values[0], math.nan
    return statistics.fmean(values), _quantile(level, count - 1) * statistics.stdev(values) / math.sqrt(count)


def contrast_interval(
    samples: Sequence[Sequence[float]], weights: Sequence[float], level: float = 0.95
) -> tuple[float, float]:
    """Σ w_k mean_k over independent samples of seeds, and half its interval by Welch (1947) and Satterthwaite (1946).

    The degrees of freedom are (Σ v_k)²/Σ v_k²/(n_k − 1) with v_k = w_k² s_k²/n_k. NaN where a sample has one seed.
    """
    value = sum(w * statistics.fmean(sample) for w, sample in zip(weights, samples, strict=True))
    if min(map(len, samples)) < 2:
        return value, math.nan
    parts = [w**2 * statistics.variance(s) / len(s) for w, s in zip(weights, samples, strict=True)]
    total = sum(parts)
    if total == 0:
        return value, 0.0
    freedom = total**2 / sum(part**2 / (len(s) - 1) for part, s in zip(parts, samples, strict=True))
    return value, _quantile(level, freedom) * math.sqrt(total)


def signed(value: float, half: float, digits: int = 3) -> str:
    """A difference with its interval, bold where that excludes 0."""
    text = f"{value:+.{digits}f} ± {half:.{digits}f}"
    return f"**{text}**" if abs(value) > half else text


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(line)} |".replace("| ---", "|---").replace("--- |", "---|") for line in lines
    )


def curves(
    records: Sequence[Record],
    shown: Sequence[str],
    *,
    bars: str,
    title: str,
    whole: bool = False,
    reference: str = REFERENCE,
) -> Figure:
    """Metrics of priors against temperature; the reference black and dashed, hollow where a run has not settled.

    Args:
        records: one a prior and temperature. shown: metrics, one picture each.
        bars: error bars are the entries `<metric>_<bars>`. title: of the legend.
        whole: whether the axes show all values with their bars, or leave out what is far from the others.
    """
    rows = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(8.6, 3.3 * rows), dpi=110, layout="constrained")
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for unused in grid[len(shown) :]:
        unused.remove()
    priors = list(dict.fromkeys(record["prior"] for record in records))
    for axes, metric in zip(grid, shown, strict=False):
        for index, prior in enumerate(priors):
            mine = sorted((r for r in records if r["prior"] == prior), key=lambda r: r["temperature"])
            shift = 1.025 ** (index - len(priors) / 2)
            across, up = [r["temperature"] * shift for r in mine], [r[metric] for r in mine]
            shade = "black" if prior == reference else colour(index, len(priors))
            dashes = (0, (4, 2)) if prior == reference else "-"
            errors = [r[f"{metric}_{bars}"] for r in mine]
            axes.errorbar(
                across, up, errors, color=shade, lw=1.4, ls=dashes, elinewidth=0.9, label=prior, zorder=3
            )
            faces = [shade if settled(r) else "white" for r in mine]
            axes.scatter(across, up, s=16, c=faces, edgecolors=[shade], linewidths=1, zorder=4)
        if not whole:
            axes.set_ylim(*spread([record[metric] for record in records]))
        temperature_axis(axes, [record["temperature"] for record in records])
        axes.set_ylabel(LABELS[metric])
        tidy(axes)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5, title=title)
    return figure


def settled(record: Record) -> bool:
    """Whether the configurational temperature is within 10 % of the temperature asked for."""
    return bool(abs(record["configurational_temperature"] - 1) <= 0.1)


def spread(values: Sequence[float], margin: float = 0.15) -> tuple[float, float]:
    """What an axis shows: all values within eight median deviations of the median, with a margin."""
    middle = statistics.median(values)
    width = statistics.median(abs(value - middle) for value in values)
    kept = [value for value in values if abs(value - middle) <= 8 * width]
    room = margin * (max(kept) - min(kept)) or margin
    return min(kept) - room, max(kept) + room


def colour(index: int, count: int) -> Any:
    """Of a curve among several that have an order, dark to bright."""
    return colormaps["plasma"](0.05 + 0.87 * index / max(count - 1, 1))


def temperature_axis(axes: Axes, temperatures: Sequence[float]) -> None:
    """A logarithmic axis of the ladder, T = 1 marked."""
    ladder = sorted(set(temperatures))
    axes.set_xscale("log")
    axes.set_xticks(ladder, [f"{temperature:g}" for temperature in ladder])
    axes.minorticks_off()
    axes.axvline(1.0, color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=0)
    axes.set_xlabel("temperature")


def tidy(axes: Axes) -> None:
    """Two spines, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(color="#ececec", lw=0.6)
    axes.set_axisbelow(True)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def _quantile(level: float, freedom: float) -> float:
    return float(student.ppf((1 + level) / 2, freedom))
