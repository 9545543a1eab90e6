"""Figures of a `PriorPredictive`: functions, class probabilities, and activations through depth.

As in `plots`, every function returns a `matplotlib.figure.Figure` made without pyplot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .plots import _GREY, COLOURS, _figure, _tidy
from .prior_predictive import FACTOR, PriorPredictive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 8
_BANDS = ((0.05, 0.95, 0.16, "90 % of draws"), (0.25, 0.75, 0.30, "50 % of draws"))


@torch.no_grad()
def function_samples(prior: PriorPredictive, *, output: int = 0, num_functions: int = _SHOWN) -> Figure:
    """A few functions, and the median and the central 50 % and 90 % of all draws at each input.

    The inputs are one-dimensional, or lie on a line (`inputs_between`). With classes it is the probability of class `output`.

    Args:
        prior: from `bp.prior_predictive`.
        output: the output or class to show.
        num_functions: functions drawn as lines of their own.

    Raises:
        ValueError: inputs that are on no line, or an output that there is not.
    """
    across, axis = _along(prior.x)
    values = prior.outputs if prior.log_probs is None else prior.probs
    values = values.detach().double().flatten(2) if values.ndim > 2 else values.detach().double()[..., None]
    if not 0 <= output < values.shape[2]:
        raise ValueError(f"function_samples: output {output} given, expected 0 to {values.shape[2] - 1}")
    order = across.argsort()
    across, values = across[order].cpu(), values[:, order, output].cpu()
    ordered = values.nan_to_num(nan=torch.inf).sort(0).values
    figure = _figure(6.4, 3.9)
    axes = figure.add_subplot()
    for low, high, alpha, name in _BANDS:
        below, above = (ordered[round(level * (len(ordered) - 1))].numpy() for level in (low, high))
        axes.fill_between(across.numpy(), below, above, color=COLOURS[0], alpha=alpha, lw=0, label=name)
    median = ordered[round(0.5 * (len(ordered) - 1))]
    for index, row in enumerate(values[:num_functions]):
        label = (
            "_" if index else "single draws"
        )  # matplotlib leaves names that begin with _ out of the legend
        axes.plot(across.numpy(), row.numpy(), color=COLOURS[1 + index % 5], lw=1, alpha=0.85, label=label)
    axes.plot(across.numpy(), median.numpy(), color=COLOURS[0], lw=2, label="median")
    what = "output f(x)" if prior.outputs[0, 0].numel() == 1 else f"output {output}"
    axes.set(xlabel=axis, ylabel=what if prior.log_probs is None else f"probability of class {output}")
    if prior.log_probs is None:
        _keep_in_view(axes, ordered)
    else:
        axes.set_ylim(-0.02, 1.02)
    axes.margins(x=0.01)
    _tidy(axes)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


@torch.no_grad()
def class_probabilities(prior: PriorPredictive) -> Figure:
    """How certain the prior is of a class before it has seen data.

    Left: the largest class probability, over draws and inputs; at 1/classes a draw has no opinion, at 1 it is certain. Right:
    for three classes the probabilities on the simplex; otherwise the share of the inputs that one draw gives to its most
    frequent class, its second, …: all on one class means that draws are almost constant functions.

    Raises:
        TypeError: there are no classes.
    """
    probs = prior.probs.detach().double().cpu()
    draws, _, classes = probs.shape
    figure = _figure(8.4, 3.7)
    left, right = figure.subplots(1, 2)
    top = probs.max(-1).values.flatten()
    bins = torch.linspace(1 / classes, 1, 26)
    weights = torch.full_like(top, 1 / len(top))
    left.hist(top.numpy(), bins=bins.tolist(), weights=weights.numpy(), color=COLOURS[0], alpha=0.85)
    left.axvline(1 / classes, color=_GREY, lw=0.9, ls=(0, (4, 3)))
    left.set(xlabel=f"largest class probability (dashed: 1/{classes})", ylabel="share of draws and inputs")
    left.margins(x=0.02)
    _tidy(left)
    if classes == 3:
        _simplex(right, probs.flatten(0, 1)[:4000])
        return figure
    shares = (
        torch.nn.functional.one_hot(probs.argmax(-1), classes).double().mean(1).sort(descending=True).values
    )
    rank = torch.arange(1, classes + 1)
    low, median, high = (shares.sort(0).values[round(q * (draws - 1))] for q in (0.05, 0.5, 0.95))
    right.bar(rank.numpy(), median.numpy(), color=COLOURS[2], alpha=0.85)
    right.vlines(rank.numpy(), low.numpy(), high.numpy(), color="black", lw=1)
    right.axhline(1 / classes, color=_GREY, lw=0.9, ls=(0, (4, 3)))
    right.set(
        xlabel="classes of one draw, most frequent first",
        ylabel="share of the inputs\n(bar: median, line: 90 % of draws)",
        ylim=(0, 1.02),
    )
    if classes <= 12:
        right.set_xticks(rank.tolist())
    _tidy(right)
    return figure


@torch.no_grad()
def variance_by_depth(prior: PriorPredictive) -> Figure:
    """The mean square of each layer's activations over draws, on a logarithmic scale; the title is the verdict.

    Points are medians, bars the central 50 % and 90 % of draws; blue where the layer has weights, grey where it has none.
    The shaded band is what counts as stable for the output.
    """
    figure = _figure(max(5.6, 1.6 + 0.5 * len(prior.layers)), 4.1)
    axes = figure.add_subplot()
    quantiles = torch.stack([layer.quantiles() for layer in prior.layers]).cpu()
    quantiles = quantiles.clamp(1e-100, 1e100)
    place = torch.arange(len(prior.layers)).numpy()
    axes.plot(place, quantiles[:, 2].numpy(), color=_GREY, lw=1, zorder=1)
    for index, (layer, row) in enumerate(zip(prior.layers, quantiles.tolist(), strict=True)):
        colour = COLOURS[0] if layer.has_weights else _GREY
        axes.vlines(index, row[0], row[4], color=colour, lw=1.4)
        axes.vlines(index, row[1], row[3], color=colour, lw=4.5, alpha=0.6)
        axes.plot(index, row[2], "o", ms=6, color=colour, zorder=3)
    start = quantiles[0, 2].item()
    axes.axhspan(start / FACTOR, start * FACTOR, color=COLOURS[2], alpha=0.08, lw=0)
    axes.set_yscale("log")
    names = [f"{layer.name}\n{layer.kind}" for layer in prior.layers]
    crowded = len(names) > 6
    axes.set_xticks(place, names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    axes.set_ylabel("mean square of activations\n(median, 50 % and 90 % of draws)")
    growth = prior.growth_quantile(0.5)
    axes.set_title(f"{prior.verdict}: × {growth:.3g} to the output (shaded: stable)", fontsize=10, loc="left")
    axes.set_xlim(-0.5, len(names) - 0.5)
    _tidy(axes)
    axes.tick_params(axis="x", labelsize=8)
    return figure


def _along(x: Tensor) -> tuple[Float[Tensor, " batch"], str]:
    """Where each input lies on the line of all inputs, and what to call it."""
    flat = x.detach().double().flatten(1) if x.ndim > 1 else x.detach().double()[:, None]
    if flat.shape[1] == 1:
        return flat[:, 0], "input x"
    step = flat[-1] - flat[0]
    share = (flat - flat[0]) @ step / step.square().sum().clamp(min=1e-300)
    off = (flat - flat[0] - share[:, None] * step).norm(dim=1).max()
    if not step.norm() > 0 or off > 1e-3 * step.norm():
        raise ValueError(
            f"function_samples: inputs {tuple(x.shape)} on no line, expected one-dimensional inputs or the result of "
            "inputs_between(first, second)"
        )
    return share, "position between the two inputs"


def _keep_in_view(axes: Axes, ordered: Tensor) -> None:
    """Limits from the 90 % band, so that one heavy-tailed draw does not flatten the rest."""
    count = len(ordered) - 1
    low, high = float(ordered[round(0.05 * count)].min()), float(ordered[round(0.95 * count)].max())
    if high - low > 0 and max(abs(low), abs(high)) < 1e100:
        axes.set_ylim(low - 0.6 * (high - low), high + 0.6 * (high - low))


def _simplex(axes: Axes, probs: Float[Tensor, "points 3"]) -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    points = (probs @ corners).numpy()
    axes.fill(*corners.T.numpy(), fill=False, edgecolor=_GREY, lw=0.9)
    axes.plot(points[:, 0], points[:, 1], ".", ms=2.5, alpha=0.35, color=COLOURS[0])
    for k, (corner, align) in enumerate(zip(corners.tolist(), ("right", "left", "center"), strict=True)):
        axes.annotate(
            f"class {k}",
            corner,
            xytext=((-4, 4, 0)[k], (-2, -2, 5)[k]),
            textcoords="offset points",
            ha=align,
            fontsize=9,
        )
    axes.set_aspect("equal")
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.1, 1.0))
    axes.set_axis_off()
