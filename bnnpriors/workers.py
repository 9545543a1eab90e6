"""Threads that share the chains of a run, and the process-wide settings that make them fast.

Chains are independent, so threads that each advance some of them never wait for one another inside a step, while the threads
of one large operation meet at its end, thousands of times a second, and stand still where another process takes a core.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from .programs import Plan

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """The threads of a run: a pool that shares the chains, or the calling thread alone, perhaps with a spare one beside it."""

    def __init__(
        self, pool: ThreadPoolExecutor | None, spare: ThreadPoolExecutor | None = None, count: int = 1
    ) -> None:
        self._pool, self.spare, self.count = pool, spare, count

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of each item, in order; an exception of any of them is raised here."""
        if self._pool is None:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))

    def share(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Likewise, for a caller that may be one of the threads: it does a part itself."""
        lots = parts(len(items), self.count)
        if self._pool is None or len(lots) < 2:
            return [function(item) for item in items]

        def several(lot: slice) -> list[Result]:
            return [function(item) for item in items[lot]]

        rest = [self._pool.submit(several, lot) for lot in lots[1:]]
        return several(lots[0]) + [result for done in rest for result in done.result()]


@contextmanager
def working(plan: Plan) -> Iterator[Workers]:
    """Threads and settings for a run under a plan.

    Torch's thread count and its switch for products hold for the process, and are set back at the end. glibc's memory settings
    stay (`keep_freed_memory`).
    """
    keep_freed_memory()
    threads = torch.get_num_threads()
    with _onednn(plan.onednn):
        if not plan.single_threaded:
            yield Workers(None)
            return
        torch.set_num_threads(1)
        pool = ThreadPoolExecutor(plan.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield Workers(None, pool) if plan.ahead else Workers(pool, count=plan.workers)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def parts(chains: int, count: int) -> list[slice]:
    """`count` runs of neighbouring chains, as even as can be."""
    edges = [chains * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


@contextmanager
def _onednn(enabled: bool) -> Iterator[None]:
    """Products through oneDNN. torch's switch for it also allows bfloat16, hence the probe of `onednn_pays`."""
    if not enabled:
        yield
        return
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@cache
def onednn_pays() -> bool:
    """Whether oneDNN multiplies float32 matrices as exactly as the BLAS on this machine, and faster.

    MKL runs AVX2 code on AMD processors, where oneDNN runs AVX-512 code, up to twice as fast. Where the processor has AMX
    units the same switch would round to bfloat16; the relative error, 10⁻⁶ for float32 and 10⁻³ for bfloat16, tells.
    """
    if not hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision"):
        return False
    generator = torch.Generator().manual_seed(0)
    pairs = [
        tuple(torch.randn(*shape, generator=generator) for shape in shapes)
        for shapes in (((128, 784), (784, 100)), ((4, 50, 50), (4, 50, 455)), ((4, 50, 455), (4, 455, 50)))
    ]
    with _onednn(True):
        for a, b in pairs:
            exact = a.double() @ b.double()
            if (a @ b - exact).norm() > 1e-5 * exact.norm():
                return False
        fast = _seconds(pairs)
    return fast < 0.9 * _seconds(pairs)


def _seconds(pairs: Sequence[tuple[Tensor, ...]]) -> float:
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for a, b in pairs:
            _ = a @ b
        times.append(time.perf_counter() - start)
    return min(times)


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep up to 256 MiB of freed memory for the process.

    A step frees and takes the same megabytes again and again; by default each round trip to the kernel clears the pages, which
    took two fifths of a minibatch step of four chains. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(trim_threshold, 256 * 2**20)
        mallopt(mmap_threshold, 32 * 2**20)
