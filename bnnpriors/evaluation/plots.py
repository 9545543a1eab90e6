"""Figures: reliability, traces, temperature curves and the predictive band.

Every function returns a `matplotlib.figure.Figure` made without pyplot, so nothing global changes and
nothing needs a display: `figure.savefig("reliability.png")`. Colours are those of Okabe and Ito, safe for
    colour-blind readers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .predictive import Predictive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#6b6b6b"
_LEVELS = (0.5, 0.95)
_MAX_TRACES = 6


def style(index: int) -> tuple[str, str]:
    """Colour and marker of curve `index`: 49 different pairs of the seven colours and the seven markers."""
    return COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


@torch.no_grad()
def reliability(
    pred: Predictive, y: Shaped[Tensor, "batch *out"], *, num_bins: int = 15, colour: str = COLOURS[0]
) -> "Figure":
    """Is 80 % right 80 % of the time? On the diagonal: yes; below it: overconfident.

    Classification: the accuracy in each bin of the top probability, with the number of points in each bin
    below. Regression: the share of targets inside the central interval against its nominal level.

    Raises what `pred.targets(y)` raises.
    """
    y = pred.targets(y)
    figure = _figure(4.4, 4.9 if pred.kind == "classification" else 4.4)
    if pred.kind == "regression":
        axes = figure.add_subplot()
        inside = (2 * pred.cdf(y).double() - 1).abs().flatten()
        levels = torch.linspace(0, 1, 101, dtype=torch.float64, device=inside.device)
        coverage = (inside <= levels[:, None]).double().mean(-1)
        axes.plot(
            levels.cpu().numpy(),
            coverage.cpu().numpy(),
            color=colour,
            lw=2,
            label="model",
            clip_on=False,
            zorder=3,
        )
        _diagonal(axes)
        axes.set(xlabel="nominal level of the central interval", ylabel="share of targets inside")
        return figure
    axes, counts_axes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    confidence, label = pred.probs.double().max(-1)
    correct = (label == y).double()
    which = (confidence * num_bins).long().clamp(max=num_bins - 1)
    counts = torch.bincount(which, minlength=num_bins).double()
    accuracy = torch.bincount(which, correct, minlength=num_bins) / counts
    mean_confidence = torch.bincount(which, confidence, minlength=num_bins) / counts
    filled = counts > 0
    error = (accuracy * (1 - accuracy) / counts).sqrt()
    axes.errorbar(
        mean_confidence[filled].cpu().numpy(),
        accuracy[filled].cpu().numpy(),
        error[filled].cpu().numpy(),
        fmt="o-",
        ms=5,
        lw=1.6,
        elinewidth=1,
        color=colour,
        label="model (± 1 s.e.)",
        clip_on=False,
        zorder=3,
    )
    _diagonal(axes)
    axes.set_ylabel("accuracy in the bin")
    counts_axes.bar(
        (np.arange(num_bins) + 0.5) / num_bins,
        counts.cpu().numpy(),
        width=0.9 / num_bins,
        color=colour,
        alpha=0.45,
    )
    counts_axes.set(xlabel="confidence (top probability)", ylabel="points")
    _tidy(counts_axes)
    return figure


def traces(draws: Any, names: Sequence[str] | None = None) -> "Figure":
    """One element of each tensor against the draw number, a line for each chain: it should look like noise
    around one level.

    `names` are parameters of the model (as in `draws["0.weight"]`; the first element is shown) or entries of
    `draws.stats`; without them, the first latents are shown. Raises `ValueError` for an empty list of names.
    """
    if names is not None and not names:
        raise ValueError(
            "names is empty: expected parameter names or entries of draws.stats, or None for the first "
            "latents"
        )
    if names is None:
        series = {f"latent {i}": draws.theta[:, :, i] for i in range(min(_MAX_TRACES, draws.theta.shape[2]))}
    else:
        series = {name: _trace(draws, name) for name in names}
    figure = _figure(7.2, 0.6 + 1.25 * len(series))
    grid = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(grid, series.items(), strict=True):
        for chain, line in enumerate(torch.as_tensor(values).detach().cpu().numpy()):
            axes.plot(line, color=COLOURS[chain % len(COLOURS)], lw=0.7, alpha=0.85, label=f"chain {chain}")
        axes.set_title(name, loc="left", fontsize=9, color=_GREY, pad=3)
        axes.margins(x=0)
        _tidy(axes)
    grid[-1].set_xlabel("draw (after thinning)")
    handles, labels = grid[0].get_legend_handles_labels()
    if 1 < len(handles) <= len(COLOURS):
        figure.legend(
            handles,
            labels,
            loc="outside upper right",
            ncols=len(handles),
            frameon=False,
            fontsize=8,
            handlelength=1.2,
        )
    return figure


def temperature_curve(
    rows: Sequence[Mapping[str, Any]], metric: str, *, label: str | None = None
) -> "Figure":
    """A metric against temperature (log scale), one line for each prior: where it falls left of T = 1, the
    posterior is "cold".

    Args:
        rows: mappings with `prior`, `temperature` > 0, the metric, and perhaps `<metric>_se`, its standard
            error.
        metric: the key to plot, such as `"nll"`.
        label: the words on the vertical axis; the metric's name if not given.

    Raises `ValueError` for no rows, a row without one of the keys, or a temperature that is not positive.
    """
    if not rows:
        raise ValueError("rows is empty: expected mappings with prior, temperature and the metric")
    for row in rows:
        if missing := {"prior", "temperature", metric} - set(row):
            raise ValueError(f"row {dict(row)}: the keys {sorted(missing)} are missing")
        if not row["temperature"] > 0:
            raise ValueError(
                f"temperature {row['temperature']}: expected more than 0, for the axis is logarithmic"
            )
    figure = _figure(5.6, 3.9)
    axes = figure.add_subplot()
    for index, prior in enumerate(dict.fromkeys(row["prior"] for row in rows)):
        mine = sorted((row for row in rows if row["prior"] == prior), key=lambda row: row["temperature"])
        errors = [row.get(f"{metric}_se", 0.0) for row in mine]
        axes.errorbar(
            [row["temperature"] for row in mine],
            [row[metric] for row in mine],
            errors,
            lw=1.6,
            ms=5.5,
            capsize=2.5,
            elinewidth=1,
            color=style(index)[0],
            marker=style(index)[1],
            label=str(prior),
        )
    axes.set_xscale("log")
    axes.axvline(1.0, color=_GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
    axes.set(xlabel="temperature T (dashed: T = 1)", ylabel=label or metric)
    _tidy(axes)
    figure.legend(loc="outside right upper", frameon=False, title="prior", alignment="left")
    return figure


@torch.no_grad()
def predictive_band(
    pred: Predictive,
    x: Float[Tensor, "batch *one"],
    observations: tuple[Float[Tensor, "points *one"], Float[Tensor, "points *one"]] | None = None,
) -> "Figure":
    """The mean and the central 50 % and 95 % intervals of new observations, for one input and one output.

    Args:
        pred: regression predictions at `x`.
        x: the inputs, [batch] or [batch, 1], in any order.
        observations: the data (x, y) to draw as points.

    Raises `ValueError` for another number of inputs, or more than one input or output dimension.
    """
    if x.numel() != pred.num_points or pred.mean.shape[1:].numel() != 1:
        raise ValueError(
            f"x {tuple(x.shape)} and predictions {tuple(pred.mean.shape)}: expected one input and one "
            "output, as many points in both"
        )
    order = x.detach().flatten().argsort().cpu().numpy()
    across = x.detach().flatten().cpu().numpy()[order]
    figure = _figure(6.4, 3.9)
    axes = figure.add_subplot()
    for level, alpha in zip(reversed(_LEVELS), (0.18, 0.32), strict=True):
        low, high = (edge.flatten().cpu().numpy()[order] for edge in pred.interval(level))
        axes.fill_between(
            across, low, high, color=COLOURS[0], alpha=alpha, lw=0, label=f"{level:.0%} interval"
        )
    axes.plot(across, pred.mean.flatten().cpu().numpy()[order], color=COLOURS[0], lw=2, label="mean")
    if observations is not None:
        seen_x, seen_y = (part.detach().cpu().numpy().flatten() for part in observations)
        axes.plot(seen_x, seen_y, ".", color="black", ms=5, label="observations", zorder=4)
    axes.set(xlabel="input x", ylabel="target y")
    axes.margins(x=0.01)
    _tidy(axes)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _diagonal(axes: "Axes") -> None:
    axes.plot((0, 1), (0, 1), color=_GREY, lw=1, ls=(0, (4, 3)), label="perfect calibration")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left")
    _tidy(axes)


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.6, color=_GREY)
    axes.tick_params(width=0.6, length=3, color=_GREY, labelsize=9)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def _trace(draws: Any, name: str) -> Tensor:
    values = draws.stats[name] if name in draws.stats else draws[name]
    return values.reshape(*values.shape[:2], -1)[:, :, 0]
