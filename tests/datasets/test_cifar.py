"""CIFAR-10 and CIFAR-100 in both published versions, and their archive."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bnnpriors.datasets import cifar, cifar10, cifar100
from bnnpriors.datasets.download import fetch_archive

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, 3072), dtype=np.uint8)


def write_batch(file: Path, *labels: list[int], seed: int) -> np.ndarray:
    pixels = images(len(labels[0]), seed)
    np.concatenate([np.array(labels, dtype=np.uint8).T, pixels], axis=1).tofile(file)
    return pixels.reshape(-1, 3, 32, 32)


def write_pickle(file: Path, seed: int, **labels: list[int]) -> np.ndarray:
    """As the Python version is: byte strings for keys, and protocol 2."""
    pixels = images(len(next(iter(labels.values()))), seed)
    content = {b"data": pixels, b"batch_label": b"x"} | {
        name.encode(): value for name, value in labels.items()
    }
    file.write_bytes(pickle.dumps(content, protocol=2))
    return pixels.reshape(-1, 3, 32, 32)


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


@pytest.mark.parametrize("inside", [True, False], ids=["above", "itself"])
def test_the_python_version_is_read_from_its_folder_or_from_the_one_above(
    tmp_path: Path, inside: bool
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    first = write_pickle(folder / "data_batch_1", 1, labels=[1, 2, 3])
    second = write_pickle(folder / "data_batch_2", 2, labels=[4])
    test = write_pickle(folder / "test_batch", 3, labels=[9, 0])
    data = cifar10(tmp_path if inside else folder, download=False, dtype=torch.float64)
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([1, 2, 3, 4], [9, 0])
    np.testing.assert_allclose(
        data.denormalize(data.x_train) * 255, np.concatenate([first, second]), atol=1e-9
    )
    np.testing.assert_allclose(data.denormalize(data.x_test) * 255, test, atol=1e-9)


def test_the_hundred_classes_and_their_superclasses(tmp_path: Path) -> None:
    """The binary record has the superclass first; both versions give the same."""
    binary, python = tmp_path / "cifar-100-binary", tmp_path / "cifar-100-python"
    for folder in (binary, python):
        folder.mkdir()
    for part, coarse, fine in (("train", [3, 19], [40, 99]), ("test", [0], [7])):
        seed = len(coarse)
        write_batch(binary / f"{part}.bin", coarse, fine, seed=seed)
        write_pickle(python / part, seed, coarse_labels=coarse, fine_labels=fine)
    for place in (tmp_path, binary, python):
        data = cifar100(place, download=False)
        assert (data.y_train.tolist(), data.y_test.tolist(), data.num_outputs) == ([40, 99], [7], 100)
        data = cifar100(place, labels="coarse", download=False)
        assert (data.y_train.tolist(), data.y_test.tolist(), data.num_outputs) == ([3, 19], [0], 20)
    first, other = cifar100(binary), cifar100(python)
    torch.testing.assert_close(first.x_train, other.x_train, rtol=0, atol=0)


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no cifar-10-batches-bin/ or cifar-10-binary.tar.gz"):
        cifar10(tmp_path, download=False)
    write_batch(tmp_path / "test_batch.bin", [0], seed=0)
    with pytest.raises(FileNotFoundError, match=r"expected data_batch_1\.bin and test_batch\.bin"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(ValueError, match="3072 bytes: expected a multiple of 3073"):
        cifar10(tmp_path)
    write_batch(tmp_path / "data_batch_1.bin", [3, 10], seed=0)
    with pytest.raises(ValueError, match="label 10: expected whole numbers from 0 to 9"):
        cifar10(tmp_path)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_other_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels 'both': expected 'fine' or 'coarse'"):
        cifar100(tmp_path, labels="both")


class Command:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch pwned",)


def test_broken_and_harmful_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pickle(tmp_path / "test_batch", 0, labels=[1])
    for content, message in (
        (pickle.dumps(Command()), "posix.system in it, expected arrays alone"),
        (pickle.dumps([1, 2]), "expected a pickled dictionary"),
        (pickle.dumps({b"data": images(2, 0)}), "KeyError"),
        (pickle.dumps({b"data": images(2, 0), b"labels": [1]}), "expected one label an image"),
        (b"", "EOFError"),
        (b"no pickle", "UnpicklingError"),
    ):
        (tmp_path / "data_batch_1").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            cifar10(tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with a small archive as CIFAR-10 is published."""
    content = tmp_path / "content" / "cifar-10-batches-bin"
    content.mkdir(parents=True)
    write_batch(content / "data_batch_1.bin", [1, 2], seed=1)
    write_batch(content / "test_batch.bin", [3], seed=2)
    origin = tmp_path / "origin"
    origin.mkdir()
    with tarfile.open(origin / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(content, arcname=content.name)
    return origin


def test_the_archive_is_downloaded_and_unpacked_once(
    archive: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256((archive / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "_SHA256_10", sha256)
    monkeypatch.setattr(cifar, "_MIRRORS_10", (NOWHERE, serve(archive)))
    root = tmp_path / "cache"
    assert cifar10(root).y_train.tolist() == [1, 2]
    assert [file.name for file in root.iterdir() if file.name != ".lock"] == ["cifar-10-batches-bin"]
    monkeypatch.setattr(cifar, "_MIRRORS_10", (NOWHERE,))
    assert cifar10(root).y_train.tolist() == [1, 2]


def test_an_archive_of_the_users_is_unpacked_and_kept(archive: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not the official bytes"):
        assert cifar10(archive, download=False).y_train.tolist() == [1, 2]
    assert sorted(file.name for file in archive.iterdir() if file.name != ".lock") == [
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
    ]


@pytest.mark.parametrize("keep", [100, -200], ids=["beginning", "without its end"])
@pytest.mark.filterwarnings("ignore:.*not the official bytes")
def test_an_archive_that_is_cut_short_leaves_no_half_a_folder(archive: Path, keep: int) -> None:
    file = archive / "cifar-10-binary.tar.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cannot be unpacked into cifar-10-batches-bin/"):
        cifar10(archive)
    assert [f.name for f in archive.iterdir() if f.name != ".lock"] == [file.name]


@pytest.mark.filterwarnings("ignore:.*not the official bytes")
def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "file", arcname="../../escaped")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        fetch_archive(tmp_path, "a.tar.gz", "0", [], contents="inside")
    assert not (tmp_path.parent / "escaped").exists()


def test_published_checksums_are_sha256() -> None:
    assert {len(bytes.fromhex(sha256)) for sha256 in (cifar._SHA256_10, cifar._SHA256_100)} == {32}


def test_real_cifar(shared_data: Path) -> None:
    data = cifar10(shared_data / "cifar-10-batches-bin", num_train=500)
    assert data.x_train.shape == (500, 3, 32, 32)
    assert data.x_test.shape[1:] == (3, 32, 32)
    assert data.y_test[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.input_mean.item() == pytest.approx(0.473, abs=0.03)
    above = cifar10(shared_data, num_train=5, num_test=5)
    torch.testing.assert_close(above.y_test, data.y_test[:5], rtol=0, atol=0)
