"""An HTTP server on this machine that fails as servers do."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """What is served, and how badly.

    Attributes:
        folder: the files. cuts: for each of the first requests, how many bytes of the body are sent before the connection
            ends; None for all of them. silence: seconds before a body, or before the rest of one that is cut.
        ranges: whether the rest of a file can be asked for. status: the answer to everything, if not 200 or 206.
        requests: path and Range header of each request so far.
    """

    folder: Path
    cuts: list[int | None] = field(default_factory=list)
    silence: float = 0.0
    ranges: bool = True
    status: int | None = None
    wrong_range: bool = False
    gzipped: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        served = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_GET(self) -> None:
                served.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            turn = len(self.requests)
            self.requests.append((handler.path, handler.headers["Range"]))
        file = self.folder / handler.path.lstrip("/")
        if self.status is not None or not file.is_file():
            handler.send_error(self.status or 404)
            return
        body = file.read_bytes()
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        if asked and self.ranges:
            start = int(asked[1])
            if start >= len(body):
                handler.send_error(416)
                return
            handler.send_response(206)
            shown = 0 if self.wrong_range else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if self.gzipped:
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        cut = self.cuts[turn] if turn < len(self.cuts) else None
        rest = body[start:]
        if cut is not None:
            handler.wfile.write(rest[:cut])
            handler.wfile.flush()
        time.sleep(self.silence)
        if cut is None:
            handler.wfile.write(rest)
        handler.close_connection = True

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
