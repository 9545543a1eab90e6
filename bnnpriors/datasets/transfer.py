"""One file over HTTP, continued where an earlier attempt stopped."""

from __future__ import annotations

from pathlib import Path

from bnnpriors.progress import Progress

ATTEMPTS = 5
"""How often one mirror is asked for the rest of a file, as long as each attempt brings some."""
_CHUNK = 1 << 18
_MIB = 1 << 20


class TransferError(Exception):
    """An address did not give the file; the message says what it did instead."""


def transfer(url: str, partial: Path, sha256: str, *, timeout: float) -> None:
    """Fill `partial` from `url` until its sha256 is right.

    Bytes that are there already are kept: the server is asked for the rest (RFC 9110, §14), and one that knows no ranges sends
    everything again. If the sum is wrong although nothing is missing, they may be to blame, and it is fetched once from the
    beginning.

    Args:
        url: the file's address. partial: where it grows. sha256: in hex. timeout: seconds that the server may be silent.

    Raises:
        TransferError: the server refused, stopped or sent something else. What came of the file stays in `partial`; a whole
            file with another checksum does not.
        OSError: `partial` cannot be written.
    """
    import pooch
    import requests
    import urllib3

    problem: Exception | str = "gave nothing"
    for _ in range(ATTEMPTS):
        before = _size(partial)
        try:
            _receive(url, partial, timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            problem = error
            if _size(partial) > before:
                continue
            break
        if pooch.file_hash(str(partial)) == sha256:
            return
        problem = f"another sha256, {pooch.file_hash(str(partial))}"
        partial.unlink()
        if before == 0:
            break
    raise TransferError(str(problem)) from (problem if isinstance(problem, Exception) else None)


def _receive(url: str, partial: Path, timeout: float) -> None:
    """Append what is missing, or write everything."""
    import requests

    start = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise requests.RequestException(
                f"range {response.headers.get('Content-Range')!r}: expected bytes from {start}"
            )
        size = start + int(response.headers.get("Content-Length", 0))
        heading = f"{url} → {partial.parent}"
        with (
            partial.open("ab" if start else "wb") as file,
            Progress(size // _MIB + 1, heading=heading, enabled=size > _MIB, doing="MiB") as progress,
        ):
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                start += len(chunk)
                if progress.due():
                    progress.show(start // _MIB, {})


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
