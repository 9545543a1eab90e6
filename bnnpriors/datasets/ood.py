"""Inputs from outside the training distribution, on the training set's scale."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.idx import read_images
from bnnpriors.datasets.images import pixels
from bnnpriors.datasets.mnist import notmnist_test_folder


def out_of_distribution(
    dataset: Dataset, source: Dataset | str | os.PathLike[str] = "permuted", *, seed: int = 0
) -> Float[Tensor, "points ..."]:
    """Inputs on which a model of `dataset` ought to be unsure, on the training set's scale.

    The sources are:

    - "permuted": the test inputs with their features (pixels) in another order, one random order for all.
      Every input keeps its own values, so brightness gives nothing away: what is lost is the structure;
    - "inverted": the negatives 1 - x of test images whose pixels run from 0 to 1;
    - "notmnist": letters for digits, downloaded where they are not there yet;
    - another `Dataset`: its test inputs;
    - a folder of IDX files, such as notMNIST for MNIST: its test images (no other file is needed).

    Args:
        dataset: the data that the model was trained on.
        source: one of the above.
        seed: the order of "permuted"; the others have nothing random.

    Raises:
        ValueError: inputs of another shape than the training inputs, "inverted" for data that are not pixels,
            "permuted" for a single feature.
        FileNotFoundError: a `source` that is neither a known name nor a folder of IDX files.
        ConnectionError: "notmnist" could not be downloaded.
    """
    if isinstance(source, Dataset):
        return dataset.normalize(source.denormalize(source.x_test))
    if source == "permuted":
        return _permuted(dataset, seed)
    if source == "inverted":
        return _inverted(dataset)
    folder = notmnist_test_folder() if source == "notmnist" else Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"out-of-distribution source {str(source)!r}: "
            "expected 'permuted', 'inverted', 'notmnist', a Dataset or a folder of IDX files"
        )
    images = pixels(read_images(folder, "t10k"), flatten=dataset.x_train.ndim == 2)
    return dataset.normalize(torch.from_numpy(images))


def _permuted(dataset: Dataset, seed: int) -> Tensor:
    flat = dataset.x_test.flatten(1)
    features = flat.shape[1]
    if features < 2:
        raise ValueError(
            f"'permuted' for {dataset.name}, which has one feature: expected two or more — give a Dataset"
        )
    order = torch.randperm(features, generator=torch.Generator().manual_seed(seed))
    if torch.equal(order, torch.arange(features)):
        order = order.roll(1)
    return flat[:, order.to(flat.device)].reshape(dataset.x_test.shape)


def _inverted(dataset: Dataset) -> Tensor:
    raw = dataset.denormalize(dataset.x_test)
    lowest, highest = raw.min().item(), raw.max().item()
    if lowest < -1e-3 or highest > 1 + 1e-3:
        raise ValueError(
            f"'inverted' for {dataset.name}, whose inputs run from {lowest:g} to {highest:g}: "
            "expected pixels from 0 to 1 — use 'permuted' or give a Dataset"
        )
    return dataset.normalize(1.0 - raw)
