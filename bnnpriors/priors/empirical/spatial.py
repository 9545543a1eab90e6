"""The covariance of a convolution's taps: how large it is, whether it is there at all, and the kernel that fits it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import linalg, optimize, stats

from .families import Interval
from .search import minimum

KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "matern12": lambda r: np.exp(-r),
    "matern32": lambda r: (1 + math.sqrt(3) * r) * np.exp(-math.sqrt(3) * r),
    "matern52": lambda r: (1 + math.sqrt(5) * r + 5 / 3 * r * r) * np.exp(-math.sqrt(5) * r),
    "rbf": lambda r: np.exp(-0.5 * r * r),
}
"""κ(r) of R_{pp'} = κ(‖p − p'‖₂/ℓ)."""

LENGTHSCALES = (0.05, 20.0)
"""The range of ℓ, in taps: at its lower end taps are independent (κ ≤ 2e-9 one tap away)."""

ALARM = 1e-6
"""False-alarm rate at which taps are called correlated."""


@dataclass(frozen=True)
class KernelFit:
    """One kernel on one layer.

    Attributes: scale (s, in units of the weights); lengthscale (ℓ in taps, with its profile interval; `low` is 0 where
    independent taps lie inside it, `high` infinite where the range of ℓ ends first).
    """

    scale: float
    lengthscale: Interval


@dataclass(frozen=True)
class Spatial:
    """The taps of one layer.

    Attributes: covariance, correlation: [taps, taps]; neighbours: correlation of adjacent taps, pooled; statistic: z of
    `neighbour_test`; false_alarm: the bound on its p-value; kernels: name -> `KernelFit`.
    """

    covariance: Float64[np.ndarray, "taps taps"]
    correlation: Float64[np.ndarray, "taps taps"]
    neighbours: float
    statistic: float
    false_alarm: float
    kernels: dict[str, KernelFit]

    @property
    def correlated(self) -> bool:
        """Whether adjacent taps correlate, at the false-alarm rate `ALARM`."""
        return self.false_alarm < ALARM


def describe_taps(
    filters: Float64[np.ndarray, "filters taps"], kernel_size: tuple[int, ...], *, level: float
) -> Spatial:
    """Covariance, test and fitted kernels of filters of one layer; taps in row-major order."""
    covariance = np.cov(filters, rowvar=False)
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.where(spread > 0, spread, 1.0)[:, None] / np.where(spread > 0, spread, 1.0)
    statistic, neighbours = neighbour_test(filters, kernel_size)
    return Spatial(
        covariance,
        correlation,
        neighbours,
        statistic,
        min(1.0, 2 * math.exp(-0.5 * statistic**2)),
        {name: fit_kernel(name, filters, kernel_size, level=level) for name in KERNELS},
    )


def neighbour_test(
    filters: Float64[np.ndarray, "filters taps"], kernel_size: tuple[int, ...]
) -> tuple[float, float]:
    """Do adjacent taps share their sign? Returns z, and the pooled correlation of adjacent taps.

    Colour the taps like a chessboard. With x the filters less the mean of each tap, and n_w the sum of the (black) neighbours of
    a white tap w,

        z = Σ_f Σ_w x_fw n_fw / √(Σ_f Σ_w x_fw² n_fw²).

    If white taps have no preferred sign given everything else (independent taps of any symmetric law, however heavy its tails and
    however much filters differ in size), z is a Rademacher sum of unit variance, and P(|z| ≥ t) ≤ 2 exp(−t²/2) at any number of
    filters (Hoeffding 1963, Theorem 2). The pooled correlation is Σ x_w x_b over adjacent pairs over Σ √(v_w v_b).
    """
    x = filters - filters.mean(0)
    steps = tap_distances(kernel_size)
    adjacent = np.isclose(steps, 1.0)
    white = np.array([sum(p) % 2 == 0 for p in _taps(kernel_size)])
    terms = x[:, white] * (x @ adjacent[:, white].astype(np.float64))
    z = float(terms.sum() / max(math.sqrt(float((terms * terms).sum())), 1e-300))
    size = np.sqrt((x * x).sum(0))
    pairs = np.triu(adjacent)
    return z, float((x.T @ x)[pairs].sum() / max(float(np.outer(size, size)[pairs].sum()), 1e-300))


def correlation_matrix(
    kernel: str, lengthscale: float, kernel_size: tuple[int, ...]
) -> Float64[np.ndarray, "taps taps"]:
    """R_{pp'} = κ(‖p − p'‖₂/ℓ) over the taps in row-major order."""
    return KERNELS[kernel](tap_distances(kernel_size) / lengthscale)


def fit_kernel(
    kernel: str,
    filters: Float64[np.ndarray, "filters taps"],
    kernel_size: tuple[int, ...],
    *,
    level: float = 0.95,
    interval: bool = True,
) -> KernelFit:
    """ŝ and ℓ̂ that maximise the likelihood of filters ~ N(0, s² R(ℓ)), with the profile-likelihood interval of ℓ.

    `interval=False` leaves the interval out, as [0, ∞).
    The data enter by M = Σ_f x_f x_fᵀ/F: ŝ²(ℓ) = tr(R⁻¹M)/P and ℓ-profile −(F/2)(P log ŝ² + log det R) + constant, P taps.
    """
    moment = filters.T @ filters / len(filters)
    low, high = map(math.log, LENGTHSCALES)
    centre = math.log(best_lengthscale(kernel, moment, kernel_size))
    limit = kernel_loss(kernel, centre, moment, kernel_size) + 0.5 * stats.chi2.ppf(level, 1) / len(filters)

    def excess(log_l: float) -> float:
        return kernel_loss(kernel, log_l, moment, kernel_size) - limit

    lower, upper = 0.0, math.inf
    if interval and excess(low) > 0:
        lower = math.exp(optimize.brentq(excess, low, centre))
    if interval and excess(high) > 0:
        upper = math.exp(optimize.brentq(excess, centre, high))
    factor = _factor(correlation_matrix(kernel, math.exp(centre), kernel_size))
    assert factor is not None
    return KernelFit(math.sqrt(_variance(factor, moment)), Interval(math.exp(centre), lower, upper))


def filter_log_density(
    kernel: str, fitted: KernelFit, filters: Float64[np.ndarray, "filters taps"], kernel_size: tuple[int, ...]
) -> Float64[np.ndarray, " filters"]:
    """log N(x_f; 0, s² R) of each filter, summed over its taps."""
    white, half_log_det = whiten(kernel, fitted.lengthscale.value, filters, kernel_size)
    taps = len(white)
    constant = half_log_det + taps * math.log(fitted.scale) + 0.5 * taps * math.log(2 * math.pi)
    return -0.5 * (white * white).sum(0) / fitted.scale**2 - constant


def whiten(
    kernel: str,
    lengthscale: float,
    filters: Float64[np.ndarray, "filters taps"],
    kernel_size: tuple[int, ...],
) -> tuple[Float64[np.ndarray, "taps filters"], float]:
    """L⁻¹x_f with L Lᵀ = R(ℓ), and ½ log det R."""
    factor = _factor(correlation_matrix(kernel, lengthscale, kernel_size))
    assert factor is not None
    return linalg.solve_triangular(factor, filters.T, lower=True), float(np.log(np.diag(factor)).sum())


def best_lengthscale(
    kernel: str, moment: Float64[np.ndarray, "taps taps"], kernel_size: tuple[int, ...]
) -> float:
    """ℓ̂ of Gaussian filters with second moments M."""
    log_l = minimum(
        lambda value: kernel_loss(kernel, value, moment, kernel_size),
        *map(math.log, LENGTHSCALES),
        points=40,
        tolerance=1e-5,
    )
    return math.exp(log_l)


def kernel_loss(
    kernel: str, log_l: float, moment: Float64[np.ndarray, "taps taps"], kernel_size: tuple[int, ...]
) -> float:
    """½ (P log ŝ²(ℓ) + log det R(ℓ)): minus the profile log likelihood of a Gaussian filter, up to a constant."""
    factor = _factor(correlation_matrix(kernel, math.exp(log_l), kernel_size))
    if factor is None:
        return 1e30
    return 0.5 * len(moment) * math.log(_variance(factor, moment)) + float(np.log(np.diag(factor)).sum())


def _variance(factor: np.ndarray, moment: np.ndarray) -> float:
    inverse = np.linalg.inv(factor)
    return max(float(((inverse @ moment) * inverse).sum()) / len(moment), 1e-300)


def _factor(matrix: np.ndarray) -> np.ndarray | None:
    """The Cholesky factor, or None where rounding has made the matrix indefinite."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None


def _taps(kernel_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, kernel_size)))


@functools.cache
def tap_distances(kernel_size: tuple[int, ...]) -> Float64[np.ndarray, "taps taps"]:
    """Euclidean distances between taps, in row-major order."""
    taps = np.array(_taps(kernel_size), dtype=np.float64)
    return np.sqrt(((taps[:, None] - taps[None]) ** 2).sum(-1))
