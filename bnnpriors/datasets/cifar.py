"""CIFAR-10 (Krizhevsky 2009), binary version: records of one label byte and 3 × 32 × 32 colour bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.idx import choose

_RECORD = 1 + 3 * 32 * 32


def cifar10(
    path: str | os.PathLike[str],
    *,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """CIFAR-10: colour images of 10 classes, [points, 3, 32, 32].

    Bytes are divided by 255, then standardised with one mean and one scale over all training pixels.

    Args:
        path: the folder `cifar-10-batches-bin`, with `test_batch.bin` and any of `data_batch_1.bin` to
            `data_batch_5.bin`: the training set is those that are there.
        num_train, num_test: how many images to keep; all by default.
        seed: which images a smaller set keeps: `None` the first in file order, otherwise a random choice with
            this seed.
        dtype: the floating type of the inputs.

    Raises:
        FileNotFoundError: no training batch, or no test batch.
        ValueError: a file that is not a whole number of records, a label above 9, more images wanted than
            there are.
    """
    folder = Path(path)
    batches = sorted(folder.glob("data_batch_[1-5].bin"))
    test_batch = folder / "test_batch.bin"
    if not batches or not test_batch.is_file():
        raise FileNotFoundError(
            f"{folder}: expected data_batch_1.bin and test_batch.bin — unpack CIFAR-10's binary version"
        )
    parts = [_read_batch(file) for file in batches]
    x_train, y_train = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    x_test, y_test = _read_batch(test_batch)
    train = choose(len(x_train), num_train, seed, "training images of cifar10")
    test = choose(len(x_test), num_test, seed, "test images of cifar10")
    return Dataset.from_raw(
        "cifar10",
        x_train[train] / 255.0,
        y_train[train],
        x_test[test] / 255.0,
        y_test[test],
        kind="classification",
        num_classes=10,
        shared_scale=True,
        dtype=dtype,
    )


def _read_batch(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    content = np.fromfile(file, dtype=np.uint8)
    if content.size == 0 or content.size % _RECORD:
        raise ValueError(
            f"{file}: {content.size} bytes: expected a multiple of {_RECORD} — truncated? Copy it again"
        )
    records = content.reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
