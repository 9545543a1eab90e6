"""MNIST at half its resolution, for machines without an accelerator."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import avg_pool2d

from bnnpriors.datasets import Dataset, idx


def mnist14(path: str, num_train: int | None = None, num_test: int | None = None) -> Dataset:
    """Means over 2 × 2 pixels of standardised images, flat: [points, 196]."""
    data = idx(path, num_train=num_train, num_test=num_test)
    return replace(data, name="mnist14", x_train=_halved(data.x_train), x_test=_halved(data.x_test))


def _halved(x: Tensor) -> Tensor:
    return avg_pool2d(x.view(-1, 1, 28, 28), 2).flatten(1)
