"""Out-of-distribution inputs: on the training set's scale, whatever their own statistics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bnnpriors.datasets import Dataset, diabetes, digits, idx, out_of_distribution, read_idx, uci


def test_permuted_pixels_keep_every_value_of_each_image() -> None:
    data = digits()
    permuted = out_of_distribution(data)
    assert permuted.shape == data.x_test.shape
    assert torch.equal(permuted.sort(dim=1).values, data.x_test.sort(dim=1).values)
    moved = (permuted != data.x_test).any(dim=0)
    assert moved.float().mean() > 0.8, "nearly every pixel is somewhere else"


def test_the_seed_alone_chooses_the_order() -> None:
    data = digits()
    first = out_of_distribution(data, "permuted", seed=1)
    torch.manual_seed(0)
    assert torch.equal(out_of_distribution(data, "permuted", seed=1), first)
    assert not torch.equal(out_of_distribution(data, "permuted", seed=2), first)


def test_the_order_is_never_the_original() -> None:
    data = digits()
    two = dataclasses.replace(data, x_test=data.x_test[:, 20:22])
    for seed in range(10):
        assert torch.equal(out_of_distribution(two, seed=seed), two.x_test.flip(1))


def test_permuted_images_keep_their_shape(idx_folder: Path) -> None:
    data = idx(idx_folder, flatten=False)
    assert out_of_distribution(data, "permuted").shape == (5, 1, 4, 3)


def test_inverted_pixels_are_negatives() -> None:
    data = digits(dtype=torch.float64)
    inverted = data.denormalize(out_of_distribution(data, "inverted"))
    torch.testing.assert_close(inverted, 1 - data.denormalize(data.x_test))


def test_another_set_is_put_on_the_training_scale(idx_folder: Path) -> None:
    data = idx(idx_folder)
    images = torch.tensor(read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")).reshape(5, 12)
    darker = Dataset.from_raw(
        "darker", images / 510, torch.zeros(5), images / 510, torch.zeros(5), kind="classification"
    )
    shifted = out_of_distribution(data, darker)
    torch.testing.assert_close(shifted, data.normalize(images / 510))
    assert shifted.mean() < -0.5, "its own statistics would have hidden that it is darker"


def test_a_folder_needs_its_test_images_only(idx_folder: Path) -> None:
    for flatten in (True, False):
        data = idx(idx_folder, flatten=flatten)
        torch.testing.assert_close(out_of_distribution(data, str(idx_folder)), data.x_test)
    for file in {*idx_folder.glob("train-*"), *idx_folder.glob("*labels*")}:
        file.unlink()
    torch.testing.assert_close(out_of_distribution(data, idx_folder), data.x_test)


def test_real_letters_for_real_digits(shared_data: Path) -> None:
    data = idx(shared_data / "mnist", num_train=1000)
    letters = out_of_distribution(data, shared_data / "notmnist")
    assert letters.shape == (10000, 784)
    brightness = data.denormalize(letters).mean().item()
    assert brightness > 0.3, "letters are much brighter than digits, and stay so on the digits' scale"
    assert letters.mean() > 0.5


def test_wrong_sources_are_refused(idx_folder: Path, uci_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source 'permutated': expected 'permuted', 'inverted'"):
        out_of_distribution(digits(), "permutated")
    with pytest.raises(FileNotFoundError, match="no such file"):
        out_of_distribution(digits(), uci_folder)
    with pytest.raises(ValueError, match="expected pixels from 0 to 1"):
        out_of_distribution(diabetes(), "inverted")
    with pytest.raises(ValueError, match=r"inputs \(5, 12\) for digits: expected \(points, 64\)"):
        out_of_distribution(digits(), idx_folder)
    data = uci(uci_folder)
    one = dataclasses.replace(data, x_test=data.x_test[:, :1])
    with pytest.raises(ValueError, match="has one feature"):
        out_of_distribution(one, "permuted")
