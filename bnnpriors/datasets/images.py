"""What the loaders of pictures share: which images are kept, and how bytes become inputs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bnnpriors.datasets.dataset import Dataset

Bytes = NDArray[np.uint8]


def image_dataset(
    name: str,
    train: tuple[Bytes, Bytes],
    test: tuple[Bytes, Bytes],
    *,
    num_classes: int | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    flatten: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Images of bytes and their labels as a `Dataset`, standardised with one mean and one scale over all training pixels.

    Args:
        name: what to call the data.
        train, test: images [points, height, width] or [points, channels, height, width], and labels [points].
        num_classes: the largest training label plus one by default.
        num_train, num_test, seed, flatten, dtype: as for `idx`.

    Raises:
        ValueError: more images wanted than there are, and everything that `Dataset.from_raw` refuses.
    """
    classes = int(train[1].max()) + 1 if num_classes is None and train[1].size else num_classes
    kept = [
        (images[chosen], labels[chosen])
        for (images, labels), wanted, part in ((train, num_train, "training"), (test, num_test, "test"))
        for chosen in [choose(len(images), wanted, seed, f"{part} images of {name}")]
    ]
    (x_train, y_train), (x_test, y_test) = kept
    return Dataset.from_raw(
        name,
        pixels(x_train, flatten=flatten),
        y_train,
        pixels(x_test, flatten=flatten),
        y_test,
        kind="classification",
        num_classes=classes,
        shared_scale=True,
        dtype=dtype,
    )


def pixels(images: Bytes, *, flatten: bool) -> NDArray[np.float64]:
    """Levels from 0 to 1, as [points, pixels] or [points, channels, height, width]; grey images have one channel."""
    scaled = images / 255.0
    if flatten:
        return scaled.reshape(len(images), -1)
    return scaled[:, None] if scaled.ndim == 3 else scaled


def choose(available: int, wanted: int | None, seed: int | None, what: str) -> NDArray[np.int64]:
    """Indices of `wanted` of `available` points: the first ones, or with a seed a random choice without
    repeats."""
    if wanted is None:
        return np.arange(available)
    if not 1 <= wanted <= available:
        raise ValueError(f"{wanted} {what} wanted: expected 1 to {available}")
    return np.arange(wanted) if seed is None else np.random.default_rng(seed).permutation(available)[:wanted]
