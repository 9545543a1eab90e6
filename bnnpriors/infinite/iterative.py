"""Gaussian-process regression by conjugate gradients, for kernel matrices that do not fit in memory."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor

from ..evaluation import GaussianPredictive
from .regression import checked_targets

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel
    from .orbit import OrbitKernel
    from .precomputed import PrecomputedKernel

STRIP = 2**27
"""Bytes of a strip of rows of the kernel matrix."""
COLUMNS = 256
"""New inputs whose variances are solved for at once."""


class IterativeGPRegression:
    """`GPRegression` without a factorisation: (sK + σ²I)⁻¹ by conjugate gradients (`linear_operator`), preconditioned by a
    pivoted Cholesky factor of low rank (Gardner et al. 2018, 1809.11165).

    Memory is a strip of the matrix at a time and `rank` rows; each iteration goes through the whole matrix once, so give a
    `PrecomputedKernel` of a matrix on disk. Predictive means take one solve in all, variances one for each 256 new inputs.

    Args:
        kernel, x, y, noise, scale: as for `GPRegression`; all stay as they are.
        rank: of the preconditioner; 0 for none.
        tolerance: of the relative residual ‖y − (sK + σ²I)w‖/‖y‖, mean over outputs. max_iterations: at most, for one solve.

    Attributes:
        residual: the largest relative residual over outputs that the solve for the mean reached, computed anew from the solution.

    Raises:
        ValueError: as for `GPRegression`; a rank below 0 or above n, a tolerance that is not positive, no iterations.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel | OrbitKernel | PrecomputedKernel,
        x: Num[Tensor, "n *shape"],
        y: Float[Tensor, "n *out"],
        *,
        noise: float,
        scale: float = 1.0,
        rank: int = 100,
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
    ) -> None:
        if not 0 <= rank <= len(x) or not tolerance > 0 or max_iterations < 1:
            raise ValueError(
                f"IterativeGPRegression: rank {rank}, tolerance {tolerance}, max_iterations {max_iterations} given, expected a "
                f"rank from 0 to {len(x)}, a positive tolerance and an iteration at least"
            )
        self.kernel, self.x = kernel, x.double()
        self.y = checked_targets(x, y, noise=noise, scale=scale).to(self.x)
        self.noise, self.scale = noise, scale
        self.tolerance, self.max_iterations = tolerance, max_iterations
        with torch.no_grad():
            self._low_rank = self._pivoted(rank)
            inner = self._low_rank.mT @ self._low_rank
            inner.diagonal().add_(noise)
            self._inner = torch.linalg.cholesky(inner)
            self._weights = self._solve(self.y)
            left = self.y - self._multiply(self._weights)
        self.residual = float((left.norm(dim=0) / self.y.norm(dim=0).clamp_min(1e-300)).max())
        if self.residual > 10 * tolerance:
            warnings.warn(
                f"IterativeGPRegression: the relative residual is {self.residual:.2g} after {max_iterations} iterations, and "
                f"tolerance {tolerance:.2g} was wanted; raise max_iterations, rank or noise",
                stacklevel=2,
            )

    @torch.no_grad()
    def predict(self, x: Num[Tensor, "batch *shape"]) -> GaussianPredictive:
        """The posterior predictive distribution at new inputs, as of `GPRegression` up to the tolerance."""
        x = x.to(self.x)
        mean, variance = self.y.new_empty(len(x), self.y.shape[1]), self.y.new_empty(len(x))
        for start in range(0, len(x), COLUMNS):
            rows = slice(start, start + COLUMNS)
            cross = self.scale * self.kernel.matrix(self.x, x[rows])
            mean[rows] = cross.mT @ self._weights
            explained = (cross * self._solve(cross)).sum(0)
            variance[rows] = (self.scale * self.kernel.variance(x[rows]) - explained).clamp_min(0)
        return GaussianPredictive(mean, variance[:, None], mean.new_tensor(self.noise))

    def _multiply(self, vectors: Tensor) -> Float64[Tensor, "n columns"]:
        """(sK + σ²I) times vectors, strip by strip."""
        rows = max(1, STRIP // (8 * len(self.x)))
        strips = [
            self.kernel.matrix(self.x[start : start + rows], self.x) @ vectors
            for start in range(0, len(self.x), rows)
        ]
        return self.scale * torch.cat(strips) + self.noise * vectors

    def _precondition(self, vectors: Tensor) -> Float64[Tensor, "n columns"]:
        """(LLᵀ + σ²I)⁻¹ times vectors, by Woodbury's identity."""
        inner = torch.cholesky_solve(self._low_rank.mT @ vectors, self._inner)
        return (vectors - self._low_rank @ inner) / self.noise

    def _solve(self, right: Tensor) -> Float64[Tensor, "n columns"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of not reaching the tolerance; `residual` says by how much
            from linear_operator.utils.linear_cg import linear_cg

            return linear_cg(
                self._multiply,
                right,
                tolerance=self.tolerance,
                eps=1e-40,  # below which a squared residual counts as zero
                stop_updating_after=0.1 * self.tolerance,
                max_iter=self.max_iterations,
                max_tridiag_iter=1,
                preconditioner=self._precondition,
            )

    def _pivoted(self, rank: int) -> Float64[Tensor, "n rank"]:
        """L of a pivoted Cholesky factorisation sK ≈ LLᵀ: each column takes the largest variance that is left."""
        left = self.scale * self.kernel.variance(self.x)
        level = float(left.max())
        factor = left.new_zeros(len(left), rank)
        for k in range(rank):
            pivot = int(left.argmax())
            if float(left[pivot]) < 1e-12 * level:
                return factor[:, :k]
            row = self.scale * self.kernel.matrix(self.x[pivot : pivot + 1], self.x)[0]
            column = (row - factor[:, :k] @ factor[pivot, :k]) / math.sqrt(float(left[pivot]))
            factor[:, k] = column
            left = (left - column.square()).clamp_min(0)
            left[pivot] = 0
        return factor
