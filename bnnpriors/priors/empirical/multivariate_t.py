"""Filters with heavy tails and correlated taps: the multivariate t of `CorrelatedStudentT` by maximum likelihood."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from .spatial import KERNELS, LENGTHSCALES, best_lengthscale, whiten
from .student import fit_student, student_constant

STUDENT_KERNELS = {f"{kernel}_t": kernel for kernel in KERNELS}
"""Name of the family -> its kernel."""

MAX_STEPS = 100
TOLERANCE = 1e-4
"""A step that raises the log likelihood of all filters by less than this is the last."""


class StudentKernelFit(NamedTuple):
    """scale: s, in units of the weights; lengthscale: ℓ in taps; df: ν, at most `MAX_DF`."""

    scale: float
    lengthscale: float
    df: float


def fit_student_kernel(
    kernel: str, filters: Float64[np.ndarray, "filters taps"], kernel_size: tuple[int, ...]
) -> StudentKernelFit:
    """ŝ, ℓ̂ and ν̂ that maximise the likelihood of filters ~ t_ν(0, s² R(ℓ)).

    Two steps in turn, neither of which lowers the likelihood (ECME, Liu & Rubin 1995). For a given ℓ, (s, ν) maximise it outright
    given the squares x_fᵀR⁻¹x_f. Then one EM step for ℓ: with weights w_f = (ν+P)/(ν + x_fᵀR⁻¹x_f/s²), P taps, ℓ is that of the
    Gaussian fit to √w_f x_f. The start is R = I, at which outlying filters already weigh little.
    """
    taps = filters.shape[1]
    lengthscale, top = LENGTHSCALES[0], -math.inf
    for _ in range(MAX_STEPS):
        white, half_log_det = whiten(kernel, lengthscale, filters, kernel_size)
        squares = (white * white).sum(0)
        scale, df, value = fit_student(squares, taps)
        value -= len(filters) * half_log_det
        if value > top:
            best = StudentKernelFit(scale, lengthscale, df)
        if value < top + TOLERANCE:
            break
        top = value
        weight = (df + taps) / (df + squares / scale**2)
        moment = (filters.T * weight) @ filters / len(filters)
        lengthscale = best_lengthscale(kernel, moment, kernel_size)
    return best


def student_filter_log_density(
    kernel: str,
    fitted: StudentKernelFit,
    filters: Float64[np.ndarray, "filters taps"],
    kernel_size: tuple[int, ...],
) -> Float64[np.ndarray, " filters"]:
    """log t_ν(x_f; 0, s² R) of each filter, jointly over its taps."""
    white, half_log_det = whiten(kernel, fitted.lengthscale, filters, kernel_size)
    taps, squares = len(white), (white * white).sum(0) / fitted.scale**2
    constant = student_constant(fitted.df, taps) - half_log_det - taps * math.log(fitted.scale)
    return constant - 0.5 * (fitted.df + taps) * np.log1p(squares / fitted.df)
