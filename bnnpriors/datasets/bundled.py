"""Small real data sets that come with scikit-learn: they need no download."""

from __future__ import annotations

import torch

from bnnpriors.datasets.dataset import Dataset


def digits(*, seed: int = 0, test_fraction: float = 0.2, dtype: torch.dtype = torch.float32) -> Dataset:
    """1,797 handwritten digits of 8 × 8 pixels (Alpaydin & Kaynak, UCI 1998), flat: 64 features, 10 classes.

    Grey levels 0…16 are divided by 16, then standardised with one mean and one scale over all pixels.

    Args:
        seed: chooses the split, which is stratified by class.
        test_fraction: the part of the images that is held out, between 0 and 1.
        dtype: the floating type of the inputs.

    Raises:
        ValueError: a test fraction that is not strictly between 0 and 1, or that leaves a set with fewer
            images than classes.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    _check_fraction(test_fraction)
    inputs, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        inputs / 16.0, labels, test_size=test_fraction, random_state=seed, stratify=labels
    )
    return Dataset.from_raw(
        "digits",
        x_train,
        y_train,
        x_test,
        y_test,
        kind="classification",
        num_classes=10,
        shared_scale=True,
        dtype=dtype,
    )


def diabetes(*, seed: int = 0, test_fraction: float = 0.2, dtype: torch.dtype = torch.float32) -> Dataset:
    """442 patients, 10 features; the target is a measure of disease progression after a year (Efron et al.
    2004).

    The features are the original, unscaled ones, standardised here with the training set's statistics.

    Args:
        seed: chooses the split.
        test_fraction: the part of the patients that is held out, between 0 and 1.
        dtype: the floating type of inputs and targets.

    Raises:
        ValueError: a test fraction that is not strictly between 0 and 1.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    _check_fraction(test_fraction)
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    x_train, x_test, y_train, y_test = train_test_split(
        inputs, targets, test_size=test_fraction, random_state=seed
    )
    return Dataset.from_raw("diabetes", x_train, y_train, x_test, y_test, kind="regression", dtype=dtype)


def _check_fraction(test_fraction: float) -> None:
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(
            f"test_fraction {test_fraction}: expected a number strictly between 0 and 1, such as 0.2"
        )
