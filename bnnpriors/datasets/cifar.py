"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in the published binary version or the published Python version.

A record of the binary version is one label byte (CIFAR-100: the superclass, then the class) and 3 × 32 × 32 colour bytes; a
file of the Python version is a pickled dictionary of the same.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.download import cache_folder, fetch_archive
from bnnpriors.datasets.images import Bytes, image_dataset

_PIXELS = 3 * 32 * 32
_MIRRORS_10 = (
    "https://www.cs.toronto.edu/~kriz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10",
)
_MIRRORS_100 = ("https://www.cs.toronto.edu/~kriz",)
_SHA256_10 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_SHA256_100 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"


class _Version(NamedTuple):
    """The files of one published version: how a part is called, and how one of its files is read."""

    folder: str
    train: str
    test: str
    read: Callable[[Path], tuple[Bytes, Bytes]]


def cifar10(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour images of 10 classes, [points, 3, 32, 32].

    Bytes are divided by 255, then standardised with one mean and one scale over all training pixels.

    Args:
        root: a folder with `cifar-10-batches-bin` or `cifar-10-batches-py` in it, or one of these two, used without network:
            `test_batch` and any of `data_batch_1` to `data_batch_5`, the training set being those that are there. An empty
            or new folder is where the download goes (162 MiB, unpacked 176 MiB); by default `cifar10` in the user's cache folder.
        download: whether a missing archive may be downloaded.
        num_train, num_test: how many images to keep; all by default.
        seed: which images a smaller set keeps: `None` the first in file order, otherwise a random choice with
            this seed.
        dtype: the floating type of the inputs.

    Raises:
        FileNotFoundError: no training batch or no test batch, or nothing at all and `download` is false.
        ConnectionError: no mirror gave the published archive.
        ValueError: a file that is not a whole number of records or no dictionary of images, a label above 9, more images
            wanted than there are.
    """
    versions = [
        _Version("cifar-10-batches-bin", "data_batch_[1-5].bin", "test_batch.bin", _binary(labels=1, use=0)),
        _Version("cifar-10-batches-py", "data_batch_[1-5]", "test_batch", _pickled(b"labels")),
    ]
    folder = Path(root) if root is not None else cache_folder("cifar10")
    train, test = _read(
        folder, versions, "cifar-10-binary.tar.gz", _SHA256_10, _MIRRORS_10, download=download
    )
    return image_dataset(
        "cifar10",
        train,
        test,
        num_classes=10,
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        dtype=dtype,
    )


def cifar100(
    root: str | os.PathLike[str] | None = None,
    *,
    labels: Literal["fine", "coarse"] = "fine",
    download: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """CIFAR-100: 50,000 + 10,000 colour images of 100 classes in 20 superclasses, [points, 3, 32, 32].

    Args:
        root: as for `cifar10`, with the folders `cifar-100-binary` and `cifar-100-python`, or one of these; by default `cifar100`
            in the user's cache folder (161 MiB to download).
        labels: "fine" for the 100 classes, "coarse" for the 20 superclasses.
        download, num_train, num_test, seed, dtype: as for `cifar10`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as for `cifar10`; other `labels`.
    """
    if labels not in ("fine", "coarse"):
        raise ValueError(f"labels {labels!r}: expected 'fine' or 'coarse'")
    use = 1 if labels == "fine" else 0
    versions = [
        _Version("cifar-100-binary", "train.bin", "test.bin", _binary(labels=2, use=use)),
        _Version("cifar-100-python", "train", "test", _pickled(f"{labels}_labels".encode())),
    ]
    folder = Path(root) if root is not None else cache_folder("cifar100")
    train, test = _read(
        folder, versions, "cifar-100-binary.tar.gz", _SHA256_100, _MIRRORS_100, download=download
    )
    return image_dataset(
        "cifar100",
        train,
        test,
        num_classes=100 if labels == "fine" else 20,
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        dtype=dtype,
    )


def _read(
    root: Path,
    versions: list[_Version],
    archive: str,
    sha256: str,
    mirrors: tuple[str, ...],
    *,
    download: bool,
) -> tuple[tuple[Bytes, Bytes], tuple[Bytes, Bytes]]:
    """Both parts, of whichever version is there, of the binary one otherwise."""
    places = [(version, place) for version in versions for place in (root / version.folder, root)]
    found = [
        (version, place)
        for version, place in places
        if any(place.glob(version.train)) or (place / version.test).is_file()
    ]
    if not found:
        place = fetch_archive(root, archive, sha256, mirrors, contents=versions[0].folder, download=download)
        found = [(versions[0], place)]
    version, place = found[0]
    train, test = sorted(place.glob(version.train)), place / version.test
    if not train or not test.is_file():
        raise FileNotFoundError(
            f"{place}: expected {version.train.replace('[1-5]', '1')} and {version.test} — unpack the published archive"
        )
    parts = [version.read(file) for file in train]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return (images, labels), version.read(test)


def _binary(*, labels: int, use: int) -> Callable[[Path], tuple[Bytes, Bytes]]:
    """A reader of records with so many label bytes, of which one is used."""
    record = labels + _PIXELS

    def read(file: Path) -> tuple[Bytes, Bytes]:
        content = np.fromfile(file, dtype=np.uint8)
        if content.size == 0 or content.size % record:
            raise ValueError(
                f"{file}: {content.size} bytes: expected a multiple of {record} — truncated? Copy it again"
            )
        records = content.reshape(-1, record)
        return records[:, labels:].reshape(-1, 3, 32, 32), records[:, use]

    return read


def _pickled(key: bytes) -> Callable[[Path], tuple[Bytes, Bytes]]:
    """A reader of pickled dictionaries, which takes the labels under `key`."""

    def read(file: Path) -> tuple[Bytes, Bytes]:
        try:
            with file.open("rb") as stream:
                content = _ArraysOnly(stream, encoding="bytes").load()
            images = np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            labels: NDArray[np.uint8] = np.asarray(content[key], dtype=np.uint8)
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{file}: expected a pickled dictionary with b'data' and {key!r} ({type(error).__name__}: {error})"
            ) from error
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"{file}: images {images.shape} and labels {labels.shape}: expected one label an image"
            )
        return images, labels

    return read


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays and nothing that could run code."""

    _ALLOWED = ("_reconstruct", "ndarray", "dtype", "encode")

    def find_class(self, module: str, name: str) -> Any:
        """NumPy's own constructors, and what pickles of Python 2 need."""
        if module.split(".")[0] in ("numpy", "_codecs") and name in self._ALLOWED:
            return np.empty(0).__reduce__()[0] if name == "_reconstruct" else super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} in it, expected arrays alone")
