"""`compare`: how near two predictive distributions are, such as a sampler's and that of a long HMC run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .predictive import Predictive
from .sampled import SamplePredictive

if TYPE_CHECKING:
    from ..draws import Draws

WIDTH, BINS = 8.0, 256
"""A density of regression is compared on `BINS` bins over ± `WIDTH` standard deviations of both together."""
MAX_NUMBERS = 2**22
"""Probabilities of one predictive that are held at once."""


@dataclass(frozen=True)
class Comparison:
    """How near two predictive distributions are at some inputs.

    Attributes:
        agreement: share of the inputs at which both have the same most probable class; None for regression.
        total_variation: between the predictive distributions of y, averaged over the inputs (and outputs), from 0 to 1.
        within: for each of the two, the mean total variation between one of its chains and its other chains together; None for a
            single chain, or a predictive that is not made of draws.
        num_points: inputs compared.
        chance: the `total_variation` that two runs of these lengths have on average where both draw from the same law, from the
            differences between the chains of each. None for draws of a single chain, whose Monte Carlo error is not known.
    """

    agreement: float | None
    total_variation: float
    within: tuple[float | None, float | None]
    num_points: int
    chance: float | None

    def __str__(self) -> str:
        own = " and ".join("unknown" if value is None else f"{value:.3f}" for value in self.within)
        agreement = "" if self.agreement is None else f"agreement {self.agreement:.1%}, "
        chance = "unknown" if self.chance is None else f"{self.chance:.3f}"
        return (
            f"{agreement}total variation {self.total_variation:.3f} at {self.num_points} inputs "
            f"(of two runs of one law: {chance}; between a chain and the others of its own run: {own})"
        )


@torch.no_grad()
def compare(a: Draws | Predictive, b: Draws | Predictive, x: Any = None) -> Comparison:
    """Agreement and total variation of two predictive distributions (Izmailov et al. 2021, 2104.14421).

    agreement = (1/n) Σ_i 1[argmax_c p(c|x_i) = argmax_c q(c|x_i)], total variation = (1/n) Σ_i ½ Σ_c |p(c|x_i) − q(c|x_i)|; for
    regression ½ ∫ |p(y|x_i) − q(y|x_i)| dy, on bins (a lower bound, within 10⁻³ of it for Gaussian noise).

    Of the same law two runs differ by Monte Carlo error: with p̂_k the probability of a class or a bin under chain k of K and s²
    the variance of p̂_k over chains, by √(2/π) √(s_p²/K_p + s_q²/K_q) on average for normal errors. The sum of that is `chance`.

    Args:
        a, b: draws of one temperature each, or predictive distributions at the same inputs.
        x: inputs [batch, ...] at which draws predict; needed for them and only for them.

    Raises:
        TypeError: neither draws nor a predictive. ValueError: draws without inputs, or predictions of different kinds or shapes.
    """
    one, other = (_predictive(given, x) for given in (a, b))
    if one.kind != other.kind or one.num_points != other.num_points:
        raise ValueError(
            f"compare: {one.kind} at {one.num_points} inputs and {other.kind} at {other.num_points} given, expected predictions "
            "of one kind at the same inputs"
        )
    if not one.num_points:
        raise ValueError("compare: no inputs given, expected at least one")
    if one.kind == "classification" and one.probs.shape != other.probs.shape:
        raise ValueError(
            f"compare: {one.probs.shape[1]} and {other.probs.shape[1]} classes given, expected the same"
        )
    agreement, found = _agreement(one, other), _distances(one, other)
    return Comparison(agreement, found.total_variation, found.within, one.num_points, found.chance)


def distances(one: Predictive, other: Predictive) -> tuple[float | None, float]:
    """Agreement, None for regression, and total variation."""
    return _agreement(one, other), _distances(one, other).total_variation


def _predictive(given: Draws | Predictive, x: Any) -> Predictive:
    from ..draws import Draws

    if isinstance(given, Draws):
        if x is None:
            raise ValueError(
                "compare: draws given without inputs; pass x, the inputs at which to compare them"
            )
        return given.predict(x)
    if not isinstance(given, Predictive):
        raise TypeError(
            f"compare: {type(given).__name__} given, expected draws of bp.sample or a predictive distribution"
        )
    return given


class _Distances(NamedTuple):
    """As in `Comparison`."""

    total_variation: float
    within: tuple[float | None, float | None]
    chance: float | None


def _agreement(one: Predictive, other: Predictive) -> float | None:
    if one.kind != "classification":
        return None
    return float((one.probs.argmax(1) == other.probs.argmax(1)).double().mean())


def _distances(one: Predictive, other: Predictive) -> _Distances:
    edges = _edges(one, other) if one.kind == "regression" else None
    between, within, chance = 0.0, [0.0, 0.0], 0.0
    size = max(1, MAX_NUMBERS // max(_numbers_a_point(one, edges), _numbers_a_point(other, edges)))
    for start in range(0, one.num_points, size):
        points = slice(start, min(start + size, one.num_points))
        cells = [_cells(given, points, edges) for given in (one, other)]
        share = (points.stop - start) / one.num_points
        means = [chains.mean(0) for chains in cells]
        between += share * _half_sum(means[0] - means[1])
        for index, chains in enumerate(cells):
            others = len(chains) / max(len(chains) - 1, 1)
            within[index] += share * _half_sum(others * (chains - means[index]))
        first, second = (chains.var(0, correction=0) / max(len(chains) - 1, 1) for chains in cells)
        chance += share * _half_sum((2 / math.pi * (first + second)).sqrt())
    runs = [given.num_chains if isinstance(given, SamplePredictive) else None for given in (one, other)]
    known = [
        value if number is not None and number > 1 else None
        for value, number in zip(within, runs, strict=True)
    ]
    return _Distances(between, (known[0], known[1]), None if 1 in runs else chance)


def _half_sum(differences: Float[Tensor, "*chains cells points out"]) -> float:
    """½ Σ over cells of the absolute values, averaged over all else."""
    return float(0.5 * differences.abs().double().sum(-3).mean())


def _numbers_a_point(given: Predictive, edges: Tensor | None) -> int:
    if edges is not None:
        return (given.num_chains if isinstance(given, SamplePredictive) else 1) * (BINS + 2) * edges.shape[2]
    return (given.num_draws if isinstance(given, SamplePredictive) else 1) * given.probs.shape[1]


def _cells(
    given: Predictive, points: slice, edges: Float[Tensor, "edges batch out"] | None
) -> Float[Tensor, "chains cells points out"]:
    """Probabilities of the classes, or of the bins of each output, under the draws of each chain or in all."""
    if edges is None:
        by_chain = (
            given.predictions_by_chain(points).mean(1)
            if isinstance(given, SamplePredictive)
            else given.probs[None, points]
        )
        return by_chain.transpose(1, 2)[..., None]
    if isinstance(given, SamplePredictive):
        below = given.cdf_by_chain(edges[:, points], points)
    else:
        below = torch.stack([given.cdf(edge)[points] for edge in edges])[None]
    nothing = torch.zeros_like(below[:, :1])
    return torch.cat([nothing, below, nothing + 1], dim=1).diff(dim=1)


def _edges(one: Predictive, other: Predictive) -> Float[Tensor, "edges batch out"]:
    """± `WIDTH` standard deviations of the equal mixture of both about its mean."""
    centre = 0.5 * (one.mean + other.mean)
    spread = (0.5 * (one.variance + other.variance) + 0.25 * (one.mean - other.mean) ** 2).sqrt()
    steps = torch.linspace(-WIDTH, WIDTH, BINS + 1, dtype=centre.dtype, device=centre.device)
    return centre + steps[:, None, None] * spread
