"""The downloader, against a server on this machine: nothing here needs a network."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import fashion_mnist, idx, kmnist, mnist, notmnist, out_of_distribution
from bnnpriors.datasets.download import fetch
from bnnpriors.datasets.mnist import _FASHION_SHA256, _KMNIST_SHA256, _MNIST_SHA256, _NOTMNIST_SHA256

mnist_module = sys.modules["bnnpriors.datasets.mnist"]  # the name itself is the loader's
CONTENT = {"a.gz": b"first file", "b.gz": b"second file"}
CHECKSUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}


def test_files_are_downloaded_once(origin: Path, tmp_path: Path, serve: Callable[[Path], str]) -> None:
    root = tmp_path / "deep" / "cache"
    assert fetch(root, CHECKSUMS, [serve(origin)]) == root
    assert contents(root) == CONTENT
    assert fetch(root, CHECKSUMS, [NOWHERE]) == root, "the second time needs no server"
    assert fetch(root, CHECKSUMS, [], download=False) == root


def test_only_missing_files_are_downloaded(
    origin: Path, tmp_path: Path, serve: Callable[[Path], str]
) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    (root / "a.gz").write_bytes(CONTENT["a.gz"])
    (origin / "a.gz").unlink()
    fetch(root, CHECKSUMS, [serve(origin)])
    assert contents(root) == CONTENT


def test_the_next_mirror_steps_in(origin: Path, tmp_path: Path, serve: Callable[[Path], str]) -> None:
    tampered, empty = tmp_path / "tampered", tmp_path / "empty"
    tampered.mkdir()
    empty.mkdir()
    for name in CONTENT:
        (tampered / name).write_bytes(b"something else")
    fetch(tmp_path / "cache", CHECKSUMS, [NOWHERE, serve(empty), serve(tampered), serve(origin) + "/"])
    assert contents(tmp_path / "cache") == CONTENT


def test_a_wrong_checksum_is_never_kept(origin: Path, tmp_path: Path, serve: Callable[[Path], str]) -> None:
    (origin / "b.gz").write_bytes(b"tampered")
    with pytest.raises(ConnectionError, match=r"b\.gz: no mirror gave the file with sha256"):
        fetch(tmp_path / "cache", CHECKSUMS, [serve(origin)])
    assert contents(tmp_path / "cache") == {"a.gz": CONTENT["a.gz"]}


def test_the_error_says_what_each_mirror_answered(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    (tmp_path / "empty").mkdir()
    address = serve(tmp_path / "empty")
    with pytest.raises(ConnectionError) as caught:
        fetch(tmp_path / "cache", CHECKSUMS, [address, NOWHERE])
    message = str(caught.value)
    assert f"{address}/a.gz: 404" in message
    assert f"{NOWHERE}/a.gz: " in message
    assert "put the file into" in message


def test_without_download_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no a\.gz, b\.gz — put the files there, or give download=True"
    ):
        fetch(tmp_path, CHECKSUMS, [NOWHERE], download=False)


def test_a_file_of_the_users_is_used_with_a_warning_and_not_replaced(
    origin: Path, tmp_path: Path, serve: Callable[[Path], str]
) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    (root / "a.gz").write_bytes(b"my own")
    (root / "b").write_bytes(b"unpacked")
    with pytest.warns(UserWarning, match=r"a\.gz: not the official bytes"):
        fetch(root, CHECKSUMS, [serve(origin)])
    assert contents(root) == {"a.gz": b"my own", "b": b"unpacked"}


@pytest.mark.parametrize("load", [mnist, fashion_mnist, kmnist, notmnist])
def test_the_named_sets_read_what_is_there(load, idx_folder: Path) -> None:
    with pytest.warns(UserWarning, match="not the official bytes"):
        data = load(idx_folder, download=False, num_train=5, flatten=False)
    assert data.x_train.shape == (5, 1, 4, 3)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, kmnist, notmnist])
def test_the_named_sets_do_not_download_unasked(load, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load(tmp_path, download=False)


@pytest.mark.parametrize("checksums", [_MNIST_SHA256, _FASHION_SHA256, _KMNIST_SHA256])
def test_checksums_are_sha256_of_the_four_files(checksums: dict[str, str]) -> None:
    assert sorted(checksums) == sorted(
        f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    )
    assert all(len(bytes.fromhex(checksum)) == 32 for checksum in checksums.values())


def test_published_checksums_hold_for_the_official_files(shared_data: Path) -> None:
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        content = (shared_data / "mnist" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == _MNIST_SHA256[name]


def test_mnist_end_to_end(shared_data: Path) -> None:
    """Only the training images beside the checkout differ from the published ones, so only they are warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = mnist(shared_data / "mnist", download=False, num_train=10, num_test=10)
    assert ["train-images" in str(warning.message) for warning in caught] == [True]
    assert data.y_train.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert torch.isfinite(data.x_train).all()


