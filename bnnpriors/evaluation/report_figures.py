"""The report's figures as text: inline SVG, and the pictures of single predictions."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .plots import style
from .predictive import Predictive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#6b6b6b"


def svg(figure: Figure, description: str) -> str:
    """A figure as an `<svg>` element without outside references; `description` is for readers who do not see it."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": description, "svg.fonttype": "path"}):
        silent = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=silent)
    # a page holds many figures, and an id counts once
    mark = hashlib.sha256(description.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{mark}-", buffer.getvalue())
    head = f'<svg role="img" aria-label="{escape(description)}" style="max-width:{figure.get_figwidth() * 1.06:.2f}in" '
    return head + text[text.index("<svg") + len("<svg ") :]


@torch.no_grad()
def examples(
    preds: Mapping[str, Predictive],
    y: Tensor,
    pictures: Float[Tensor, "points height width"] | None,
    ood: Mapping[str, Predictive] | None,
    ood_pictures: Float[Tensor, "others height width"] | None,
) -> Figure:
    """Single predictions under each prior: test inputs from sure to unsure, then out-of-distribution ones where given.

    Classification: the probability of every class. Regression: the 95 % intervals of test points, in the order of their targets.
    """
    first = next(iter(preds.values()))
    if first.kind == "regression":
        return _intervals(preds, y)
    mean_probs = torch.stack([pred.probs for pred in preds.values()]).mean(0)
    order = mean_probs.max(-1).values.argsort(descending=True)
    picks = [int(order[round(q * (len(order) - 1))]) for q in (0.0, 0.5, 0.97, 0.99, 1.0)]
    columns: list[tuple[str, Mapping[str, Predictive], int, Tensor | None]] = [
        (f"true class {int(y[i])}", preds, i, None if pictures is None else pictures[i])
        for i in dict.fromkeys(picks)
    ]
    if ood is not None:
        columns += [
            ("out of distribution", ood, i, None if ood_pictures is None else ood_pictures[i])
            for i in range(min(2, next(iter(ood.values())).num_points))
        ]
    return _bars(columns)


def as_pictures(data: Any, x: Tensor) -> Float[Tensor, "points height width"] | None:
    """Inputs as grey pictures in the loader's units, where they are pixels with one shared scale; None otherwise."""
    if data.input_scale.ndim:
        return None
    raw = data.denormalize(x).cpu()
    if raw.ndim == 4:
        return raw.mean(1)
    side = math.isqrt(raw.shape[1]) if raw.ndim == 2 else 0
    return raw.unflatten(1, (side, side)) if side > 1 and side * side == raw.shape[1] else None


def _bars(columns: list[tuple[str, Mapping[str, Predictive], int, Tensor | None]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.45 * len(columns), 4.0), dpi=150, layout="constrained")
    grid = figure.subplots(2, len(columns), height_ratios=(1, 2.1), squeeze=False)
    for place, (title, preds, index, picture) in enumerate(columns):
        _show(grid[0, place], picture)
        grid[0, place].set_title(title, fontsize=8.5, color=_GREY)
        axes = grid[1, place]
        height = 0.8 / len(preds)
        for row, (prior, pred) in enumerate(preds.items()):
            probs = pred.probs[index].cpu().numpy()
            where = np.arange(len(probs)) + (row - (len(preds) - 1) / 2) * height
            axes.barh(where, probs, height=0.92 * height, color=style(row)[0], label=prior)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), yticks=range(len(probs)) if len(probs) <= 12 else ())
        axes.set_xticklabels(("0", "½", "1"))
        axes.invert_yaxis()
        axes.tick_params(labelsize=7.5, length=0, labelcolor="#333333")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set(linewidth=0.6, color=_GREY)
        axes.grid(axis="x", color="#e6e6e6", lw=0.6)
        axes.set_axisbelow(True)
    grid[1, 0].set_ylabel("class", fontsize=8.5)
    figure.supxlabel("predictive probability", fontsize=8.5)
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(handles), 5), frameon=False, fontsize=8.5
    )
    return figure


def _show(axes: Axes, picture: Tensor | None) -> None:
    axes.set_axis_off()
    if picture is not None:
        axes.imshow(picture.numpy(), cmap="gray_r", interpolation="nearest")


def _intervals(preds: Mapping[str, Predictive], y: Tensor) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 1.0 + 1.9 * len(preds)), dpi=150, layout="constrained")
    grid = figure.subplots(len(preds), 1, sharex=True, squeeze=False)[:, 0]
    truth = (y.reshape(len(y), -1)[:, 0]).cpu()
    chosen = truth.argsort()[torch.linspace(0, len(truth) - 1, min(60, len(truth))).long()]
    for row, (axes, (prior, pred)) in enumerate(zip(grid, preds.items(), strict=True)):
        low, high = (edge[:, 0].cpu()[chosen].numpy() for edge in pred.interval(0.95))
        axes.vlines(
            np.arange(len(chosen)),
            low,
            high,
            color=style(row)[0],
            lw=2,
            alpha=0.6,
            label="95 % interval",
        )
        axes.plot(truth[chosen].numpy(), ".", color="black", ms=4, label="target")
        axes.set_title(prior, loc="left", fontsize=9, color=_GREY)
        axes.set_ylabel("target", fontsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("test points, in the order of their targets", fontsize=8.5)
    grid[0].legend(frameon=False, fontsize=8)
    return figure
