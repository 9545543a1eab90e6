"""The picture of differences, from the records that `table.py` reads."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.shared import GREY, REFERENCE, Record, colour, settled, spread, tidy

SHOWN = {"classification": ("error", "nll", "ece", "auroc_ood"), "regression": ("rmse", "nll")}


def differences(found: dict[str, list[Record]]) -> Figure:
    """NLL minus Normal's at T = 1, with the 95 % interval over test points and chains: left of zero is better than Normal."""
    figure = Figure(figsize=(2.35 * len(found) + 1.6, 3.5), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, records) in zip(grid, found.items(), strict=True):
        rows = [record for record in records if record["temperature"] == 1.0]
        low, high = spread(
            [row["nll_minus_normal"] + side * row["nll_minus_normal_se"] for row in rows for side in (-2, 2)]
        )
        for place, row in enumerate(rows):
            shade = "black" if row["prior"] == REFERENCE else colour(place, len(rows))
            half, face = 1.96 * row["nll_minus_normal_se"], shade if settled(row) else "white"
            value = row["nll_minus_normal"]
            if low < value < high:
                axes.errorbar(
                    value, place, xerr=half, fmt="o", ms=5, color=shade, mfc=face, capsize=2.5, lw=1.4
                )
            else:
                axes.text(0.98, place, f"{value:+.2f} →", transform=axes.get_yaxis_transform(), fontsize=8.5,
                          color=shade, ha="right", va="center")  # fmt: skip
        axes.set_xlim(low, high)
        axes.axvline(0, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(rows)), [row["prior"] for row in rows])
        axes.set_title(name, fontsize=10)
        axes.invert_yaxis() if axes is grid[0] else None
        tidy(axes)
    figure.supxlabel(
        "NLL − NLL of Normal at T = 1, nats a test point (left: better than Normal; hollow: not settled)",
        fontsize=9.5,
    )
    return figure
