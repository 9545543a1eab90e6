"""The noise of a regression, and the scale of its kernel, from one eigendecomposition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from scipy.optimize import minimize_scalar
from torch import Tensor

RATIOS = (1e-10, 1e2)
"""The range of r, as multiples of the mean eigenvalue."""
_GRID = 49


@dataclass(frozen=True)
class Spectrum:
    """K = Q Λ Qᵀ with targets: the log densities of y ~ N(0, s (K + r I)) for any r = σ²/s, each at the s that is best for it.

    Attributes:
        values: Λ, [n]. vectors: Q, [n, n]. projected: Qᵀ y, [n, out]. targets: y, [n, out].
    """

    values: Float64[Tensor, " n"]
    vectors: Float64[Tensor, "n n"]
    projected: Float64[Tensor, "n out"]
    targets: Float64[Tensor, "n out"]

    @classmethod
    def of(cls, matrix: Float64[Tensor, "n n"], targets: Float64[Tensor, "n out"]) -> Spectrum:
        """An eigendecomposition: about thirty times a Cholesky factorisation, and at its peak four n × n matrices."""
        values, vectors = torch.linalg.eigh(matrix)
        return cls(values.clamp_min(0), vectors, vectors.mT @ targets, targets)

    def marginal(self, ratio: float) -> tuple[float, float]:
        """log p(y) and s = tr yᵀ(K + rI)⁻¹y / (n out), in O(n)."""
        shifted = self.values + ratio
        scale = float((self.projected.square() / shifted[:, None]).mean())
        return _log_density(scale, shifted.log().sum() * self.targets.shape[1], self.targets.numel()), scale

    def leave_one_out(self, ratio: float) -> tuple[float, float]:
        """Σ_i log p(y_i | y_−i) and its s, in O(n²): y_i has mean y_i − [A⁻¹y]_i/[A⁻¹]_ii and variance s/[A⁻¹]_ii, A = K + rI
        (Rasmussen & Williams 2006, equations 5.10 to 5.12).
        """
        inverse = self.inverse_diagonal(ratio)
        errors = self.solve(ratio) / inverse[:, None]
        return _score(errors, 1 / inverse)

    def held_out(
        self,
        ratio: float,
        cross: Float64[Tensor, "m n"],
        variance: Float64[Tensor, " m"],
        y: Float64[Tensor, "m out"],
    ) -> tuple[float, float]:
        """Σ log p(y_*|y) of other points and its s, in O(n m). `cross` is K_*ᵀ Q, `variance` k_**."""
        shifted = self.values + ratio
        means = cross @ (self.projected / shifted[:, None])
        spread = (variance - cross.square() @ (1 / shifted)).clamp_min(0) + ratio
        return _score(y - means, spread)

    def solve(self, ratio: float) -> Float64[Tensor, "n out"]:
        """(K + rI)⁻¹ y."""
        return self.vectors @ (self.projected / (self.values + ratio)[:, None])

    def inverse_diagonal(self, ratio: float) -> Float64[Tensor, " n"]:
        """The diagonal of (K + rI)⁻¹."""
        return self.vectors.square() @ (1 / (self.values + ratio))

    def best(self, score: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
        """σ² and s at the r of the highest score: the best of a grid over `RATIOS`, then Brent's method."""
        low, high = (math.log(ratio * float(self.values.mean())) for ratio in RATIOS)
        step = (high - low) / (_GRID - 1)
        scores = [score(math.exp(low + i * step))[0] for i in range(_GRID)]
        peak = low + max(range(_GRID), key=scores.__getitem__) * step
        bounds = (max(low, peak - step), min(high, peak + step))
        found = minimize_scalar(
            lambda log_ratio: -score(math.exp(log_ratio))[0],
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-4},
        )
        ratio = math.exp(found.x)
        scale = score(ratio)[1]
        return ratio * scale, scale


def _log_density(scale: float, log_determinant: Tensor, count: int) -> float:
    """−½ (N log 2πs + log det + N): the log density at the best s."""
    return -0.5 * (count * (math.log(2 * math.pi * scale) + 1) + float(log_determinant))


def _score(errors: Tensor, variance: Tensor) -> tuple[float, float]:
    """Σ log N(error; 0, s · variance), and the best s."""
    scale = float((errors.square() / variance[:, None]).mean())
    return _log_density(scale, variance.log().sum() * errors.shape[1], errors.numel()), scale
