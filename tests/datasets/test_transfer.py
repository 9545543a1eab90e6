"""Interruptions, wrong bytes, silence and crowds, against a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bnnpriors
from bnnpriors.datasets.download import fetch

from .unreliable import Server

NAME = "file.gz"
CONTENT = bytes(range(256)) * 4000  # about a megabyte
CHECKSUMS = {NAME: hashlib.sha256(CONTENT).hexdigest()}
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start a server of `CONTENT`, or of other bytes under the same name."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[Server] = []

    def start(content: bytes = CONTENT, **settings: object) -> Server:
        folder = tmp_path / f"origin-{len(servers)}"
        folder.mkdir()
        (folder / NAME).write_bytes(content)
        servers.append(Server(folder, **settings))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.requests]


def test_an_interrupted_transfer_goes_on_where_it_stopped(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(cuts=[300_000, 200_000])
    fetch(tmp_path / "cache", CHECKSUMS, [server.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=300000-", "bytes=500000-"]


def test_a_transfer_that_failed_is_continued_by_the_next_call(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """Never under its own name before it is whole; the error says that it will go on."""
    root, server = tmp_path / "cache", serve(cuts=[400_000, 0])
    with pytest.raises(ConnectionError, match=r"file\.gz\.part is kept, and continued next time"):
        fetch(root, CHECKSUMS, [server.address])
    assert not (root / NAME).exists()
    assert (root / f"{NAME}.part").read_bytes() == CONTENT[:400_000]
    fetch(root, CHECKSUMS, [server.address])
    assert (root / NAME).read_bytes() == CONTENT
    assert not (root / f"{NAME}.part").exists()
    assert ranges(server)[-1] == "bytes=400000-"


def test_the_next_mirror_continues(tmp_path: Path, serve: Callable[..., Server]) -> None:
    first, second = serve(cuts=[400_000, 0]), serve()
    fetch(tmp_path / "cache", CHECKSUMS, [first.address, second.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    assert ranges(second) == ["bytes=400000-"]


def test_a_server_without_ranges_sends_everything_again(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(cuts=[400_000], ranges=False)
    fetch(tmp_path / "cache", CHECKSUMS, [server.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=400000-"]


def test_a_server_that_sends_another_range_is_passed_over(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    liar, server = serve(cuts=[400_000], wrong_range=True), serve()
    fetch(tmp_path / "cache", CHECKSUMS, [liar.address, server.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=400000-"]


@pytest.mark.parametrize("left_over", [b"rubbish" * 1000, CONTENT + b"too long", CONTENT[:-1] + b"?"])
def test_a_wrong_beginning_is_thrown_away(
    tmp_path: Path, serve: Callable[..., Server], left_over: bytes
) -> None:
    root, server = tmp_path / "cache", serve()
    root.mkdir()
    (root / f"{NAME}.part").write_bytes(left_over)
    fetch(root, CHECKSUMS, [server.address])
    assert (root / NAME).read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={len(left_over)}-", None]


def test_a_whole_part_needs_a_name_only(tmp_path: Path, serve: Callable[..., Server]) -> None:
    root, server = tmp_path / "cache", serve()
    root.mkdir()
    (root / f"{NAME}.part").write_bytes(CONTENT)
    fetch(root, CHECKSUMS, [server.address])
    assert (root / NAME).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, serve: Callable[..., Server]) -> None:
    root, server = tmp_path / "cache", serve(b"tampered")
    with pytest.raises(ConnectionError, match=r"another sha256, [0-9a-f]{64}"):
        fetch(root, CHECKSUMS, [server.address])
    assert [file.name for file in root.iterdir() if not file.name.startswith(".")] == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "answer"), [(404, "404"), (403, "403"), (500, "500")])
def test_what_a_server_refuses_comes_from_the_next(
    tmp_path: Path, serve: Callable[..., Server], status: int, answer: str
) -> None:
    broken, server = serve(status=status), serve()
    fetch(tmp_path / "cache", CHECKSUMS, [NOWHERE, broken.address, server.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    with pytest.raises(ConnectionError, match=f"{broken.address}/{NAME}: {answer}"):
        fetch(tmp_path / "other", CHECKSUMS, [broken.address])


@pytest.mark.parametrize("cut", [None, 400_000], ids=["before the body", "inside the body"])
def test_a_silent_server_is_given_up(tmp_path: Path, serve: Callable[..., Server], cut: int | None) -> None:
    slow, server = serve(cuts=[cut], silence=5.0), serve()
    fetch(tmp_path / "cache", CHECKSUMS, [slow.address, server.address], timeout=0.2)
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT
    with pytest.raises(ConnectionError, match="timed out"):
        fetch(tmp_path / "other", CHECKSUMS, [slow.address], timeout=0.2)


def test_published_bytes_are_kept_as_they_are(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Some servers call a .gz file a gzip-encoded one; unpacked it would have another checksum."""
    packed = gzip.compress(CONTENT)
    server = serve(packed, gzipped=True)
    fetch(tmp_path / "cache", {NAME: hashlib.sha256(packed).hexdigest()}, [server.address])
    assert (tmp_path / "cache" / NAME).read_bytes() == packed


SCRIPT = f"""
import sys, types
for name, folder in (("bnnpriors", sys.argv[3]), ("bnnpriors.datasets", sys.argv[3] + "/datasets")):
    sys.modules[name] = types.ModuleType(name)  # the downloader alone, without torch
    sys.modules[name].__path__ = [folder]
from bnnpriors.datasets.download import fetch
fetch(sys.argv[1], {{{NAME!r}: {CHECKSUMS[NAME]!r}}}, [sys.argv[2]])
"""


def start(root: Path, server: Server) -> subprocess.Popen[bytes]:
    package = str(Path(bnnpriors.__file__).parent)
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(root), server.address, package])


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_a_killed_process_leaves_a_part_and_no_lock(tmp_path: Path, serve: Callable[..., Server]) -> None:
    root, server = tmp_path / "cache", serve(cuts=[400_000], silence=60.0)
    part = root / f"{NAME}.part"
    process = start(root, server)
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    size = part.stat().st_size
    assert not (root / NAME).exists()
    server.silence = 0.0
    fetch(root, CHECKSUMS, [server.address])
    assert (root / NAME).read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={size}-"


def test_processes_at_the_same_time_download_once(tmp_path: Path, serve: Callable[..., Server]) -> None:
    root, server = tmp_path / "cache", serve(silence=2.0)
    processes = [start(root, server) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (root / NAME).read_bytes() == CONTENT
    assert len(server.requests) == 1
