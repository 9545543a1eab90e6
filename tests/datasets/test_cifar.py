"""CIFAR-10's binary version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import cifar10


def write_batch(file: Path, labels: list[int], seed: int) -> np.ndarray:
    images = np.random.default_rng(seed).integers(0, 256, size=(len(labels), 3072), dtype=np.uint8)
    np.concatenate([np.array(labels, dtype=np.uint8)[:, None], images], axis=1).tofile(file)
    return images.reshape(-1, 3, 32, 32)


def test_all_batches_that_are_there_are_read_in_order(tmp_path: Path) -> None:
    second = write_batch(tmp_path / "data_batch_2.bin", [4, 5], seed=2)
    first = write_batch(tmp_path / "data_batch_1.bin", [1, 2, 3], seed=1)
    write_batch(tmp_path / "test_batch.bin", [9], seed=3)
    data = cifar10(tmp_path, dtype=torch.float64)
    assert data.y_train.tolist() == [1, 2, 3, 4, 5]
    assert (data.kind, data.num_outputs) == ("classification", 10)
    np.testing.assert_allclose(
        data.denormalize(data.x_train) * 255, np.concatenate([first, second]), atol=1e-9
    )
    assert cifar10(tmp_path, num_train=2).y_train.tolist() == [1, 2]


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="unpack CIFAR-10's binary version"):
        cifar10(tmp_path)
    write_batch(tmp_path / "test_batch.bin", [0], seed=0)
    (tmp_path / "data_batch_1.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(ValueError, match="3072 bytes: expected a multiple of 3073"):
        cifar10(tmp_path)
    write_batch(tmp_path / "data_batch_1.bin", [3, 10], seed=0)
    with pytest.raises(ValueError, match="label 10: expected whole numbers from 0 to 9"):
        cifar10(tmp_path)


def test_real_cifar(shared_data: Path) -> None:
    data = cifar10(shared_data / "cifar-10-batches-bin", num_train=500)
    assert data.x_train.shape == (500, 3, 32, 32)
    assert data.x_test.shape[1:] == (3, 32, 32)
    assert data.y_test[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.input_mean.item() == pytest.approx(0.473, abs=0.03)
