"""Download the files of a published data set, checked by sha256, from the first mirror that has them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path


def fetch(
    root: str | os.PathLike[str],
    checksums: Mapping[str, str],
    mirrors: Sequence[str],
    *,
    download: bool = True,
) -> Path:
    """Make sure that every file is in `root`, and return that folder.

    A file that is already there, or a `.gz` that is there unpacked, is used without any network, and is never
    replaced: one that differs from the published bytes is used with a warning. A download is kept only if
    its sha256 is right.

    Args:
        root: the folder; made if need be.
        checksums: file name → published sha256, in hex.
        mirrors: base addresses, tried in order for each file.
        download: whether the network may be used.

    Raises:
        FileNotFoundError: a file is missing and `download` is false.
        ConnectionError: no mirror gave a file with the right checksum; says what each one answered.
    """
    import pooch

    folder = Path(root)
    missing = [name for name in checksums if not _present(folder, name)]
    if missing and not download:
        raise FileNotFoundError(
            f"{folder}: no {', '.join(missing)} — put the files there, or give download=True"
        )
    for name, sha256 in checksums.items():
        if name in missing:
            _retrieve(folder, name, sha256, mirrors)
        elif (folder / name).is_file() and pooch.file_hash(str(folder / name)) != sha256:
            warnings.warn(
                f"{folder / name}: not the official bytes, whose sha256 is {sha256}; used as it is "
                "— delete it to download the official file",
                stacklevel=3,
            )
    return folder


def _present(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / name.removesuffix(".gz")).is_file()


def _retrieve(folder: Path, name: str, sha256: str, mirrors: Sequence[str]) -> None:
    import pooch

    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder)
            return
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    raise ConnectionError(
        f"{name}: no mirror gave the file with sha256 {sha256} — check the network, or put the file into "
        f"{folder} yourself:\n  " + "\n  ".join(failures)
    )
