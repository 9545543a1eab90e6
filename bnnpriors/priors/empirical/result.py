"""What `fit` returns: tables, words, records, pictures and the dictionary for `attach`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import Prior
from .families import FAMILIES, Interval
from .layer import LayerFit
from .multivariate_t import STUDENT_KERNELS
from .recommend import CORRELATED, tails
from .spatial import KERNELS

NONE = "–"


@dataclass(frozen=True)
class FittedPriors:
    """Priors fitted to trained weights, with their evidence. Made by `fit`.

    `str` gives the tables and the recommendation in words.

    Attributes:
        layers: parameter name -> `LayerFit`.
        level: of the intervals.
    """

    layers: dict[str, LayerFit]
    level: float

    @property
    def priors(self) -> dict[str, Prior]:
        """{parameter name: prior}, ready for `bp.attach`. A parameter that is constant has none."""
        return {name: layer.prior for name, layer in self.layers.items() if layer.prior is not None}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat record a layer, for a CSV file or a data frame."""
        return [_row(layer) for layer in self.layers.values()]

    def table(self) -> str:
        """Marginals, log likelihoods on held-out weights, and structure, as aligned text."""
        layers = list(self.layers.values())
        parts = [_marginals(layers, self.level), _likelihoods(layers)]
        parts += [_taps(layers, self.level), _heavy_filters(layers), _matrices(layers)]
        return "\n\n".join(part for part in parts if part)

    def plot(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write a picture of the marginals of each layer, and one of its correlations; returns the files."""
        from ...evaluation.weight_plots import correlations, marginals

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = []
        for layer in self.layers.values():
            for kind, draw in (("marginals", marginals), ("correlations", correlations)):
                if (figure := draw(layer)) is not None:
                    files.append(target / f"{layer.name.replace('/', '-')}-{kind}.png")
                    figure.savefig(files[-1])
        return files

    def __str__(self) -> str:
        words = [f"{layer.name}: {layer.prior!r}\n    {layer.evidence}" for layer in self.layers.values()]
        return self.table() + "\n\nRecommended\n" + "\n".join(words)


def _marginals(layers: Sequence[LayerFit], level: float) -> str:
    head = [
        "layer",
        "shape",
        "nets",
        "mean",
        "s.d.",
        "gain",
        "ex. kurtosis",
        f"df [{level:.0%}]",
        "Hill index",
        "tails",
    ]
    return "Marginals\n" + aligned(
        head,
        [
            [
                layer.name,
                "×".join(map(str, layer.shape)),
                str(layer.networks),
                f"{layer.mean:.2g}",
                f"{layer.standard_deviation:.3g}",
                _number(layer.gain),
                _number(layer.excess_kurtosis),
                _interval(layer.df),
                _interval(layer.hill),
                NONE if layer.df is None else tails(layer.df).split(" (")[0],
            ]
            for layer in layers
        ],
    )


def _likelihoods(layers: Sequence[LayerFit]) -> str:
    shown = [layer for layer in layers if layer.candidates]
    if not shown:
        return ""
    names = [name for name in (*FAMILIES, *CORRELATED) if any(name in layer.candidates for layer in shown)]
    lines = []
    for layer in shown:
        normal = layer.candidates["Normal"]
        figures = [f"{normal.log_likelihood:.4f}"]
        for name in names[1:]:
            other = layer.candidates.get(name)
            figures.append(
                NONE
                if other is None
                else f"{other.above(normal)[0]:+.4f}{'*' if name == layer.recommended else ''}"
            )
        lines.append([layer.name, *figures])
    heads = ["layer", "Normal", *(f"{'corr. ' if name in CORRELATED else ''}{name}" for name in names[1:])]
    title = "Nats per held-out weight: Normal, and the others above it (* recommended)\n"
    return title + aligned(heads, lines)


def _taps(layers: Sequence[LayerFit], level: float) -> str:
    shown = [layer for layer in layers if layer.spatial is not None]
    if not shown:
        return ""
    lines = []
    for layer in shown:
        assert layer.spatial is not None
        kernels = [
            f"{_interval(fitted.lengthscale)}, {fitted.scale:.3g}"
            for fitted in layer.spatial.kernels.values()
        ]
        verdict = "correlated" if layer.spatial.correlated else "not shown"
        lines.append(
            [
                layer.name,
                f"{layer.spatial.neighbours:.3f}",
                f"{layer.spatial.statistic:.1f}",
                f"{layer.spatial.false_alarm:.0e}",
                verdict,
                *kernels,
            ]
        )
    heads = ["layer", "r of neighbours", "z", "false alarm", "taps", *(f"{name}: ℓ, s" for name in KERNELS)]
    return f"Convolution filters (lengthscale in taps [{level:.0%}], scale)\n" + aligned(heads, lines)


def _heavy_filters(layers: Sequence[LayerFit]) -> str:
    lines = []
    for layer in layers:
        if layer.spatial is not None:
            fits = [layer.candidates[name].parameters for name in STUDENT_KERNELS]
            lines.append(
                [
                    layer.name,
                    *(f"{fit['df']:.3g}, {fit['lengthscale']:.3g}, {fit['scale']:.3g}" for fit in fits),
                ]
            )
    heads = ["layer", *(f"{kernel}: df, ℓ, s" for kernel in STUDENT_KERNELS.values())]
    return "Convolution filters, multivariate t\n" + aligned(heads, lines) if lines else ""


def _matrices(layers: Sequence[LayerFit]) -> str:
    lines = []
    for layer in layers:
        for side, found in (("rows", layer.rows), ("columns", layer.columns)):
            if found is not None:
                figures = [f"{value:.4f}" for value in (found.rms, found.shuffled, found.random_signs)]
                verdict = "correlated" if found.correlated else "not shown"
                lines.append([layer.name, side, *figures, f"{found.statistic:.1f}", verdict])
    heads = ["layer", "between", "rms correlation", "shuffled", "random signs", "z", "verdict"]
    return "Linear layers\n" + aligned(heads, lines) if lines else ""


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in columns, the first one flush left, the others flush right."""
    table = [list(head), *map(list, lines)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _row(layer: LayerFit) -> dict[str, Any]:
    row: dict[str, Any] = {
        "layer": layer.name,
        "shape": "x".join(map(str, layer.shape)),
        "networks": layer.networks,
        "mean": layer.mean,
        "standard_deviation": layer.standard_deviation,
        "gain": layer.gain,
        "excess_kurtosis": layer.excess_kurtosis,
        **_ends("df", layer.df),
        **_ends("hill", layer.hill),
    }
    for name, candidate in layer.candidates.items():
        row[f"nats_{name}"] = candidate.log_likelihood
        row |= {f"{name}_{key}": value for key, value in candidate.parameters.items() if key != "loc"}
    if (spatial := layer.spatial) is not None:
        row |= {
            "neighbours": spatial.neighbours,
            "spatial_z": spatial.statistic,
            "spatial_false_alarm": spatial.false_alarm,
        }
        for name, fitted in spatial.kernels.items():
            row |= _ends(f"{name}_lengthscale", fitted.lengthscale)
    for side, found in (("rows", layer.rows), ("columns", layer.columns)):
        if found is not None:
            row |= {
                f"{side}_correlation": found.rms,
                f"{side}_shuffled": found.shuffled,
                f"{side}_random_signs": found.random_signs,
                f"{side}_z": found.statistic,
            }
    return row | {"recommended": layer.recommended, "prior": repr(layer.prior), "evidence": layer.evidence}


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _interval(interval: Interval | None) -> str:
    return (
        NONE
        if interval is None
        else f"{_number(interval.value)} [{_number(interval.low)}, {_number(interval.high)}]"
    )


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    return "∞" if math.isinf(value) else f"{value:.3g}"
