"""Do the units of a linear layer resemble each other? Correlations of rows and of columns, against shuffled weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

NUM_SHUFFLES = 100
MAX_SIDE = 512
"""Rows and columns that are looked at; a random choice of a larger matrix."""
MIN_SIDE = 8
THRESHOLD = 8.0
"""Standard deviations of the sign-shuffled figure: a false alarm below 1e-6 even for the 28 pairs of eight rows, whose sum of
squares is nearly χ²₂₈ (4e-8)."""


@dataclass(frozen=True)
class Correlations:
    """Correlations between the rows of a matrix, or between its columns.

    Attributes: rms (root mean square over all pairs, diagonal excluded); shuffled (the same after permuting all entries of the
    matrix, mean over shuffles); random_signs (after giving every entry a random sign, which keeps the sizes: rows and columns may
    differ in scale); statistic (by how many standard deviations rms² exceeds that of random signs); matrix (correlations in the
    first network).
    """

    rms: float
    shuffled: float
    random_signs: float
    statistic: float
    matrix: Float64[np.ndarray, "side side"]

    @property
    def correlated(self) -> bool:
        """Whether the correlations exceed those of random signs, at a false-alarm rate below 1e-6."""
        return self.statistic > THRESHOLD


def describe_matrix(
    matrices: list[Float64[np.ndarray, "rows columns"]], generator: np.random.Generator
) -> tuple[Correlations, Correlations] | None:
    """Of rows and of columns, averaged over the networks; None for a matrix with a side below 8."""
    if min(matrices[0].shape) < MIN_SIDE:
        return None
    chosen = [
        np.sort(generator.choice(side, min(side, MAX_SIDE), replace=False)) for side in matrices[0].shape
    ]
    kept = [matrix[np.ix_(*chosen)] for matrix in matrices]
    return _correlations(kept, generator), _correlations([matrix.T for matrix in kept], generator)


def mean_square_correlation(matrix: Float64[np.ndarray, "rows columns"]) -> float:
    """(1/(m(m−1))) Σ_{a≠b} r_ab² over the m rows, r_ab their Pearson correlation.

    With rows x̂ centred and of length one, Σ_ab r_ab² = ‖x̂x̂ᵀ‖² = ‖x̂ᵀx̂‖²: the smaller of the two is formed. For independent
    entries of one law its expectation is 1/(n − 1), n columns (Pitman 1937).
    """
    unit = _standardised(matrix)
    gram = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    rows = len(matrix)
    diagonal = float(((unit * unit).sum(1) ** 2).sum())
    return (float((gram * gram).sum()) - diagonal) / (rows * (rows - 1))


def _correlations(matrices: list[np.ndarray], generator: np.random.Generator) -> Correlations:
    """Signs are drawn before rows are centred: independent entries that are symmetric about 0 keep their joint law, whatever
    their sizes, and so does every function of them."""
    observed = np.mean([mean_square_correlation(matrix) for matrix in matrices])
    shuffled, signed = np.empty(NUM_SHUFFLES), np.empty(NUM_SHUFFLES)
    for draw in range(NUM_SHUFFLES):
        mixed = [generator.permuted(matrix.ravel()).reshape(matrix.shape) for matrix in matrices]
        shuffled[draw] = np.mean([mean_square_correlation(matrix) for matrix in mixed])
        flipped = [matrix * (2.0 * generator.integers(0, 2, matrix.shape) - 1.0) for matrix in matrices]
        signed[draw] = np.mean([mean_square_correlation(matrix) for matrix in flipped])
    unit = _standardised(matrices[0])
    return Correlations(
        rms=float(np.sqrt(observed)),
        shuffled=float(np.sqrt(shuffled.mean())),
        random_signs=float(np.sqrt(signed.mean())),
        statistic=float((observed - signed.mean()) / max(float(signed.std(ddof=1)), 1e-300)),
        matrix=unit @ unit.T,
    )


def _standardised(matrix: np.ndarray) -> np.ndarray:
    centred = matrix - matrix.mean(1, keepdims=True)
    length = np.sqrt((centred * centred).sum(1, keepdims=True))
    return centred / np.where(length > 0, length, 1.0)