def test_letters_need_a_checksum_to_be_downloaded(
    idx_folder: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is published of the training files: with one from the user they are fetched like the others."""
    monkeypatch.setattr(mnist_module, "_NOTMNIST_MIRRORS", (serve(idx_folder),))
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (idx_folder / name).rename(idx_folder / f"{name}.gz")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in idx_folder.iterdir()}
    root = tmp_path / "letters"
    with pytest.raises(FileNotFoundError, match=r"train-images.*give checksums=\{name: sha256\}"):
        notmnist(root)
    assert notmnist(root, checksums=sums).x_train.shape == (12, 12)
    assert notmnist(root, download=False, checksums=sums).x_test.shape == (5, 12)


def test_letters_out_of_distribution_are_downloaded(
    idx_folder: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    sha256 = hashlib.sha256((idx_folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(mnist_module, "_NOTMNIST_MIRRORS", (serve(idx_folder),))
    monkeypatch.setattr(mnist_module, "_NOTMNIST_SHA256", {name: sha256})
    monkeypatch.setattr(mnist_module, "cache_folder", lambda _: tmp_path / "cache")
    data = idx(idx_folder)
    torch.testing.assert_close(out_of_distribution(data, "notmnist"), data.x_test)
    assert (tmp_path / "cache" / name).is_file()


def test_checksums_of_the_letters_hold_for_the_files(shared_data: Path) -> None:
    for name, sha256 in _NOTMNIST_SHA256.items():
        assert hashlib.sha256((shared_data / "notmnist" / name).read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize("flatten", [True, False])
def test_characters_as_numpy_arrays(tmp_path: Path, flatten: bool) -> None:
    """kmnist-train-imgs.npz and its companions, one array each, as published."""
    images = np.random.default_rng(0).integers(0, 256, size=(4, 5, 6), dtype=np.uint8)
    for part, chosen in (("train", slice(0, 3)), ("test", slice(3, 4))):
        np.savez_compressed(tmp_path / f"kmnist-{part}-imgs.npz", images[chosen])
        np.savez_compressed(
            tmp_path / f"kmnist-{part}-labels.npz", np.array([3, 1, 9, 0], dtype=np.uint8)[chosen]
        )
    data = kmnist(tmp_path, download=False, flatten=flatten, dtype=torch.float64)
    assert (data.y_train.tolist(), data.y_test.tolist(), data.num_outputs) == ([3, 1, 9], [0], 10)
    shape = (3, 30) if flatten else (3, 1, 5, 6)
    np.testing.assert_allclose(
        data.denormalize(data.x_train) * 255, images[:3].reshape(shape).astype(float), atol=1e-9
    )


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        np.savez(tmp_path / f"kmnist-{part}-imgs.npz", np.zeros((2, 5, 5), dtype=np.uint8))
    with pytest.raises(FileNotFoundError, match=r"no kmnist-train-labels\.npz, kmnist-test-labels\.npz"):
        kmnist(tmp_path)
    for part in ("train", "test"):
        np.savez(tmp_path / f"kmnist-{part}-labels.npz", np.zeros(3, dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"labels \(3,\): expected \(points, height, width\), a label an image"
    ):
        kmnist(tmp_path)
    (tmp_path / "kmnist-train-labels.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"expected \.npz files with one array each"):
        kmnist(tmp_path)
