"""A user's own arrays, from one NumPy `.npz` file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset, Kind

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def npz(
    path: str | os.PathLike[str], *, kind: Kind | None = None, dtype: torch.dtype = torch.float32
) -> Dataset:
    """A data set from the arrays `x_train`, `y_train`, `x_test` and `y_test` of one file.

    Args:
        path: the `.npz` file.
        kind: "regression" or "classification"; by default whole-number or boolean targets are classes,
            floating ones are regression.
        dtype: the floating type of the inputs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npz` file, a missing array, and everything that `Dataset.from_raw` refuses.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file — expected an .npz with the arrays {', '.join(_KEYS)}")
    arrays = _read(file)
    if kind is None:
        kind = "classification" if arrays["y_train"].dtype.kind in "iub" else "regression"
    return Dataset.from_raw(file.stem, *(arrays[key] for key in _KEYS), kind=kind, dtype=dtype)


def _read(file: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise ValueError(
                    f"no array {', '.join(missing)} among {', '.join(archive)}: expected {', '.join(_KEYS)}"
                )
            return {key: archive[key] for key in _KEYS}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file}: {error} — write it with numpy.savez(file, x_train=…, …), numbers only"
        ) from error
