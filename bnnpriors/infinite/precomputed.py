"""A kernel between numbered points, from a matrix that was computed before."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Num
from numpy.typing import NDArray
from torch import Tensor

from .stored import StoredGram

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from gpytorch.kernels import Kernel

ROWS = 1024


class PrecomputedKernel(Kernel):
    """K between points 0, 1, 2, …: give their numbers where another kernel takes inputs.

    So one matrix serves any number of regressions, classifications and sizes of the training set:
    `GPRegression(PrecomputedKernel(K), torch.arange(1000), y)`.

    Args:
        matrix: K, [rows, points]: of the first `rows` points, which may be trained on, with all points; or a list of matrices of
            these rows, side by side. A tensor, or an array on disk that is read part by part: a `StoredGram`,
            `numpy.load(file, mmap_mode="r")`, zarr, or anything with a `shape` and `read(rows, columns)` for slices.
        variances: K_ii, [points]: needed where there are points beyond the rows, whose variances the matrix does not hold.

    Raises:
        ValueError: a matrix with fewer columns than rows, or variances that are missing or do not fit it.
    """

    has_lengthscale = False

    def __init__(self, matrix: Any, variances: Num[Tensor, " points"] | None = None) -> None:
        super().__init__()
        self._parts: list[Any] = list(matrix) if isinstance(matrix, (list, tuple)) else [matrix]
        shapes = [tuple(part.shape) for part in self._parts]
        rows, points = shapes[0][:1] if shapes else (), sum(shape[-1] for shape in shapes)
        if any(len(shape) != 2 or shape[:1] != rows for shape in shapes) or not 0 < (*rows, 0)[0] <= points:
            raise ValueError(
                f"PrecomputedKernel: matrices {shapes} given, expected [rows, points] with points ≥ rows, of the same rows"
            )
        self.shape = (rows[0], points)
        """(rows, points)."""
        if variances is None and self.shape[0] < self.shape[1]:
            raise ValueError(
                f"PrecomputedKernel: matrix {self.shape} given alone; the variances of points {self.shape[0]} to "
                f"{self.shape[1] - 1} are not in it: give variances=kernel.variance(x)"
            )
        if variances is None:
            pieces = torch.arange(self.shape[0]).split(ROWS)
            variances = torch.cat([self._take(piece, piece).diagonal() for piece in pieces])
        if variances.shape != self.shape[1:]:
            raise ValueError(
                f"PrecomputedKernel: variances {tuple(variances.shape)} given, expected ({self.shape[1]},)"
            )
        self.register_buffer("variances", variances.double())

    def matrix(
        self, x1: Num[Tensor, "n *one"], x2: Num[Tensor, "m *one"] | None = None
    ) -> Float64[Tensor, "n m"]:
        """K between points, by number.

        Raises:
            ValueError: numbers that are not whole or not those of points, or two points beyond the rows.
        """
        first = self._numbers(x1)
        second = first if x2 is None else self._numbers(x2)
        rows = self.shape[0]
        if not len(first) or not len(second):
            return torch.empty(len(first), len(second), dtype=torch.float64)
        if int(first.max()) < rows:
            return self._take(first, second)
        if int(second.max()) < rows:
            return self._take(second, first).mT
        raise ValueError(
            f"PrecomputedKernel: K between points {int(first.max())} and {int(second.max())} is not in the matrix, which has the "
            f"first {rows} with all others; train on points below {rows}"
        )

    def variance(self, x: Num[Tensor, "n *one"]) -> Float64[Tensor, " n"]:
        """K_ii of points, by number."""
        return self.variances[self._numbers(x)]

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        """What GPyTorch calls, with numbers [..., n, 1]."""
        if diag:
            if torch.equal(x1, x2):
                return self.variances[x1[..., 0].long()]
            return torch.stack([self.matrix(a[None], b[None])[0, 0] for a, b in zip(x1, x2, strict=True)])
        return self.matrix(x1, x2)

    def _numbers(self, x: Tensor) -> Tensor:
        """Numbers of points as integers."""
        flat = x.reshape(-1)
        points = self.shape[1]
        if x.ndim not in (1, 2) or flat.numel() != len(x):
            raise ValueError(
                f"PrecomputedKernel: points {tuple(x.shape)} given, expected numbers, [n] or [n, 1]"
            )
        if not bool(((flat >= 0) & (flat < points) & (flat == flat.long())).all()):
            raise ValueError(
                f"PrecomputedKernel: expected whole numbers from 0 to {points - 1}, the points of the matrix"
            )
        return flat.long().cpu()

    def _take(self, rows: Tensor, columns: Tensor) -> Float64[Tensor, "n m"]:
        """Some rows and columns in one tensor, which is filled part by part."""
        device = self._parts[0].device if isinstance(self._parts[0], Tensor) else None
        result = torch.empty(len(rows), len(columns), dtype=torch.float64, device=device)
        start = 0
        for part in self._parts:
            here = ((columns >= start) & (columns < start + part.shape[1])).nonzero()[:, 0]
            if len(here) and _is_range(here):
                _fill(part, rows, columns[here] - start, result[:, here[0] : here[-1] + 1])
            elif len(here):
                piece = result.new_empty(len(rows), len(here))
                _fill(part, rows, columns[here] - start, piece)
                result[:, here.to(result.device)] = piece
            start += part.shape[1]
        return result


def _fill(matrix: Any, rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Copy some rows and columns of a matrix: tile by tile where it is stored so, and strip by strip otherwise."""
    if isinstance(matrix, StoredGram) and len(rows) and _is_range(rows) and _is_range(columns):
        matrix.read(
            slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1), out=out
        )
        return
    for start in range(0, len(rows), ROWS):
        strip = slice(start, start + ROWS)
        if isinstance(matrix, Tensor):
            out[strip] = matrix[rows[strip].to(matrix.device)][:, columns.to(matrix.device)]
        else:
            out[strip] = torch.from_numpy(np.asarray(_strip(matrix, rows[strip].numpy(), columns.numpy())))


def _strip(matrix: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
    if hasattr(matrix, "read"):
        top, left = rows.min(), columns.min()
        box = matrix.read(slice(top, rows.max() + 1), slice(left, columns.max() + 1))
        return box[rows - top][:, columns - left]
    return matrix.oindex[rows, columns] if hasattr(matrix, "oindex") else matrix[np.ix_(rows, columns)]


def _is_range(numbers: Tensor) -> bool:
    """Whether numbers, of which there is one at least, follow one another."""
    return torch.equal(numbers, torch.arange(int(numbers[0]), int(numbers[0]) + len(numbers)))
