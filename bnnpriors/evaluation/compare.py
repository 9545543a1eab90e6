"""`compare`: how near two predictive distributions are, such as a sampler's and that of a long HMC run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .predictive import Predictive
from .sampled import SamplePredictive

if TYPE_CHECKING:
    from ..draws import Draws

WIDTH, BINS = 8.0, 256
"""A density of regression is compared on `BINS` bins over ± `WIDTH` standard deviations of both together."""


@dataclass(frozen=True)
class Comparison:
    """How near two predictive distributions are at some inputs.

    Attributes:
        agreement: share of the inputs at which both have the same most probable class; None for regression.
        total_variation: between the predictive distributions of y, averaged over the inputs (and outputs), from 0 to 1.
        within: for each of the two, the mean total variation between one of its chains and its other chains together; None for a
            single chain, or a predictive that is not made of draws. Two runs are as near as they can be told apart where
            `total_variation` is below these.
        num_points: inputs compared.
    """

    agreement: float | None
    total_variation: float
    within: tuple[float | None, float | None]
    num_points: int

    def __str__(self) -> str:
        own = " and ".join("unknown" if value is None else f"{value:.3f}" for value in self.within)
        agreement = "" if self.agreement is None else f"agreement {self.agreement:.1%}, "
        return (
            f"{agreement}total variation {self.total_variation:.3f} at {self.num_points} inputs (between a chain and the others "
            f"of its own run: {own})"
        )


@torch.no_grad()
def compare(a: Draws | Predictive, b: Draws | Predictive, x: Any = None) -> Comparison:
    """Agreement and total variation of two predictive distributions (Izmailov et al. 2021, 2104.14421).

    agreement = (1/n) Σ_i 1[argmax_c p(c|x_i) = argmax_c q(c|x_i)], total variation = (1/n) Σ_i ½ Σ_c |p(c|x_i) − q(c|x_i)|; for
    regression ½ ∫ |p(y|x_i) − q(y|x_i)| dy, on bins (a lower bound, within 10⁻³ of it for Gaussian noise).

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
    return Comparison(*distances(one, other), (_between_chains(one), _between_chains(other)), one.num_points)


def distances(one: Predictive, other: Predictive) -> tuple[float | None, float]:
    """Agreement, None for regression, and total variation."""
    agreement = None
    if one.kind == "classification":
        agreement = float((one.probs.argmax(1) == other.probs.argmax(1)).double().mean())
    return agreement, _total_variation(one, other)


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


def _total_variation(one: Predictive, other: Predictive) -> float:
    if one.kind == "classification":
        return float(0.5 * (one.probs - other.probs).abs().double().sum(1).mean())
    edges = _edges(one, other)
    total, before = torch.zeros_like(edges[0]), torch.zeros_like(edges[0])
    for edge in edges:
        difference = one.cdf(edge) - other.cdf(edge)
        total = total + (difference - before).abs()
        before = difference
    return float(0.5 * (total + before.abs()).double().mean())


def _edges(one: Predictive, other: Predictive) -> Float[Tensor, "edges batch out"]:
    """± `WIDTH` standard deviations of the equal mixture of both about its mean."""
    centre = 0.5 * (one.mean + other.mean)
    spread = (0.5 * (one.variance + other.variance) + 0.25 * (one.mean - other.mean) ** 2).sqrt()
    steps = torch.linspace(-WIDTH, WIDTH, BINS + 1, dtype=centre.dtype, device=centre.device)
    return centre + steps[:, None, None] * spread


def _between_chains(given: Predictive) -> float | None:
    if not isinstance(given, SamplePredictive) or given.num_chains < 2:
        return None
    chains = torch.arange(given.num_draws, device=given.outputs.device) // (
        given.num_draws // given.num_chains
    )
    distances = [
        _total_variation(given.take(chains == chain), given.take(chains != chain))
        for chain in range(given.num_chains)
    ]
    return math.fsum(distances) / len(distances)
