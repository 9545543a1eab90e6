"""Folders and files in the formats of the loaders, small enough to make for each test."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def idx_bytes() -> Callable[..., bytes]:
    """The bytes of an IDX file that holds an array of unsigned bytes."""

    def encode(array: np.ndarray, *, type_code: int = 0x08) -> bytes:
        header = bytes([0, 0, type_code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        return header + array.astype(np.uint8).tobytes()

    return encode


@pytest.fixture
def idx_folder(tmp_path: Path, idx_bytes: Callable[..., bytes]) -> Path:
    """Twelve training and five test images of 4 × 3 pixels in three classes; the test files are gzip."""
    random = np.random.default_rng(0)
    folder = tmp_path / "tiny"
    folder.mkdir()
    for part, count in (("train", 12), ("t10k", 5)):
        images = random.integers(0, 256, size=(count, 4, 3))
        for name, array in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", np.arange(count) % 3),
        ):
            content = idx_bytes(array)
            if part == "t10k":
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def uci_folder(tmp_path: Path) -> Path:
    """Ten points, three features (the second constant) and one target, in two splits."""
    random = np.random.default_rng(1)
    folder = tmp_path / "toy"
    folder.mkdir()
    table = random.normal(loc=5.0, scale=3.0, size=(10, 4))
    table[:, 1] = 0.3
    np.savetxt(folder / "data.txt", table)
    (folder / "index_features.txt").write_text("0\n1\n2\n")
    (folder / "index_target.txt").write_text("3\n")
    (folder / "n_splits.txt").write_text("2\n")
    for split in range(2):
        rows = random.permutation(10)
        np.savetxt(folder / f"index_train_{split}.txt", rows[:8])
        np.savetxt(folder / f"index_test_{split}.txt", rows[8:])
    return folder


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """Serve a folder over HTTP on this machine, and give the address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
