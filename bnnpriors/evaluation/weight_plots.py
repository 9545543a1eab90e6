"""Figures of trained weights: marginals against fitted families, and correlations of taps, rows and columns.

Like `plots`, every function returns a `matplotlib.figure.Figure` made without pyplot.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .plots import _GREY, COLOURS, _figure, _tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..priors.empirical.layer import LayerFit
    from ..priors.empirical.matrix import Correlations
    from ..priors.empirical.spatial import Spatial

SHOWN = ("Normal", "Laplace", "StudentT")
MAX_SIDE = 120
"""Rows or columns of a correlation picture."""


def marginals(layer: LayerFit) -> Figure | None:
    """Left: the density of the weights on a log scale with fitted families. Right: observed quantiles against the fitted ones; a
    family is right where its points lie on the diagonal. None for a layer with too few weights.
    """
    if not layer.candidates:
        return None
    from ..priors.empirical.families import FAMILIES, frozen

    shown = dict.fromkeys((*SHOWN, *(name for name in [layer.recommended] if name in FAMILIES)))
    fitted = {name: frozen(name, layer.candidates[name].parameters) for name in shown}
    probability, observed = layer.quantiles
    figure = _figure(8.6, 3.9)
    density_axes, axes = figure.subplots(1, 2)
    ends = (1.05 * min(float(observed[0]), 0.0), 1.05 * max(float(observed[-1]), 0.0))
    grid = np.linspace(*ends, 801)
    for colour, (name, law) in zip(COLOURS, fitted.items(), strict=False):
        expected = law.ppf(probability)
        inside = (expected > ends[0]) & (expected < ends[1])
        axes.plot(
            expected[inside], observed[inside], ".", ms=3.5, color=colour, label=layer.candidates[name].title
        )
        density_axes.plot(grid, law.pdf(grid), color=colour, lw=1.5)
    heights = _histogram(density_axes, probability, observed)
    axes.plot(ends, ends, color=_GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    bounds = (0.3 * float(heights.min()), 4 * float(heights.max()))
    density_axes.set(yscale="log", ylim=bounds, xlabel="weight", ylabel="density")
    axes.set(xlim=ends, ylim=ends, xlabel="quantile of the fitted family", ylabel="quantile of the weights")
    for part, title in ((density_axes, f"{layer.name}  {layer.shape}"), (axes, "quantiles")):
        part.set_title(title, loc="left", fontsize=9, color=_GREY)
        _tidy(part)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, markerscale=3
    )
    return figure


def correlations(layer: LayerFit) -> Figure | None:
    """A convolution: correlation of its taps, with the centre tap, and against distance with the fitted kernels, dashed that of a
    recommended multivariate t. A linear layer: correlations between rows and between columns of the first network. None for
    other layers.
    """
    if layer.spatial is not None:
        return _taps(layer, layer.spatial)
    if layer.rows is not None and layer.columns is not None:
        return _matrix(layer, layer.rows, layer.columns)
    return None


def _taps(layer: LayerFit, spatial: Spatial) -> Figure:
    from ..priors.empirical.multivariate_t import STUDENT_KERNELS
    from ..priors.empirical.spatial import correlation_matrix, tap_distances

    size = layer.kernel_size
    figure = _figure(9.6, 3.3)
    matrix_axes, centre_axes, axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
    image = _heat(matrix_axes, spatial.correlation, f"{layer.name}: taps")
    centre = int(np.ravel_multi_index([side // 2 for side in size], size))
    middle = spatial.correlation[centre].reshape(-1, size[-1])
    _heat(centre_axes, middle, "with the centre tap")
    if middle.size <= 49:
        for (row, column), value in np.ndenumerate(middle):
            light = "white" if abs(value) > 0.6 else "black"
            centre_axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=light)
    figure.colorbar(image, ax=[matrix_axes, centre_axes], shrink=0.75, pad=0.02).ax.tick_params(labelsize=8)
    apart = np.triu_indices(len(spatial.correlation), 1)
    distance, values = tap_distances(size)[apart], spatial.correlation[apart]
    axes.plot(distance, values, ".", color=_GREY, ms=5, alpha=0.7, label="pairs of taps")
    line_size = (200,)
    step = float(distance.max()) / (line_size[0] - 1)

    def draw(kernel: str, lengthscale: float, **style: Any) -> None:
        curve = correlation_matrix(kernel, lengthscale / step, line_size)[0]
        axes.plot(np.arange(line_size[0]) * step, curve, lw=1.4, **style)

    for colour, (name, fitted) in zip(COLOURS, spatial.kernels.items(), strict=False):
        draw(
            name,
            fitted.lengthscale.value,
            color=colour,
            label=_kernel_title(name, fitted.lengthscale.value),
        )
    if (kernel := STUDENT_KERNELS.get(layer.recommended)) is not None:
        lengthscale = layer.candidates[layer.recommended].parameters["lengthscale"]
        draw(
            kernel,
            lengthscale,
            color="black",
            ls="--",
            label=f"{_kernel_title(kernel, lengthscale)} (multivariate t)",
        )
    axes.axhline(0, color=_GREY, lw=0.8)
    axes.set(
        xlabel="distance in taps", ylabel="correlation", ylim=(min(-0.15, 1.1 * float(values.min())), 1.02)
    )
    _tidy(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _matrix(layer: LayerFit, rows: Correlations, columns: Correlations) -> Figure:
    figure = _figure(7.4, 3.7)
    pair = figure.subplots(1, 2)
    both = [found.matrix[:MAX_SIDE, :MAX_SIDE] for found in (rows, columns)]
    off = np.concatenate([np.abs(m[~np.eye(len(m), dtype=bool)]) for m in both])
    limit = max(float(np.quantile(off, 0.995)), 1e-3)
    for axes, matrix, found, side in zip(pair, both, (rows, columns), ("rows", "columns"), strict=True):
        image = _heat(axes, matrix, f"{layer.name}: {side}", limit)
        axes.set_xlabel(f"rms {found.rms:.3f}, shuffled {found.shuffled:.3f}", fontsize=9)
    figure.colorbar(image, ax=list(pair), shrink=0.75, pad=0.02, extend="both").ax.tick_params(labelsize=8)
    return figure


def _heat(axes: Axes, matrix: np.ndarray, title: str, limit: float = 1.0) -> Any:
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=9, color=_GREY)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return image


def _histogram(axes: Axes, probability: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """A density from quantiles: steps of equal width in the middle, the order statistics in the tails."""
    edges = np.linspace(observed[0], observed[-1], 61)
    cumulative = np.interp(edges, observed, probability)
    heights = np.diff(cumulative) / np.diff(edges)
    axes.stairs(heights, edges, fill=True, color="#d5d5d5", zorder=0)
    return heights[heights > 0]


def _kernel_title(name: str, lengthscale: float) -> str:
    return f"{name}, ℓ {lengthscale:.2f}" if math.isfinite(lengthscale) else name
