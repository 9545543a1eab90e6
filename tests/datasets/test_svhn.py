"""SVHN's MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from bnnpriors.datasets import svhn
from bnnpriors.datasets.svhn import _SHA256

pytestmark = pytest.mark.filterwarnings("ignore:.*not the official bytes")


def write(file: Path, labels: list[int], seed: int) -> np.ndarray:
    """As published: X [32, 32, 3, points], y [points, 1], and 10 for the digit 0."""
    images = np.random.default_rng(seed).integers(0, 256, size=(32, 32, 3, len(labels)), dtype=np.uint8)
    savemat(file, {"X": images, "y": np.array(labels, dtype=np.uint8)[:, None]})
    return images


def test_images_and_labels(tmp_path: Path) -> None:
    train = write(tmp_path / "train_32x32.mat", [1, 10, 9], 0)
    test = write(tmp_path / "test_32x32.mat", [10, 2], 1)
    data = svhn(tmp_path, download=False, dtype=torch.float64)
    assert (data.y_train.tolist(), data.y_test.tolist(), data.num_outputs) == ([1, 0, 9], [0, 2], 10)
    raw = (data.denormalize(data.x_train) * 255).numpy()
    for point in range(3):
        for channel in range(3):
            np.testing.assert_allclose(raw[point, channel], train[:, :, channel, point], atol=1e-9)
    np.testing.assert_allclose(
        data.denormalize(data.x_test)[1, 2] * 255, test[:, :, 2, 1].astype(float), atol=1e-9
    )
    assert svhn(tmp_path, num_train=1, num_test=1).x_train.shape == (1, 3, 32, 32)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no train_32x32\.mat, test_32x32\.mat"):
        svhn(tmp_path, download=False)
    write(tmp_path / "test_32x32.mat", [1], 0)
    file = tmp_path / "train_32x32.mat"
    images = np.zeros((32, 32, 3, 2), dtype=np.uint8)
    for content, message in (
        ({"X": images}, "expected a MATLAB file with X and y"),
        ({"X": images.astype(float), "y": [1, 2]}, "X float64"),
        ({"X": images, "y": [1, 2, 3]}, r"y \(3,\): expected bytes"),
        ({"X": images.transpose(3, 0, 1, 2), "y": [1, 2]}, r"\(2, 32, 32, 3\)"),
        ({"X": images, "y": [0, 2]}, "labels from 0 to 2: expected 1 to 10"),
    ):
        savemat(file, content)
        with pytest.raises(ValueError, match=message):
            svhn(tmp_path)
    savemat(file, {"X": images, "y": [1, 2]}, do_compression=True)
    for content in (b"", b"no matlab file at all" * 20, file.read_bytes()[:-9]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="expected a MATLAB file"):
            svhn(tmp_path)


def test_published_checksums_are_sha256() -> None:
    assert {len(bytes.fromhex(sha256)) for sha256 in _SHA256.values()} == {32}
