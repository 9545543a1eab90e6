"""The UCI folders, made here and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import uci

# name: points, features, splits, as published by Hernandez-Lobato & Adams (2015)
PUBLISHED = {
    "bostonHousing": (506, 13, 20),
    "concrete": (1030, 8, 20),
    "energy": (768, 8, 20),
    "kin8nm": (8192, 8, 20),
    "naval-propulsion-plant": (11934, 16, 20),
    "wine-quality-red": (1599, 11, 20),
    "protein-tertiary-structure": (45730, 9, 5),
}


def test_the_published_rows_and_columns_are_used(uci_folder: Path) -> None:
    data = uci(uci_folder, split=1, dtype=torch.float64)
    table = np.loadtxt(uci_folder / "data.txt")
    rows = np.loadtxt(uci_folder / "index_test_1.txt").astype(int)
    assert (data.name, data.kind, data.num_outputs) == ("toy", "regression", 1)
    np.testing.assert_allclose(data.denormalize(data.x_test), table[rows, :3])
    np.testing.assert_allclose(data.y_test * data.target_scale + data.target_mean, table[rows, 3:])
    assert data.input_scale[1] == 1.0, "the constant feature keeps its scale"


def test_splits_differ(uci_folder: Path) -> None:
    assert not torch.equal(uci(uci_folder, split=0).x_test, uci(uci_folder, split=1).x_test)


def test_a_nested_data_folder_is_found(uci_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    uci_folder.rename(tmp_path / "outer" / "data")
    assert uci(tmp_path / "outer").name == "outer"


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_folders(shared_data: Path, name: str) -> None:
    points, features, splits = PUBLISHED[name]
    data = uci(shared_data / "uci" / name, split=splits - 1)
    assert len(data.x_train) + len(data.x_test) == points
    assert len(data.x_test) / points == pytest.approx(0.1, abs=0.002)
    assert data.x_train.shape[1] == features
    assert data.num_outputs == 1
    assert torch.isfinite(data.x_test).all()
    with pytest.raises(ValueError, match=f"split {splits} of {name}: expected 0 to {splits - 1}"):
        uci(shared_data / "uci" / name, split=splits)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("index_features.txt", "0\n9\n", r"index 9: expected whole numbers from 0 to 3 \(columns"),
        ("index_features.txt", "0\n0\n", "occurs twice"),
        ("index_features.txt", "0\n3\n", "feature and target columns share 1 indices, such as 3"),
        ("index_train_0.txt", "0\n1.5\n", "index 1.5"),
        ("index_train_0.txt", "0\n-1\n", "index -1"),
        ("index_train_0.txt", "0\nnan\n", "index nan"),
        ("index_test_0.txt", "0\n10\n", r"index 10: expected whole numbers from 0 to 9 \(rows"),
        ("index_test_0.txt", "\n".join(map(str, range(10))), "training and test rows of split 0 share 8"),
        ("index_test_0.txt", "", "empty file"),
        ("data.txt", "1 2\n3\n", "numbers separated by spaces"),
        ("data.txt", "1 2 3 word\n" * 10, "numbers separated by spaces"),
        ("data.txt", "1 2 3 nan\n" * 10, "NaN or infinite"),
    ],
)
def test_broken_files_are_refused(uci_folder: Path, file: str, content: str, message: str) -> None:
    (uci_folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        uci(uci_folder)


@pytest.mark.parametrize("split", [-1, 2])
def test_a_split_that_does_not_exist_is_refused(uci_folder: Path, split: int) -> None:
    with pytest.raises(ValueError, match=rf"split {split} of toy: expected 0 to 1 \(2 splits\)"):
        uci(uci_folder, split=split)


def test_missing_files_are_named(uci_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        uci(tmp_path / "absent")
    (uci_folder / "index_train_0.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"index_train_0\.txt: missing"):
        uci(uci_folder)
