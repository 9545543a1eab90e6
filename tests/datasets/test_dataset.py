"""What `Dataset.from_raw` promises: statistics of the training set alone, exact inverses, and errors that explain."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnpriors.datasets import Dataset


def raw_arrays(kind: str = "regression") -> dict:
    random = np.random.default_rng(0)
    targets = random.normal(20.0, 4.0, size=(30, 2)) if kind == "regression" else np.arange(30) % 3
    inputs = random.normal(-7.0, 0.1, size=(30, 4))
    return {
        "x_train": inputs[:20],
        "y_train": targets[:20],
        "x_test": inputs[20:],
        "y_test": targets[20:],
        "kind": kind,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_statistics_standardise_both_parts(dtype: torch.dtype) -> None:
    raw = raw_arrays()
    data = Dataset.from_raw("toy", **raw, dtype=dtype)
    mean, scale = raw["x_train"].mean(0), raw["x_train"].std(0)
    for part in ("train", "test"):
        expected = torch.as_tensor((raw[f"x_{part}"] - mean) / scale, dtype=dtype)
        torch.testing.assert_close(getattr(data, f"x_{part}"), expected)
    assert data.x_train.dtype == data.y_train.dtype == dtype
    assert data.num_outputs == 2
    recovered = data.y_test * data.target_scale + data.target_mean
    torch.testing.assert_close(recovered, torch.as_tensor(raw["y_test"], dtype=dtype))


def test_a_density_in_original_units_adds_the_log_of_the_scale() -> None:
    raw = raw_arrays()
    data = Dataset.from_raw("toy", **raw, dtype=torch.float64)
    standard = torch.distributions.Normal(0.3, 0.7).log_prob(data.y_test).sum(-1)
    loc, scale = 0.3 * data.target_scale + data.target_mean, 0.7 * data.target_scale
    original = torch.distributions.Normal(loc, scale).log_prob(torch.as_tensor(raw["y_test"])).sum(-1)
    torch.testing.assert_close(-original, -standard + data.target_scale.log().sum())


@settings(max_examples=25, deadline=None)
@given(offset=st.floats(-1e9, 1e9), spread=st.floats(1e-3, 1e3), shared=st.booleans())
def test_normalize_gives_back_the_loaded_inputs(offset: float, spread: float, shared: bool) -> None:
    raw = raw_arrays()
    x_train, x_test = raw["x_train"] * spread + offset, raw["x_test"] * spread + offset
    raw |= {"x_train": x_train, "x_test": x_test}
    data = Dataset.from_raw("toy", **raw, shared_scale=shared)
    torch.testing.assert_close(data.normalize(torch.as_tensor(x_test)), data.x_test)
    again = data.normalize(data.denormalize(data.x_test).double())
    assert torch.isfinite(again).all()


def test_constant_features_keep_scale_one() -> None:
    raw = raw_arrays()
    raw["x_train"][:, 2] = 0.1
    data = Dataset.from_raw("toy", **raw)
    assert data.input_scale[2] == 1.0
    assert torch.equal(data.x_train[:, 2], torch.zeros(20))


def test_a_shared_scale_is_one_number_for_all_pixels() -> None:
    raw = raw_arrays("classification")
    data = Dataset.from_raw("toy", **raw, shared_scale=True, dtype=torch.float64)
    assert data.input_mean.shape == data.input_scale.shape == ()
    torch.testing.assert_close(data.x_train.mean().item(), 0.0, atol=1e-9, rtol=0)
    torch.testing.assert_close(data.x_train.std(correction=0).item(), 1.0)


def test_labels_are_whole_numbers_and_are_not_scaled() -> None:
    data = Dataset.from_raw("toy", **raw_arrays("classification"))
    assert data.y_train.dtype == torch.int64
    assert (data.target_mean, data.target_scale, data.num_outputs) == (0.0, 1.0, 3)


def test_to_moves_every_tensor() -> None:
    data = Dataset.from_raw("toy", **raw_arrays()).to("meta")
    tensors = [value for value in vars(data).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 8
    assert all(tensor.device.type == "meta" for tensor in tensors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.full((20, 4), np.nan)}, "80 of 80 entries are NaN"),
        ({"y_test": np.full((10, 2), np.inf)}, "y_test: 20 of 20"),
        ({"x_train": np.array([["a", "b"]])}, "array of numbers"),
        ({"x_train": np.ones(20)}, "same number of points"),
        ({"y_train": np.ones(19)}, "same number of points"),
        ({"x_train": np.ones((0, 4)), "y_train": np.ones((0, 2))}, "one point or more"),
        ({"x_test": np.ones((10, 3))}, "same features"),
        ({"y_test": np.ones((10, 1))}, "same targets"),
    ],
)
def test_wrong_arrays_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset.from_raw("toy", **(raw_arrays() | changes))


def test_an_unknown_kind_is_refused() -> None:
    unchecked = inspect.unwrap(Dataset.from_raw.__func__)  # as users call it: without the tests' type checks
    with pytest.raises(ValueError, match="kind 'ranking' of toy: expected 'regression' or 'classification'"):
        unchecked(Dataset, "toy", **raw_arrays() | {"kind": "ranking"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.linspace(0, 2, 20)}, "label 0.105263: expected whole numbers from 0 to 2"),
        ({"y_train": np.arange(20) - 1}, "label -1"),
        ({"y_test": np.full(10, 3)}, "label 3: expected whole numbers from 0 to 2"),
        ({"num_classes": 2}, "label 2: expected whole numbers from 0 to 1"),
        ({"num_classes": 0}, "expected at least 1"),
        ({"y_train": np.ones((20, 1))}, "one class index a point"),
    ],
)
def test_wrong_labels_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset.from_raw("toy", **(raw_arrays("classification") | changes))


def test_inputs_of_another_shape_are_refused() -> None:
    data = Dataset.from_raw("toy", **raw_arrays())
    with pytest.raises(ValueError, match=r"inputs \(5, 3\) for toy: expected \(points, 4\)"):
        data.normalize(torch.zeros(5, 3))
