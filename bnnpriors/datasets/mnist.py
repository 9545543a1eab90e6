"""MNIST and its kin by name: downloaded once, checked by sha256, and read by `idx`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.download import cache_folder, fetch
from bnnpriors.datasets.idx import idx
from bnnpriors.datasets.images import image_dataset

_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_KMNIST_MIRRORS = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist",)
_KMNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
}
_NOTMNIST_MIRRORS = ("https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/master",)
_NOTMNIST_SHA256 = {
    "t10k-images-idx3-ubyte.gz": "70ae9e06201f2827e5b0a3781a3169d735dd2efc69996b9eeaee7f10ed4044d7",
    "t10k-labels-idx1-ubyte.gz": "1fa03836e01c862542f8eb83463bb951bebec6fcb3efa28dad748c6b38a9021b",
}


def mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits of 28 × 28 grey pixels, 10 classes.

    Args:
        root: the folder of the four files, used without network where they are there already; by default
            `mnist` in the user's cache folder.
        download: whether missing files may be downloaded.
        num_train, num_test, seed, flatten, dtype: as in `idx`.

    Raises:
        FileNotFoundError: files are missing and `download` is false.
        ConnectionError: no mirror gave the published file.
        ValueError: as in `idx`.
    """
    folder = fetch(root or cache_folder("mnist"), _MNIST_SHA256, _MNIST_MIRRORS, download=download)
    return idx(folder, num_train=num_train, num_test=num_test, seed=seed, flatten=flatten, dtype=dtype)


def fashion_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017, 1708.07747): MNIST's shape and sizes, with articles of clothing.

    Arguments and errors are those of `mnist`; the default folder is `fashion-mnist` in the user's cache
    folder.
    """
    folder = fetch(
        root or cache_folder("fashion-mnist"), _FASHION_SHA256, _FASHION_MIRRORS, download=download
    )
    return idx(folder, num_train=num_train, num_test=num_test, seed=seed, flatten=flatten, dtype=dtype)


def kmnist(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Kuzushiji-MNIST (Clanuwat et al. 2018, 1812.01718): MNIST's shape and sizes, with cursive Japanese characters.

    Arguments and errors are those of `mnist`; the default folder is `kmnist` in the user's cache folder. A folder with the
    published NumPy version, `kmnist-train-imgs.npz` and its three companions, is read as well.
    """
    kept = {"num_train": num_train, "num_test": num_test, "seed": seed}
    arrays = None if root is None else _arrays(Path(root))
    if arrays is not None:
        train, test = arrays[:2], arrays[2:]
        return image_dataset(
            "kmnist",
            (train[0], train[1]),
            (test[0], test[1]),
            num_classes=10,
            flatten=flatten,
            dtype=dtype,
            **kept,
        )
    folder = fetch(root or cache_folder("kmnist"), _KMNIST_SHA256, _KMNIST_MIRRORS, download=download)
    return idx(folder, flatten=flatten, dtype=dtype, **kept)


def notmnist(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    checksums: Mapping[str, str] | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """notMNIST (Bulatov 2011): letters A to J in many fonts, in the selection of 60,000 + 10,000 images that has MNIST's format.

    As out-of-distribution inputs, `out_of_distribution(data, "notmnist")` is enough, and downloads the test images alone.

    Args:
        root, download, num_train, num_test, seed, flatten, dtype: as for `mnist`; the default folder is `notmnist`.
        checksums: sha256 of `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz`, without which the training files
            are not downloaded: nobody has published them.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as for `mnist`; training files are missing and have no checksum.
    """
    folder = Path(root or cache_folder("notmnist"))
    known = _NOTMNIST_SHA256 | dict(checksums or {})
    missing = [
        name
        for name in _MNIST_SHA256
        if name not in known and not any((folder / n).is_file() for n in (name, name.removesuffix(".gz")))
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder}: no {', '.join(missing)}, whose checksums are not published — put the files there, or give "
            "checksums={name: sha256} to download them"
        )
    fetch(folder, known, _NOTMNIST_MIRRORS, download=download)
    return idx(folder, num_train=num_train, num_test=num_test, seed=seed, flatten=flatten, dtype=dtype)


def notmnist_test_folder() -> Path:
    """The cache folder that holds notMNIST's test images, downloaded if they are not there."""
    name = "t10k-images-idx3-ubyte.gz"
    return fetch(cache_folder("notmnist"), {name: _NOTMNIST_SHA256[name]}, _NOTMNIST_MIRRORS)


def _arrays(folder: Path) -> list[np.ndarray] | None:
    """Training images and labels, test images and labels of the NumPy version; None where it is not there."""
    files = [
        folder / f"kmnist-{part}.npz" for part in ("train-imgs", "train-labels", "test-imgs", "test-labels")
    ]
    if not any(file.is_file() for file in files):
        return None
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: no {', '.join(missing)} — put the files there")
    try:
        arrays = [np.load(file, allow_pickle=False)["arr_0"] for file in files]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"{folder}: expected .npz files with one array each ({error}) — copy them again"
        ) from error
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{folder}: images {images.shape} and labels {labels.shape}: expected (points, height, width), a label an image"
            )
    return arrays
