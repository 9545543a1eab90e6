"""The IDX parser and loader, on files made here and on the real MNIST."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import idx, read_idx


def test_the_array_comes_back(tmp_path: Path, idx_bytes: Callable[..., bytes]) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=(2, 3, 5))
    (tmp_path / "raw").write_bytes(idx_bytes(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "raw"), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "packed"), array)


def test_a_folder(idx_folder: Path) -> None:
    data = idx(idx_folder, dtype=torch.float64)
    raw = read_idx(idx_folder / "train-images-idx3-ubyte").reshape(12, 12) / 255
    assert (data.name, data.kind, data.num_outputs) == ("tiny", "classification", 3)
    assert data.x_test.shape == (5, 12)
    np.testing.assert_allclose(data.x_train, (raw - raw.mean()) / raw.std())
    assert data.y_test.tolist() == [0, 1, 2, 0, 1]


def test_images_keep_their_shape_on_request(idx_folder: Path) -> None:
    images = idx(idx_folder, flatten=False).x_train
    assert images.shape == (12, 1, 4, 3)
    assert torch.equal(images.flatten(1), idx(idx_folder).x_train)


def test_a_smaller_set_is_the_first_images_or_a_seeded_choice(idx_folder: Path) -> None:
    everything = idx(idx_folder)
    first = idx(idx_folder, num_train=2, num_test=3)
    assert first.y_train.tolist() == [0, 1]
    assert first.num_outputs == 3, "classes are counted before the choice"
    torch.testing.assert_close(first.denormalize(first.x_test), everything.denormalize(everything.x_test[:3]))

    chosen = idx(idx_folder, num_train=6, seed=4)
    assert torch.equal(chosen.x_train, idx(idx_folder, num_train=6, seed=4).x_train)
    assert not torch.equal(chosen.x_train, idx(idx_folder, num_train=6, seed=5).x_train)
    rows = {tuple(row) for row in chosen.denormalize(chosen.x_train).mul(255).round().int().tolist()}
    available = everything.denormalize(everything.x_train).mul(255).round().int().tolist()
    assert len(rows) == 6
    assert rows <= {tuple(row) for row in available}


@pytest.mark.parametrize("wanted", [0, -1, 13])
def test_an_impossible_number_of_images_is_refused(idx_folder: Path, wanted: int) -> None:
    with pytest.raises(ValueError, match=f"{wanted} training images of tiny wanted: expected 1 to 12"):
        idx(idx_folder, num_train=wanted)


def test_broken_files_are_refused(tmp_path: Path, idx_bytes: Callable[..., bytes]) -> None:
    good = idx_bytes(np.ones((4, 5)))
    packed = gzip.compress(good)
    cases = {
        "magic number": b"PNG!" + good,
        "magic number missing": b"",
        "type code 0x0d": idx_bytes(np.ones((4, 5)), type_code=0x0D),
        "header of 8 bytes for 2 dimensions": good[:8],
        "for 0 dimensions": b"\0\0\x08\0",
        "19 entries: expected 20": good[:-1],
        "21 entries: expected 20": good + b"\0",
        "corrupt or truncated gzip": packed[:-9],
        r"corrupt or truncated gzip \(CRC": packed[:-8] + b"\0" * 8,
    }
    for message, content in cases.items():
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_idx(tmp_path / "file")


def test_files_that_do_not_match_are_refused(idx_folder: Path, idx_bytes: Callable[..., bytes]) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11)))
    with pytest.raises(ValueError, match=r"train images \(12, 4, 3\) and labels \(11,\): expected one label"):
        idx(idx_folder)
    (idx_folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((12, 12))))
    with pytest.raises(ValueError, match=r"expected \(points, height, width\)"):
        idx(idx_folder)


def test_missing_files_are_named(idx_folder: Path) -> None:
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\[\.gz\]: no such file"):
        idx(idx_folder)


def test_real_mnist(shared_data: Path) -> None:
    data = idx(shared_data / "mnist", num_train=1000, flatten=False)
    assert data.x_train.shape == (1000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.num_outputs == 10
    assert data.input_mean.item() == pytest.approx(0.13, abs=0.01)
    assert data.input_scale.item() == pytest.approx(0.308, abs=0.01)
