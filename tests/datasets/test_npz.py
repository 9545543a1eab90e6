"""A user's own arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import npz


def save(file: Path, targets: np.ndarray, **changes: np.ndarray) -> Path:
    inputs = np.random.default_rng(0).normal(size=(10, 3))
    arrays = {"x_train": inputs[:7], "y_train": targets[:7], "x_test": inputs[7:], "y_test": targets[7:]}
    np.savez(file, **(arrays | changes))
    return file


@pytest.mark.parametrize(
    ("targets", "kind", "num_outputs"),
    [
        (np.arange(10) % 4, "classification", 4),
        (np.arange(10) % 2 == 0, "classification", 2),
        (np.linspace(0, 1, 10), "regression", 1),
        (np.random.default_rng(1).normal(size=(10, 2)), "regression", 2),
    ],
)
def test_the_kind_follows_from_the_targets(tmp_path: Path, targets, kind: str, num_outputs: int) -> None:
    data = npz(save(tmp_path / "mine.npz", targets))
    assert (data.name, data.kind, data.num_outputs) == ("mine", kind, num_outputs)
    assert data.x_test.shape == (3, 3)


def test_the_kind_can_be_given(tmp_path: Path) -> None:
    floats = npz(save(tmp_path / "a.npz", np.arange(10.0) % 2), kind="classification")
    assert floats.y_train.dtype == torch.int64
    counts = npz(save(tmp_path / "b.npz", np.arange(10)), kind="regression", dtype=torch.float64)
    assert counts.y_train.dtype == torch.float64
    assert counts.y_train.shape == (7, 1)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        npz(tmp_path / "absent.npz")

    np.savez(tmp_path / "partial.npz", x_train=np.ones((2, 2)), y_train=np.ones(2))
    with pytest.raises(ValueError, match="no array x_test, y_test among x_train, y_train"):
        npz(tmp_path / "partial.npz")

    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"single\.npy: .*numpy\.savez"):
        npz(tmp_path / "single.npy")

    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"text\.npz: .*numpy\.savez"):
        npz(tmp_path / "text.npz")

    whole = save(tmp_path / "whole.npz", np.arange(10)).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.npz: .*numpy\.savez"):
        npz(tmp_path / "cut.npz")

    save(tmp_path / "objects.npz", np.array([{}] * 10))
    with pytest.raises(ValueError, match="numbers only"):
        npz(tmp_path / "objects.npz")


def test_wrong_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="y_train: 1 of 7 entries are NaN"):
        npz(save(tmp_path / "nan.npz", np.array([np.nan, *range(9)])))
    with pytest.raises(ValueError, match="label 9: expected whole numbers from 0 to 6"):
        npz(save(tmp_path / "new.npz", np.array([0, 1, 2, 3, 4, 5, 6, 0, 0, 9])))
