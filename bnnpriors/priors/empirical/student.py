"""Scale and degrees of freedom of Student's t about 0, in one dimension or in many, by maximum likelihood.

The data enter by the squares z² of weights, or of filters wᵀR⁻¹w, whose P taps share one χ²:
log p = log c_P(ν) − P log s − (ν+P)/2 · log(1 + z²/(ν s²)), less ½ log det R for filters. Everything is a function of q = 1/ν,
with q = 0 the Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from .search import minimum, newton

Squares = Float64[np.ndarray, " units"]

MAX_DF = 1000.0
"""Degrees of freedom above this are called Gaussian: the density differs from the normal one by less than 0.1 % up to 1 s.d."""
MIN_DF = 0.05


def fit_student(squares: Squares, taps: int = 1) -> tuple[float, float, float]:
    """ŝ, ν̂ and the largest log likelihood, with ν̂ ≤ `MAX_DF`."""
    unit = float(squares.mean()) / taps
    scaled = squares / unit
    inverse, _ = best_inverse_df(scaled, taps)
    inverse = max(inverse, 1 / MAX_DF)
    scale = math.sqrt(unit) * student_scale(scaled, inverse, taps)
    top = student_profile(scaled, inverse, taps) - 0.5 * taps * squares.size * math.log(unit)
    return scale, 1 / inverse, top


def student_constant(df: float, taps: int = 1) -> float:
    """log c_P(ν) = log Γ((ν+P)/2) − log Γ(ν/2) − ½ P log(πν)."""
    if df > 1e4:  # the difference of the two log gammas loses its digits
        return -0.5 * taps * math.log(2 * math.pi) + 0.25 * taps * (taps - 2) / df
    return math.lgamma(0.5 * (df + taps)) - math.lgamma(0.5 * df) - 0.5 * taps * math.log(math.pi * df)


def student_scale(squares: Squares, inverse_df: float, taps: int = 1) -> float:
    """The scale that maximises the likelihood at ν = 1/q: the root of Σ (1+Pq) z²/(1+q z²) = nP, z in units of s.

    `squares` are in units in which their mean is P.
    """
    factor = 1 + taps * inverse_df

    def step(log_s: float) -> float:
        z2 = squares * math.exp(-2 * log_s)
        share = z2 / (1 + inverse_df * z2)
        slope = 2 * factor * float((share / (1 + inverse_df * z2)).mean())
        return (factor * float(share.mean()) - taps) / max(slope, 1e-12)

    return newton(step, -0.5 * math.log1p(inverse_df))


def student_profile(squares: Squares, inverse_df: float, taps: int = 1) -> float:
    """ℓ(q): the log likelihood at ν = 1/q, maximised over the scale; q = 0 is the Gaussian."""
    scale = student_scale(squares, inverse_df, taps)
    z2 = squares / (scale * scale)
    kernel = np.log1p(inverse_df * z2).sum() / inverse_df if inverse_df > 0 else z2.sum()
    constant = (
        student_constant(1 / inverse_df, taps) if inverse_df > 0 else -0.5 * taps * math.log(2 * math.pi)
    )
    return float(squares.size * (constant - taps * math.log(scale)) - 0.5 * (1 + taps * inverse_df) * kernel)


def best_inverse_df(squares: Squares, taps: int = 1) -> tuple[float, float]:
    """q̂ and ℓ(q̂)."""
    log_q = minimum(
        lambda value: -student_profile(squares, math.exp(value), taps),
        math.log(1 / MAX_DF),
        math.log(1 / MIN_DF),
    )
    found, gaussian = student_profile(squares, math.exp(log_q), taps), student_profile(squares, 0.0, taps)
    return (0.0, gaussian) if gaussian >= found else (math.exp(log_q), found)
