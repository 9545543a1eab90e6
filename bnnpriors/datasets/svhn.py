"""SVHN (Netzer et al. 2011), format 2: cropped digits of house numbers, in MATLAB files."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import torch

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.download import cache_folder, fetch
from bnnpriors.datasets.images import Bytes, image_dataset

_MIRRORS = ("http://ufldl.stanford.edu/housenumbers",)
_SHA256 = {
    "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
}


def svhn(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Street View House Numbers: 73,257 + 26,032 colour images of digits, [points, 3, 32, 32], 10 classes.

    The files call the digit 0 class 10; here it is class 0. Bytes are divided by 255, then standardised with one mean and one
    scale over all training pixels. The 531,131 easier images of `extra_32x32.mat` are not used.

    Args:
        root: the folder of `train_32x32.mat` and `test_32x32.mat`, used without network where they are there already; by
            default `svhn` in the user's cache folder (235 MiB to download).
        download: whether missing files may be downloaded.
        num_train, num_test, seed, dtype: as for `cifar10`.

    Raises:
        FileNotFoundError: files are missing and `download` is false.
        ConnectionError: no mirror gave the published file.
        ValueError: a file that is no MATLAB file of images and labels, more images wanted than there are.
    """
    folder = fetch(root if root is not None else cache_folder("svhn"), _SHA256, _MIRRORS, download=download)
    train, test = (_read(folder / name) for name in _SHA256)
    return image_dataset(
        "svhn",
        train,
        test,
        num_classes=10,
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        dtype=dtype,
    )


def _read(file: Path) -> tuple[Bytes, Bytes]:
    """X [32, 32, 3, points] and y [points, 1], as images [points, 3, 32, 32] and labels [points]."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(file, variable_names=["X", "y"])
        images, labels = np.asarray(content["X"]), np.asarray(content["y"]).ravel()
    except (
        MatReadError,
        zlib.error,
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        KeyError,
        IndexError,
    ) as error:
        raise ValueError(
            f"{file}: expected a MATLAB file with X and y ({type(error).__name__}: {error}) — copy it again"
        ) from error
    if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or labels.shape != images.shape[3:]:
        raise ValueError(
            f"{file}: X {images.dtype} {images.shape}, y {labels.shape}: expected bytes (32, 32, 3, points) and one label a point"
        )
    if labels.size and not (labels.min() >= 1 and labels.max() <= 10):
        raise ValueError(f"{file}: labels from {labels.min()} to {labels.max()}: expected 1 to 10")
    return images.transpose(3, 2, 0, 1), (labels % 10).astype(np.uint8)
