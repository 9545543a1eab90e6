"""IDX, the format of MNIST and its kin: https://yann.lecun.com/exdb/mnist, section "The IDX file format".

A file is: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit
integer, then the entries in row-major order. These sets all use type code 0x08, unsigned bytes.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.images import image_dataset

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


def idx(
    path: str | os.PathLike[str],
    *,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """A folder of four IDX files, raw or gzip: `{train,t10k}-images-idx3-ubyte[.gz]`,
    `{train,t10k}-labels-idx1-ubyte[.gz]`.

    Grey levels are divided by 255, then standardised with one mean and one scale over all training pixels.

    Args:
        path: the folder.
        num_train: how many training images to keep; all by default.
        num_test: how many test images to keep; all by default.
        seed: which images a smaller set keeps: `None` the first in file order, otherwise a random choice with
            this seed.
        flatten: inputs [points, height · width] if true, [points, 1, height, width] otherwise.
        dtype: the floating type of the inputs.

    Raises:
        FileNotFoundError: no such folder, or one of the four files is missing.
        ValueError: a wrong magic number, a truncated or corrupt file, images and labels that do not match,
            more images wanted than there are.
    """
    folder = Path(path)
    return image_dataset(
        folder.name,
        read_pair(folder, "train"),
        read_pair(folder, "t10k"),
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        flatten=flatten,
        dtype=dtype,
    )


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The array in one IDX file of unsigned bytes, raw or gzip (told apart by content, not by name).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong magic number, another type of entry, or another length than the header states.
    """
    file = Path(path)
    content = file.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{file}: corrupt or truncated gzip ({error}) — copy or download it again"
            ) from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{file}: magic number {content[:4].hex() or 'missing'}: expected IDX, which begins with 0000"
        )
    type_code, dimensions = content[2], content[3]
    if type_code != _UNSIGNED_BYTES:
        raise ValueError(
            f"{file}: type code {type_code:#04x}: expected {_UNSIGNED_BYTES:#04x}, unsigned bytes"
        )
    start = 4 + 4 * dimensions
    if dimensions == 0 or len(content) < start:
        raise ValueError(
            f"{file}: header of {len(content)} bytes for {dimensions} dimensions — copy or download it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{file}: {len(content) - start} entries: expected {math.prod(shape)} for shape {shape} "
            "— copy or download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_images(folder: Path, part: str) -> NDArray[np.uint8]:
    """The images [points, height, width] of one part, "train" or "t10k", of a folder."""
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    if images.ndim != 3 or images.size == 0:
        raise ValueError(f"{folder}: {part} images of shape {images.shape}: expected (points, height, width)")
    return images


def read_pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images and labels of one part, "train" or "t10k", of a folder."""
    images, labels = read_images(folder, part), read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: {part} images {images.shape} and labels {labels.shape}: expected one label an image"
        )
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for file in (folder / f"{name}.gz", folder / name):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"{folder / name}[.gz]: no such file — expected a folder of IDX files, as MNIST is published"
    )
