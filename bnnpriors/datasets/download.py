"""Download the files of a published data set: checked by sha256, continued where they stopped, from the first good mirror."""

from __future__ import annotations

import os
import tarfile
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bnnpriors.datasets.transfer import TransferError, transfer

TIMEOUT = 30.0
"""Seconds that a server may be silent."""


def fetch(
    root: str | os.PathLike[str],
    checksums: Mapping[str, str],
    mirrors: Sequence[str],
    *,
    download: bool = True,
    timeout: float = TIMEOUT,
) -> Path:
    """Make sure that every file is in `root`, and return that folder.

    A file that is already there, or a `.gz` that is there unpacked, is used without any network, and is never
    replaced: one that differs from the published bytes is used with a warning. A download has its name only once its sha256 is
    right; until then it is `name.part`, which the next call continues, from any mirror. Processes that want the same folder at
    the same time wait for one another, and one of them downloads.

    Args:
        root: the folder; made if need be.
        checksums: file name → published sha256, in hex.
        mirrors: base addresses, tried in order for each file.
        download: whether the network may be used.
        timeout: seconds that a server may be silent before the next attempt.

    Raises:
        FileNotFoundError: a file is missing and `download` is false.
        ConnectionError: no mirror gave a file with the right checksum; says what each one answered.
    """
    folder = Path(root)
    present = [name for name in checksums if _present(folder, name)]
    if len(present) < len(checksums):
        _check_allowed(folder, [name for name in checksums if name not in present], download)
        with _alone(folder):
            _fetch_missing(folder, checksums, mirrors, timeout)
    _warn_of_other_bytes(folder, {name: checksums[name] for name in present})
    return folder


def fetch_archive(
    root: str | os.PathLike[str],
    archive: str,
    sha256: str,
    mirrors: Sequence[str],
    *,
    contents: str,
    download: bool = True,
    timeout: float = TIMEOUT,
) -> Path:
    """Make sure that the folder `contents` of a `.tar.gz` is unpacked in `root`, and return it.

    It appears complete or not at all. The archive is deleted once it is unpacked, unless it was there before.

    Args:
        root, mirrors, download, timeout: as for `fetch`. archive: its file name. sha256: its published checksum.
        contents: the one folder in it.

    Raises:
        FileNotFoundError, ConnectionError: as for `fetch`.
        ValueError: an archive of the user's own that cannot be unpacked or lacks the folder.
    """
    folder = Path(root)
    if (folder / contents).is_dir():
        return folder / contents
    if not _present(folder, archive):
        _check_allowed(folder, [f"{contents}/ or {archive}"], download)
    with _alone(folder):
        if not (folder / contents).is_dir():
            own = (folder / archive).is_file()
            if own:
                _warn_of_other_bytes(folder, {archive: sha256})
            _fetch_missing(folder, {archive: sha256}, mirrors, timeout)
            _unpack(folder, archive, contents)
            if not own:
                (folder / archive).unlink()
    return folder / contents


def cache_folder(name: str) -> Path:
    """The folder of one data set in the user's cache folder."""
    import pooch

    return Path(pooch.os_cache("bnnpriors")) / name


def _present(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / name.removesuffix(".gz")).is_file()


def _check_allowed(folder: Path, missing: Iterable[str], download: bool) -> None:
    if not download:
        raise FileNotFoundError(
            f"{folder}: no {', '.join(missing)} — put the files there, or give download=True"
        )


def _alone(folder: Path) -> AbstractContextManager[object]:
    """A lock that a process holds while it writes into the folder; the system frees it if that process dies."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def _fetch_missing(
    folder: Path, checksums: Mapping[str, str], mirrors: Sequence[str], timeout: float
) -> None:
    for name, sha256 in checksums.items():
        if not _present(folder, name):
            _retrieve(folder, name, sha256, mirrors, timeout)


def _retrieve(folder: Path, name: str, sha256: str, mirrors: Sequence[str], timeout: float) -> None:
    failures = []
    partial = folder / f"{name}.part"
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            transfer(url, partial, sha256, timeout=timeout)
        except TransferError as error:
            failures.append(f"{url}: {error}")
        else:
            partial.replace(folder / name)
            return
    kept = f" ({partial.name} is kept, and continued next time)" if partial.exists() else ""
    raise ConnectionError(
        f"{name}: no mirror gave the file with sha256 {sha256}{kept} — check the network, or put the file into "
        f"{folder} yourself:\n  " + "\n  ".join(failures)
    )


def _warn_of_other_bytes(folder: Path, checksums: Mapping[str, str]) -> None:
    import pooch

    for name, sha256 in checksums.items():
        if (folder / name).is_file() and pooch.file_hash(str(folder / name)) != sha256:
            warnings.warn(
                f"{folder / name}: not the official bytes, whose sha256 is {sha256}; used as it is "
                "— delete it to download the official file",
                stacklevel=4,
            )


def _unpack(folder: Path, archive: str, contents: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as place:
        try:
            with tarfile.open(folder / archive) as tar:
                tar.extractall(place, filter="data")
            (Path(place) / contents).replace(folder / contents)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(
                f"{folder / archive}: cannot be unpacked into {contents}/ ({error}) — delete it to download it again"
            ) from error
