"""A kernel between numbered points, from a matrix that was computed before."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Num
from numpy.typing import NDArray
from torch import Tensor

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from gpytorch.kernels import Kernel

ROWS = 1024


class PrecomputedKernel(Kernel):
    """K between points 0, 1, 2, …: give their numbers where another kernel takes inputs.

    So one matrix serves any number of regressions, classifications and sizes of the training set:
    `GPRegression(PrecomputedKernel(K), torch.arange(1000), y)`.

    Args:
        matrix: K, [rows, points]: of the first `rows` points, which may be trained on, with all points. A tensor, or an array on
            disk that is read strip by strip: `numpy.load(file, mmap_mode="r")`, zarr, or anything with a `shape` and
            `read(rows, columns)` for slices.
        variances: K_ii, [points]: needed where there are points beyond the rows, whose variances the matrix does not hold.

    Raises:
        ValueError: a matrix with fewer columns than rows, or variances that are missing or do not fit it.
    """

    has_lengthscale = False

    def __init__(self, matrix: Any, variances: Num[Tensor, " points"] | None = None) -> None:
        super().__init__()
        shape = tuple(matrix.shape)
        if len(shape) != 2 or shape[0] > shape[1] or not shape[0]:
            raise ValueError(
                f"PrecomputedKernel: matrix {shape} given, expected [rows, points] with points ≥ rows"
            )
        if variances is None and shape[0] < shape[1]:
            raise ValueError(
                f"PrecomputedKernel: matrix {shape} given alone; the variances of points {shape[0]} to {shape[1] - 1} are not "
                "in it: give variances=kernel.variance(x)"
            )
        self.stored = matrix
        if variances is None:
            variances = _diagonal(matrix)
        if variances.shape != shape[1:]:
            raise ValueError(
                f"PrecomputedKernel: variances {tuple(variances.shape)} given, expected ({shape[1]},)"
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
        rows = self.stored.shape[0]
        if not len(first) or not len(second):
            return torch.empty(len(first), len(second), dtype=torch.float64)
        if int(first.max()) < rows:
            return _take(self.stored, first, second)
        if int(second.max()) < rows:
            return _take(self.stored, second, first).mT
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
        points = self.stored.shape[1]
        if x.ndim not in (1, 2) or flat.numel() != len(x):
            raise ValueError(
                f"PrecomputedKernel: points {tuple(x.shape)} given, expected numbers, [n] or [n, 1]"
            )
        if not bool(((flat >= 0) & (flat < points) & (flat == flat.long())).all()):
            raise ValueError(
                f"PrecomputedKernel: expected whole numbers from 0 to {points - 1}, the points of the matrix"
            )
        return flat.long().cpu()


def _take(matrix: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """Some rows and columns in float64, strip by strip."""
    if isinstance(matrix, Tensor):
        return matrix[rows.to(matrix.device)][:, columns.to(matrix.device)].double()
    result = torch.empty(len(rows), len(columns), dtype=torch.float64)
    across = columns.numpy()
    for start in range(0, len(rows), ROWS):
        down = rows[start : start + ROWS].numpy()
        result[start : start + ROWS] = torch.from_numpy(
            np.asarray(_strip(matrix, down, across), dtype=np.float64)
        )
    return result


def _strip(matrix: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
    if hasattr(matrix, "read"):
        top, left = rows.min(), columns.min()
        box = matrix.read(slice(top, rows.max() + 1), slice(left, columns.max() + 1))
        return box[rows - top][:, columns - left]
    return matrix.oindex[rows, columns] if hasattr(matrix, "oindex") else matrix[np.ix_(rows, columns)]


def _diagonal(matrix: Any) -> Tensor:
    if isinstance(matrix, Tensor):
        return matrix.diagonal()
    count = matrix.shape[0]
    parts = [_take(matrix, piece, piece).diagonal() for piece in torch.arange(count).split(ROWS)]
    return torch.cat(parts)
