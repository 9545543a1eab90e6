"""UCI regression, in the folders and with the splits of Hernández-Lobato & Adams (2015, 1502.05336)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset


def uci(path: str | os.PathLike[str], *, split: int = 0, dtype: torch.dtype = torch.float32) -> Dataset:
    """One published split of a UCI regression set.

    The folder holds `data.txt` (a row a point), `index_features.txt` and `index_target.txt` (columns),
    `n_splits.txt`, and for each split I `index_train_I.txt` and `index_test_I.txt` (rows). A folder whose
    `data/` holds these is accepted too.

    Args:
        path: the folder, such as `uci/bostonHousing`.
        split: which published split, from 0.
        dtype: the floating type of inputs and targets.

    Raises:
        FileNotFoundError: no such folder, or one of its files is missing.
        ValueError: a split that does not exist; indices that are not whole, out of range, repeated, or shared
            by train and test; a file that is not a table of finite numbers.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder — expected one UCI set, with data.txt and index_*.txt in it"
        )
    name = folder.name
    if not (folder / "data.txt").exists() and (folder / "data" / "data.txt").exists():
        folder = folder / "data"

    num_splits = int(_indices(folder / "n_splits.txt", "number of splits")[0])
    if not 0 <= split < num_splits:
        raise ValueError(f"split {split} of {name}: expected 0 to {num_splits - 1} ({num_splits} splits)")
    table = _table(folder / "data.txt", dimensions=2)
    columns = _indices(folder / "index_features.txt", "columns of data.txt", table.shape[1])
    target_columns = _indices(folder / "index_target.txt", "columns of data.txt", table.shape[1])
    train = _indices(folder / f"index_train_{split}.txt", "rows of data.txt", table.shape[0])
    test = _indices(folder / f"index_test_{split}.txt", "rows of data.txt", table.shape[0])
    _check_disjoint(name, f"training and test rows of split {split}", train, test)
    _check_disjoint(name, "feature and target columns", columns, target_columns)

    inputs, targets = table[:, columns], table[:, target_columns]
    return Dataset.from_raw(
        name, inputs[train], targets[train], inputs[test], targets[test], kind="regression", dtype=dtype
    )


def _table(file: Path, dimensions: Literal[1, 2]) -> NDArray[np.float64]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing — expected a complete Hernández-Lobato & Adams folder")
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: empty file: expected numbers — copy the folder again")
    try:
        return np.loadtxt(file, dtype=np.float64, ndmin=dimensions)
    except ValueError as error:
        raise ValueError(f"{file}: expected numbers separated by spaces ({error})") from error


def _indices(file: Path, what: str, limit: int | None = None) -> NDArray[np.int64]:
    """Whole numbers from a file of one column; where `limit` is given, distinct and in [0, limit)."""
    numbers = _table(file, dimensions=1).ravel()
    wrong = (numbers != np.floor(numbers)) | (numbers < 0)
    if limit is not None:
        wrong |= numbers >= limit
    if wrong.any():
        expected = "whole numbers from 0" if limit is None else f"whole numbers from 0 to {limit - 1}"
        raise ValueError(f"{file}: index {numbers[wrong][0]:g}: expected {expected} ({what})")
    indices = numbers.astype(np.int64)
    if len(np.unique(indices)) != len(indices):
        raise ValueError(f"{file}: an index occurs twice: expected distinct {what}")
    return indices


def _check_disjoint(name: str, what: str, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    shared = np.intersect1d(first, second)
    if len(shared):
        raise ValueError(
            f"{name}: the {what} share {len(shared)} indices, such as {shared[0]}: expected none in both"
        )
