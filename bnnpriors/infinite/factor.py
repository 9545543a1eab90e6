"""Cholesky factors of kernel matrices in the memory of the matrix itself, with the least jitter that they take."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ..cost import free_memory, size

JITTERS = (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7)
"""Tried one after another, relative to the mean of the diagonal."""
ROWS = 1024
PANEL = 1024
BAND = 256
BLOCK_BYTES = 2**28
"""Of the covariances of all training points with the new ones that are predicted at once, at most."""
ITERATIVE = (
    "use IterativeGPRegression, which reads the matrix of a PrecomputedKernel from the disk strip by strip"
)
MORE_NOISE = "raise noise, or scale the targets and the priors' variances to similar sizes"


def points_at_once(n: int) -> int:
    """New points that are predicted at once from n training points."""
    return max(1, min(ROWS, BLOCK_BYTES // (8 * n)))


def memory_to_solve(n: int, matrices: int = 1) -> int:
    """Bytes that exact regression on n points takes on the CPU: n × n matrices of float64, and two blocks of predictions."""
    return 8 * n * n * matrices + 2 * 8 * n * points_at_once(n)


def check_memory(
    n: int, matrices: int = 1, *, what: str = "exact regression", remedy: str = ITERATIVE
) -> None:
    """Raise MemoryError where so many n × n matrices do not fit what is free; the message says what takes them, and a remedy."""
    if (needed := memory_to_solve(n, matrices)) > (available := free_memory()):
        raise MemoryError(
            f"{what} on {n} points needs {size(needed)} of memory and {size(available)} is free: give fewer points, or {remedy}"
        )


def factorise(
    matrix: Float64[Tensor, "n n"], noise: Float64[Tensor, "*#n"], remedy: str = MORE_NOISE
) -> tuple[Tensor, float]:
    """The Cholesky factor L of K + diag(noise) and the jitter on its diagonal, 0 if it needed none.

    It takes no more memory than K has, and a few panels: L is written over the lower triangle of `matrix`, and the strict upper
    one keeps K's, so read the result as lower triangular (`solve_triangular(..., upper=False)` does).

    Args:
        matrix: K, symmetric; overwritten. noise: σ², [] or [n]. remedy: what the error advises.

    Raises:
        ValueError: K + noise is not positive definite, even with a jitter of 1e-7 of its mean diagonal, or not finite.
    """
    diagonal = matrix.diagonal().clone()
    scale = float(diagonal.mean())
    for relative in JITTERS:
        jitter = relative * scale
        matrix.diagonal().copy_(diagonal + noise + jitter)
        if _cholesky_(matrix):
            return matrix, jitter
        if not all(bool(rows.isfinite().all()) for rows in matrix.split(ROWS)):
            raise ValueError(
                "the kernel matrix has NaN or infinite values: look at the inputs, and at the variances of the priors"
            )
        _restore(matrix)
    raise ValueError(not_definite(scale, float(noise.min()), remedy))


def differentiable_factor(
    matrix: Float64[Tensor, "n n"], noise: Float64[Tensor, ""]
) -> Float64[Tensor, "n n"]:
    """As `factorise`, in new memory and with gradients."""
    diagonal = matrix.diagonal() + noise
    level = float(matrix.diagonal().detach().mean())
    for relative in JITTERS:
        factor, failed = torch.linalg.cholesky_ex(torch.diagonal_scatter(matrix, diagonal + relative * level))
        if not bool(failed):
            return factor
    raise ValueError(not_definite(level, float(noise)))


def inverse_diagonal(factor: Float64[Tensor, "n n"]) -> Float64[Tensor, " n"]:
    """The diagonal of (LLᵀ)⁻¹, the squared norms of L⁻¹'s columns: n³/3 operations, in the memory of a few panels."""
    n, found = len(factor), factor.new_empty(len(factor))
    for start in range(0, n, BAND):
        end = min(start + BAND, n)
        columns = factor.new_zeros(n - start, end - start)
        columns[: end - start].fill_diagonal_(1.0)
        for first in range(start, n, BAND):
            rows, part = slice(first, first + BAND), columns[first - start : first - start + BAND]
            part.sub_(factor[rows, start:first] @ columns[: first - start])
            part.copy_(torch.linalg.solve_triangular(factor[rows, rows], part, upper=False))
        found[start:end] = columns.square_().sum(0)
    return found


def not_definite(scale: float, noise: float, remedy: str = MORE_NOISE) -> str:
    """The message where no jitter is enough."""
    return f"K + noise · I is not positive definite in float64 (mean diagonal {scale:.3g}, noise {noise:.3g}): {remedy}"


def _cholesky_(matrix: Tensor) -> bool:
    """Write L over the lower triangle, panel by panel from the left; False where a pivot is not positive.

    LAPACK in place would be one call, but the dpotrf of SciPy's OpenBLAS crashes with two threads at n = 50,000.
    """
    for start in range(0, len(matrix), PANEL):
        rows = slice(start, start + PANEL)
        done, block = matrix[rows, :start], matrix[rows, rows]
        upper = block.triu(1)
        factor, failed = torch.linalg.cholesky_ex(
            block.addmm(done, done.mT, alpha=-1)
        )  # of the lower triangle
        if bool(failed):
            return False
        block.copy_(upper.add_(factor))
        for below in range(start + PANEL, len(matrix), PANEL):
            part = matrix[below : below + PANEL]
            rest = part[:, rows].addmm(part[:, :start], done.mT, alpha=-1)
            part[:, rows] = torch.linalg.solve_triangular(factor.mT, rest, upper=True, left=False)
    return True


def _restore(matrix: Tensor) -> None:
    """Write the strict upper triangle over the lower one."""
    for start in range(0, len(matrix), ROWS):
        rows = slice(start, start + ROWS)
        block = matrix[rows, rows].triu(1)
        matrix[rows, rows] = block + block.mT
        matrix[start + ROWS :, rows] = matrix[rows, start + ROWS :].mT
