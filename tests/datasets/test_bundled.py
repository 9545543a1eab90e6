"""The data sets that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

from bnnpriors.datasets import Dataset, diabetes, digits


def test_digits() -> None:
    data = digits(seed=3)
    assert isinstance(data, Dataset)
    assert data.x_train.shape == (1437, 64)
    assert data.x_test.shape == (360, 64)
    assert (data.kind, data.num_outputs) == ("classification", 10)
    assert data.y_test.bincount().min() >= 34, "the split is stratified"
    raw = np.vstack([data.denormalize(data.x_train), data.denormalize(data.x_test)]) * 16
    expected = load_digits().data
    np.testing.assert_allclose(np.sort(raw.round().sum(1)), np.sort(expected.sum(1)))


def test_diabetes() -> None:
    data = diabetes(test_fraction=0.25, dtype=torch.float64)
    assert data.x_train.shape == (331, 10)
    assert data.y_test.shape == (111, 1)
    assert (data.kind, data.num_outputs) == ("regression", 1)
    torch.testing.assert_close(data.x_train.mean(0), torch.zeros(10, dtype=torch.float64))
    torch.testing.assert_close(data.x_train.std(0, correction=0), torch.ones(10, dtype=torch.float64))
    raw = torch.cat([data.y_train, data.y_test]) * data.target_scale + data.target_mean
    np.testing.assert_allclose(np.sort(raw[:, 0]), np.sort(load_diabetes().target))


@pytest.mark.parametrize("load", [digits, diabetes])
def test_the_seed_alone_chooses_the_split(load) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = load(seed=5)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(load(seed=5).x_test, first.x_test)
    assert not torch.equal(load(seed=6).x_test, first.x_test)


@pytest.mark.parametrize("load", [digits, diabetes])
@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_fraction_is_refused(load, fraction: float) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        load(test_fraction=fraction)
