"""Maximum likelihood for the families of a single weight, and the interval of Student's degrees of freedom.

Every family is symmetric: p(w) = p₀((w − loc)/scale)/scale. The location is 0, or estimated by the mean (Normal) or the median
(the others); scale and shape maximise the likelihood given it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import optimize, special, stats

from .search import minimum, newton
from .student import (
    MAX_DF,
    MIN_DF,
    best_inverse_df,
    fit_student,
    student_constant,
    student_profile,
    student_scale,
)

Weights = Float64[np.ndarray, " weights"]
Parameters = dict[str, float]

BETA_LIMITS = (0.2, 20.0)


class Family(NamedTuple):
    """estimate: centred weights -> scale and shape; standard: (z, shape parameter) -> log p₀(z); reference: in SciPy; shape: the
    name of the shape parameter."""

    estimate: Callable[[Any], Parameters]
    standard: Callable[..., Any]
    reference: Callable[..., Any]
    shape: str | None = None


def fit_family(name: str, w: Weights, *, location: bool = False) -> Parameters:
    """Maximum-likelihood parameters, under the names that the prior of this family takes."""
    loc = 0.0
    if location:
        loc = float(w.mean() if name == "Normal" else np.median(w))
    return {"loc": loc, **FAMILIES[name].estimate(w - loc)}


def log_density(
    name: str, w: Float64[np.ndarray, "*shape"], parameters: Parameters
) -> Float64[np.ndarray, "*shape"]:
    """log p(w), elementwise."""
    shape = {key: value for key, value in parameters.items() if key not in ("loc", "scale")}
    z = (w - parameters["loc"]) / parameters["scale"]
    return FAMILIES[name].standard(z, **shape) - math.log(parameters["scale"])


def frozen(name: str, parameters: Parameters) -> Any:
    """The same distribution in SciPy, for quantiles."""
    return FAMILIES[name].reference(**parameters)


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


def degrees_of_freedom(w: Weights, *, level: float = 0.95) -> Interval:
    """ν by maximum likelihood with its profile-likelihood interval, for Student's t about 0 with a free scale.

    With q = 1/ν and the profile ℓ(q) = max_s Σ log p(w; 1/q, s), the interval is {q : 2(ℓ(q̂) − ℓ(q)) ≤ χ²₁(level)} (Wilks 1938).
    q = 0 is the Gaussian: where it lies inside the interval, `high` is infinite. `level` is exact for independent weights only.
    """
    squares = (w / _rms(w)) ** 2
    best, top = best_inverse_df(squares)
    limit = 0.5 * stats.chi2.ppf(level, 1)

    def excess(log_q: float) -> float:
        return top - student_profile(squares, math.exp(log_q)) - limit

    first, middle, last = math.log(1 / MAX_DF), math.log(max(best, 1 / MAX_DF)), math.log(1 / MIN_DF)
    high = math.inf
    if top - student_profile(squares, 0.0) > limit and excess(first) > 0:
        high = math.exp(-optimize.brentq(excess, first, middle, xtol=1e-4))
    low = MIN_DF
    if excess(middle) > 0:  # so far from heavy tails that even MAX_DF lies outside
        low = MAX_DF
    elif excess(last) > 0:
        low = math.exp(-optimize.brentq(excess, middle, last, xtol=1e-4))
    return Interval(1 / best if best > 1 / MAX_DF else math.inf, low, high)


def hill_index(w: Weights, *, level: float = 0.95) -> Interval | None:
    """Hill's estimate of α in P(|w| > x) ~ x^{−α}, from the k = ⌈√n⌉ largest weights; None below 400 weights.

    1/α̂ = (1/k) Σ_{i≤k} log(|w|_(i)/|w|_(k+1)), |w|_(1) the largest (Hill 1975); its standard error is α̂/√k. It means
    something only for a power-law tail: for a Gaussian it grows with n.
    """
    if w.size < 400:
        return None
    k = math.ceil(math.sqrt(w.size))
    largest = np.sort(np.abs(w))[-(k + 1) :]
    if not largest[0] > 0 or largest[0] == largest[-1]:
        return None
    alpha = float(1 / np.log(largest[1:] / largest[0]).mean())
    margin = alpha * float(stats.norm.ppf(0.5 + level / 2)) / math.sqrt(k)
    return Interval(alpha, alpha - margin, alpha + margin)


def _rms(w: Weights) -> float:
    return math.sqrt(float(w @ w) / w.size)


def _normal(w: Weights) -> Parameters:
    return {"scale": _rms(w)}


def _laplace(w: Weights) -> Parameters:
    return {"scale": float(np.abs(w).mean())}


def _student(w: Weights) -> Parameters:
    scale, df, _ = fit_student(w * w)
    return {"scale": scale, "df": df}


def _cauchy(w: Weights) -> Parameters:
    unit = _rms(w)
    return {"scale": unit * student_scale((w / unit) ** 2, 1.0)}


def _generalized_normal(w: Weights) -> Parameters:
    """s^β = β · mean |w|^β for a given β, so that one search over log β is left."""
    unit = _rms(w)
    sizes = np.abs(w) / unit

    def scale(beta: float) -> float:
        return (beta * float((sizes**beta).mean())) ** (1 / beta)

    def loss(log_beta: float) -> float:
        beta = math.exp(log_beta)
        return math.log(scale(beta)) + 1 / beta + math.lgamma(1 / beta) - log_beta

    beta = math.exp(minimum(loss, *map(math.log, BETA_LIMITS)))
    return {"scale": unit * scale(beta), "beta": beta}


def _logistic(w: Weights) -> Parameters:
    """The root of Σ z tanh(z/2) = n, z = w/s: Newton's method in log s."""
    unit = _rms(w)
    sizes = np.abs(w) / unit

    def step(log_s: float) -> float:
        z = sizes * math.exp(-log_s)
        tanh = np.tanh(z / 2)
        slope = z * (tanh + 0.5 * z * (1 - tanh * tanh))
        return float((z * tanh).mean() - 1) / float(slope.mean())

    return {"scale": unit * newton(step, math.log(math.sqrt(3) / math.pi))}


def _student_standard(z: Any, df: float) -> Any:
    return student_constant(df) - 0.5 * (df + 1) * np.log1p(z * z / df)


def _generalized_standard(z: Any, beta: float) -> Any:
    return math.log(beta / 2) - special.gammaln(1 / beta) - np.abs(z) ** beta


def _logistic_standard(z: Any) -> Any:
    return -np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z)))


FAMILIES: dict[str, Family] = {
    "Normal": Family(_normal, lambda z: -0.5 * z * z - 0.5 * math.log(2 * math.pi), stats.norm),
    "Laplace": Family(_laplace, lambda z: -np.abs(z) - math.log(2), stats.laplace),
    "Logistic": Family(_logistic, _logistic_standard, stats.logistic),
    "Cauchy": Family(_cauchy, partial(_student_standard, df=1.0), stats.cauchy),
    "StudentT": Family(_student, _student_standard, stats.t, "df"),
    "GeneralizedNormal": Family(_generalized_normal, _generalized_standard, stats.gennorm, "beta"),
}
