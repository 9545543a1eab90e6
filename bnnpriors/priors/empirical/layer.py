"""One layer: its moments, tails and structure, each family on held-out weights, and the prior that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from ..base import Prior
from .families import FAMILIES, Interval, Parameters, degrees_of_freedom, fit_family, hill_index, log_density
from .matrix import Correlations, describe_matrix
from .multivariate_t import STUDENT_KERNELS, fit_student_kernel, student_filter_log_density
from .recommend import CORRELATED, Candidate, recommend
from .spatial import KERNELS, Spatial, describe_taps, filter_log_density, fit_kernel

MIN_WEIGHTS = 50
"""Fewer weights than this cannot tell families apart: they get a Normal prior."""
MIN_FILTERS = 20
"""Fewer filters than this say nothing about a covariance."""
FOLDS = 5


class Options(NamedTuple):
    """The settings of `fit`; see there."""

    scale: str
    location: bool
    level: float
    max_weights: int


@dataclass(frozen=True)
class LayerFit:
    """What the trained weights of one parameter look like.

    Attributes:
        name, shape: of the parameter. networks: how many were pooled.
        mean, standard_deviation, excess_kurtosis: of all its weights.
        gain: standard_deviation · √fan_in, to compare with `fan_in(gain)`; None for one-dimensional parameters.
        df: degrees of freedom of Student's t with their interval; None for too few weights.
        hill: Hill's tail index with its interval, or None.
        candidates: name -> `Candidate`: parameters and the log likelihood per held-out weight.
        spatial: the taps of a convolution, or None. rows, columns: correlations of a linear layer, or None.
        recommended: the name of the candidate chosen. prior: the prior itself, or None for a constant parameter.
        evidence: why, in words.
        quantiles: probabilities and the weights' quantiles there, [2, points], for pictures.
    """

    name: str
    shape: tuple[int, ...]
    networks: int
    mean: float
    standard_deviation: float
    excess_kurtosis: float
    gain: float | None
    df: Interval | None
    hill: Interval | None
    candidates: dict[str, Candidate]
    spatial: Spatial | None
    rows: Correlations | None
    columns: Correlations | None
    recommended: str
    prior: Prior | None
    evidence: str
    quantiles: Float64[np.ndarray, "2 points"]

    @property
    def normal(self) -> Parameters:
        """Parameters of a Normal prior with the same root mean square (about the location, where there is one)."""
        if self.candidates:
            return self.candidates["Normal"].parameters
        return {"loc": 0.0, "scale": math.hypot(self.mean, self.standard_deviation)}

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Taps of a convolution along each axis; empty for other layers."""
        return self.shape[2:] if math.prod(self.shape[2:]) > 1 else ()


