"""One job at a time in a thread beside the caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """A thread that works through what it is given in order, one job under way and none waiting.

    What a job raises is raised by the next call, before that call's own job begins: a job never runs after one that failed
    unnoticed.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._job: Future[None] | None = None

    def run(self, job: Callable[[], None]) -> None:
        """Begin a job, once the one before it is done."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "bnnpriors-store")
        self._job = self._pool.submit(job)

    def wait(self) -> None:
        """Until all is done."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Wait for the job under way, whatever becomes of it, and end the thread."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
