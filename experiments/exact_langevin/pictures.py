"""Pictures and tables of the README, from the tables that `run.py` wrote.

python -m experiments.exact_langevin.pictures runs/exact_langevin    # copies the tables to results/ first
python -m experiments.exact_langevin.pictures                        # again, from results/*.csv
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.shared import GREY, Record, colour, markdown, read_table, temperature_axis, tidy

RESULTS = Path(__file__).parent / "results"
TABLES = ("reverse", "harmonic", "corrected", "acceptance", "bias")
SEEN = 1e-6
"""Acceptance below this is not told from 0 by the moves that there are."""
STYLES = {
    "SGLD": ("#0072B2", "o"),
    "SGHMC": ("#D55E00", "s"),
    "GGMC without test": ("#009E73", "^"),
    "BAOAB": ("#CC79A7", "D"),
    "GGMC": ("black", "o"),
}


def reverse_picture(rows: Sequence[Record]) -> Figure:
    """Acceptance against the width of the blur: a line of slope d is what becomes zero."""
    figure = Figure(figsize=(5.6, 3.7), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    dims = sorted({row["dim"] for row in rows})
    for index, dim in enumerate(dims):
        for name, style in (("SGHMC", "-"), ("GGMC", "--")):
            mine = [
                r
                for r in rows
                if (r["dim"], r["sampler"]) == (dim, name)
                and r["acceptance"] > max(SEEN, 2 * r["acceptance_se"])
            ]
            across, up = [r["width"] for r in mine], [r["acceptance"] for r in mine]
            label = f"{name}, {dim:g} dimension{'s' if dim > 1 else ''}"
            axes.plot(across, up, style, marker="o", ms=4, color=colour(index, len(dims)), label=label)
    axes.set(xscale="log", yscale="log", xlabel="width of the blur, δ", ylabel="acceptance of one step")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def harmonic_picture(rows: Sequence[Record]) -> Figure:
    """Var θ k/T against h√k: what was measured on the closed form."""
    figure = Figure(figsize=(5.6, 3.7), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    shown = [row for row in rows if row["temperature"] == 1.0]
    for name, (shade, marker) in STYLES.items():
        mine = [row for row in shown if row["sampler"] == name]
        moved = [row for row in mine if row["acceptance"] > 0.01]
        across = [row["step_size"] for row in moved]
        errors = [3 * row["variance_se"] for row in moved]
        axes.errorbar(
            across,
            [r["variance"] for r in moved],
            errors,
            fmt=marker,
            ms=5,
            color=shade,
            label=name,
            mfc="none",
        )
        axes.plot(
            [r["step_size"] for r in mine], [r["closed_form"] for r in mine], color=shade, lw=0.9, zorder=0
        )
    axes.set(xlabel="step size, h √k", ylabel="Var θ · k/T", yscale="log")
    axes.set_yticks([1, 1.5, 2, 2.5], ["1", "1.5", "2", "2.5"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, title="lines: closed form", title_fontsize=8)
    tidy(axes)
    return figure


def acceptance_picture(rows: Sequence[Record]) -> Figure:
    """Acceptance of GGMC against steps per test, a line a step size; a row a size of minibatch, a column a temperature."""
    batches = sorted({row["batch_size"] for row in rows}, reverse=True)
    temperatures = sorted({row["temperature"] for row in rows})
    sizes = sorted({row["step_size"] for row in rows})
    shape = (2.7 * len(temperatures) + 1.2, 2.3 * len(batches) + 0.4)
    figure = Figure(figsize=shape, dpi=110, layout="constrained")
    grid = figure.subplots(len(batches), len(temperatures), sharex=True, sharey=True, squeeze=False)
    for line, batch in zip(grid, batches, strict=True):
        for axes, temperature in zip(line, temperatures, strict=True):
            for index, size in enumerate(sizes):
                mine = [
                    r
                    for r in rows
                    if (r["batch_size"], r["temperature"], r["step_size"]) == (batch, temperature, size)
                ]
                across, up = [r["steps_per_test"] for r in mine], [r["acceptance"] for r in mine]
                errors = [2 * r["acceptance_se"] for r in mine]
                axes.errorbar(
                    across,
                    up,
                    errors,
                    color=colour(index, len(sizes)),
                    marker="o",
                    ms=3.5,
                    lw=1.3,
                    label=f"h = {size:g}",
                )
            lengths = sorted({row["steps_per_test"] for row in rows})
            axes.set_xscale("log", base=2)
            axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
            axes.set_title(f"T = {temperature:g}, batch {batch:g}", fontsize=9)
            tidy(axes)
    for axes in grid[-1]:
        axes.set_xlabel("steps per test")
    for axes in grid[:, 0]:
        axes.set_ylabel("acceptance")
        axes.set_ylim(-0.03, 1.03)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5)
    return figure


def bias_picture(rows: Sequence[Record]) -> Figure:
    """What E[U] has too much, in units of d T/2, against temperature; a row a size of minibatch, a column a step size."""
    batches = sorted({row["batch_size"] for row in rows}, reverse=True)
    sizes = sorted({row["step_size"] for row in rows})
    figure = Figure(figsize=(2.5 * len(sizes) + 1.6, 2.4 * len(batches) + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(len(batches), len(sizes), sharex=True, sharey=True, squeeze=False)
    for line, batch in zip(grid, batches, strict=True):
        for axes, size in zip(line, sizes, strict=True):
            _bias_axes(axes, [r for r in rows if (r["batch_size"], r["step_size"]) == (batch, size)])
            axes.set_title(f"h = {size:g}, batch {batch:g}", fontsize=9)
            temperature_axis(axes, [row["temperature"] for row in rows])
            axes.set_xlabel("")
    for axes in grid[-1]:
        axes.set_xlabel("temperature")
    for axes in grid[:, 0]:
        axes.set_ylabel("excess of E[U]")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5)
    return figure


def _bias_axes(axes: Axes, rows: Sequence[Record]) -> None:
    for index, name in enumerate(name for name in STYLES if name != "GGMC"):
        mine = [row for row in rows if row["sampler"] == name and row["stable"]]
        across = [row["temperature"] * 1.08 ** (index - 1.5) for row in mine]
        errors = [2 * row["energy_excess_se"] for row in mine]
        shade, marker = STYLES[name]
        axes.errorbar(
            across,
            [r["energy_excess"] for r in mine],
            errors,
            fmt=marker,
            ms=4.5,
            color=shade,
            label=name,
            capsize=1.5,
        )
        lost = [
            row["temperature"] * 1.08 ** (index - 1.5)
            for row in rows
            if row["sampler"] == name and not row["stable"]
        ]
        axes.plot(lost, [0.96] * len(lost), "x", color=shade, ms=6, transform=axes.get_xaxis_transform())
    axes.axhline(0, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_yscale("symlog", linthresh=0.1)
    tidy(axes)


def reverse_table(rows: Sequence[Record]) -> str:
    """Markdown: acceptance by width and dimension."""
    dims, widths = sorted({row["dim"] for row in rows}), sorted({row["width"] for row in rows}, reverse=True)
    found = {(row["sampler"], row["dim"], row["width"]): row for row in rows}
    columns = [(name, dim) for name in ("SGHMC", "GGMC") for dim in dims]
    lines = []
    for width in widths:
        values = [found[name, dim, width]["acceptance"] for name, dim in columns]
        lines.append([f"{width:g}", *(f"{value:.2g}" if value > SEEN else "0" for value in values)])
    return markdown(["δ", *(f"{name}, d = {dim:g}" for name, dim in columns)], lines)


def harmonic_table(rows: Sequence[Record]) -> str:
    """Markdown: Var θ k/T measured and in closed form, at the highest temperature; the acceptance of GGMC."""
    hottest = max(row["temperature"] for row in rows)
    sizes = sorted({row["step_size"] for row in rows})
    lines = []
    for name in STYLES:
        mine = {
            row["step_size"]: row for row in rows if (row["sampler"], row["temperature"]) == (name, hottest)
        }
        lines.append([name, *(_harmonic_cell(mine[size], tested=name == "GGMC") for size in sizes)])
    return markdown(["Var θ · k/T", *(f"h √k = {size:g}" for size in sizes)], lines)


def _harmonic_cell(row: Record, *, tested: bool) -> str:
    if tested and row["acceptance"] < 0.01:
        return f"does not move (acceptance {row['acceptance']:.0e})"
    text = f"{row['variance']:.3f} ± {row['variance_se']:.3f}"
    return (
        f"{text} (1; acceptance {row['acceptance']:.2f})" if tested else f"{text} ({row['closed_form']:.3f})"
    )


def acceptance_table(rows: Sequence[Record]) -> str:
    """Markdown: acceptance, a column for each temperature and number of steps per test."""
    found = {
        tuple(row[n] for n in ("batch_size", "step_size", "temperature", "steps_per_test")): row
        for row in rows
    }
    lengths, temperatures = (
        sorted({row[name] for row in rows}) for name in ("steps_per_test", "temperature")
    )
    lines = []
    for batch, size in dict.fromkeys((row["batch_size"], row["step_size"]) for row in rows):
        cells = [found[batch, size, t, length]["acceptance"] for t in temperatures for length in lengths]
        lines.append([f"{batch:g}", f"{size:g}", *(f"{cell:.2f}" for cell in cells)])
    return markdown(["batch", "h", *(f"T = {t:g}, L = {n:g}" for t in temperatures for n in lengths)], lines)


def bias_table(rows: Sequence[Record]) -> str:
    """Markdown: the excess of E[U], and whether predictions differ beyond chance (*)."""
    names = [name for name in STYLES if name != "GGMC"]
    keys = list(dict.fromkeys((row["temperature"], row["batch_size"], row["step_size"]) for row in rows))
    found = {(row["sampler"], row["temperature"], row["batch_size"], row["step_size"]): row for row in rows}
    lines = []
    for temperature, batch, size in keys:
        cells = []
        for name in names:
            row = found[name, temperature, batch, size]
            mark = " *" if row["found"] else ""
            text = (
                f"{row['energy_excess']:+.2f} ± {row['energy_excess_se']:.2f}{mark}"
                if row["stable"]
                else "lost"
            )
            cells.append(text)
        lines.append([f"{temperature:g}", f"{batch:g}", f"{size:g}", *cells])
    return markdown(["T", "batch", "h", *names], lines)


def corrected_table(rows: Sequence[Record]) -> str:
    """Markdown: the corrected run at each temperature."""
    lines = []
    for row in rows:
        cells = [
            f"{row['temperature']:g}",
            f"{row['acceptance']:.2f}",
            f"{row['step_size']:.3f}",
            f"{row['rhat']:.2f}",
        ]
        virial = f"{row['configurational_temperature']:.2f} ± {row['configurational_temperature_se']:.2f}"
        lines.append([*cells, f"{row['nll']:.3f}", virial])
    return markdown(["T", "acceptance", "h", "R̂ of predictions", "NLL", "T̂/T"], lines)


PICTURES = {
    "reverse": reverse_picture,
    "harmonic": harmonic_picture,
    "acceptance": acceptance_picture,
    "bias": bias_picture,
}


def main() -> None:
    """Copy the tables of a run, if one is given, and draw."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for argument in sys.argv[1:2]:
        for name in (*TABLES, "settings"):
            suffix = "yaml" if name == "settings" else "csv"
            shutil.copyfile(Path(argument) / f"{name}.{suffix}", RESULTS / f"{name}.{suffix}")
    found = {name: read_table(RESULTS / f"{name}.csv") for name in TABLES}
    for name, draw in PICTURES.items():
        draw(found[name]).savefig(RESULTS / f"{name}.png")
    made = (reverse_table, harmonic_table, corrected_table, acceptance_table, bias_table)
    texts = [make(found[make.__name__.removesuffix("_table")]) for make in made]
    (RESULTS / "tables.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    print("\n\n".join(texts))


if __name__ == "__main__":
    main()