def fit_layer(
    name: str, tensors: list[Float64[np.ndarray, "*shape"]], options: Options, generator: np.random.Generator
) -> LayerFit:
    """Everything about one parameter, `tensors` being its value in each network."""
    shape = tensors[0].shape
    kernel_size = shape[2:] if math.prod(shape[2:]) > 1 else ()
    taps = math.prod(kernel_size)
    pooled = np.concatenate([tensor.ravel() for tensor in tensors])
    mean, deviation = float(pooled.mean()), float(pooled.std())
    units = np.concatenate([tensor.reshape(-1, taps) for tensor in tensors])
    owner = np.repeat(np.arange(len(tensors)), len(units) // len(tensors))
    if len(units) > (most := max(options.max_weights // taps, 1)):
        kept = np.sort(generator.choice(len(units), most, replace=False))
        units, owner = units[kept], owner[kept]

    df = hill = spatial = rows = columns = None
    candidates: dict[str, Candidate] = {}
    constant = deviation <= 1e-12 * abs(mean)
    if not constant and pooled.size >= MIN_WEIGHTS:
        fold = _folds(owner, len(tensors), generator)
        kernels = kernel_size if kernel_size and len(units) >= MIN_FILTERS else ()
        weights = units.ravel()
        centred = weights - np.median(weights) if options.location else weights
        df, hill = (
            degrees_of_freedom(centred, level=options.level),
            hill_index(centred, level=options.level),
        )
        spatial = describe_taps(_about(units, options), kernels, level=options.level) if kernels else None
        candidates = compare(units, fold, kernels, location=options.location)
        if len(shape) >= 2 and not kernel_size:
            found = describe_matrix([tensor.reshape(shape[:2]) for tensor in tensors], generator)
            rows, columns = found or (None, None)
    choice = recommend(pooled, shape, candidates, spatial, df, options.scale, constant)
    return LayerFit(
        name=name,
        shape=shape,
        networks=len(tensors),
        mean=mean,
        standard_deviation=deviation,
        excess_kurtosis=math.nan if constant else float((((pooled - mean) / deviation) ** 4).mean() - 3),
        gain=deviation * math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else None,
        df=df,
        hill=hill,
        candidates=candidates,
        spatial=spatial,
        rows=rows,
        columns=columns,
        recommended=choice.name,
        prior=choice.prior,
        evidence=choice.evidence,
        quantiles=_quantiles(pooled),
    )


def compare(
    units: Float64[np.ndarray, "units taps"],
    fold: Int[np.ndarray, " units"],
    kernel_size: tuple[int, ...],
    *,
    location: bool,
) -> dict[str, Candidate]:
    """Every family, and for a convolution every kernel, fitted to all weights and judged on each fold when fitted to the others.

    A unit is a filter of a convolution, otherwise one weight; the density of a filter is the product over its weights, or for a
    kernel (`CorrelatedNormal`, `CorrelatedStudentT`) the joint one.
    """
    names = [*FAMILIES, *(CORRELATED if kernel_size else ())]
    found = {}
    for name in names:
        density, folds, ceiling = np.empty(len(units)), [], []
        for part in np.unique(fold):
            test = fold == part
            _, density[test] = _fit(name, units[~test], units[test], kernel_size, location)
            folds.append(density[test].sum())
            ceiling.append(_fit(name, units[test], units[test], kernel_size, location)[1].sum())
        parameters, _ = _fit(name, units, units[:1], kernel_size, location)
        found[name] = Candidate(
            name, parameters, density / units.shape[1], np.array(folds), np.array(ceiling)
        )
    return found


def _fit(
    name: str, train: np.ndarray, test: np.ndarray, kernel_size: tuple[int, ...], location: bool
) -> tuple[Parameters, np.ndarray]:
    """Parameters from `train`, and the log density of each unit of `test` under them."""
    if name in FAMILIES:
        parameters = fit_family(name, train.ravel(), location=location)
        return parameters, log_density(name, test, parameters).sum(1)
    if name in KERNELS:
        centre = float(train.mean()) if location else 0.0
        fitted = fit_kernel(name, train - centre, kernel_size, interval=False)
        parameters = {"scale": fitted.scale, "lengthscale": fitted.lengthscale.value}
        return parameters, filter_log_density(name, fitted, test - centre, kernel_size)
    kernel, centre = STUDENT_KERNELS[name], float(np.median(train)) if location else 0.0
    heavy = fit_student_kernel(kernel, train - centre, kernel_size)
    return heavy._asdict(), student_filter_log_density(kernel, heavy, test - centre, kernel_size)


def _folds(owner: np.ndarray, networks: int, generator: np.random.Generator) -> np.ndarray:
    """Whole networks are left out where there are several; otherwise a random fifth of the weights or filters each time."""
    if networks > 1:
        group = generator.permutation(np.arange(networks) % min(networks, FOLDS))
        return group[owner]
    return generator.permutation(np.arange(len(owner)) % FOLDS)


def _about(units: np.ndarray, options: Options) -> np.ndarray:
    return units - units.mean() if options.location else units


def _quantiles(pooled: np.ndarray, points: int = 2000) -> np.ndarray:
    """Evenly spaced order statistics, and every one of the 100 most extreme on either side."""
    order = np.sort(pooled)
    count = len(order)
    ends = min(100, count)
    places = np.unique(
        np.concatenate(
            [np.arange(ends), np.linspace(0, count - 1, points).astype(int), np.arange(count - ends, count)]
        )
    )
    return np.stack([(places + 0.5) / count, order[places]])
