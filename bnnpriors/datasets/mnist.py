"""MNIST and Fashion-MNIST by name: downloaded once, checked by sha256, and read by `idx`."""

from __future__ import annotations

import os

import torch

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.download import fetch
from bnnpriors.datasets.idx import idx

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
    folder = fetch(root or _cache("mnist"), _MNIST_SHA256, _MNIST_MIRRORS, download=download)
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
    folder = fetch(root or _cache("fashion-mnist"), _FASHION_SHA256, _FASHION_MIRRORS, download=download)
    return idx(folder, num_train=num_train, num_test=num_test, seed=seed, flatten=flatten, dtype=dtype)


def _cache(name: str) -> str:
    import pooch

    return str(pooch.os_cache("bnnpriors") / name)
