"""What a run will take, known and checked before it begins."""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from .disk import StoreError, free_bytes
from .posterior import Posterior
from .samplers import Sampler


@dataclass(frozen=True)
class Cost:
    """What a run will take, known before it begins."""

    gradient_evaluations: float
    disk_bytes: int
    memory_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.gradient_evaluations:.3g} full-data gradients of every chain, draws of {size(self.disk_bytes)}, "
            f"about {size(self.memory_bytes)} of memory beside the model"
        )


def estimate(
    posterior: Posterior, sampler: Sampler, *, num_samples: int, num_warmup: int = 0, num_chains: int = 4, thin: int = 1,
    in_memory: bool = True,
) -> Cost:  # fmt: skip
    """Gradient evaluations, bytes of draws, and bytes of memory of a run of `sample` with these arguments."""
    chains = num_chains * len(posterior.temperatures)
    target = posterior.target(chains)
    row = chains * posterior.dim * torch.finfo(posterior.dtype).bits // 8
    disk = num_samples * (row + chains * 8 * (8 + 2 * len(posterior.layout.shapes)))
    work = 12 * row + sampler.memory(target) + min(disk, 64 * 2**20)
    evaluations = (num_warmup + num_samples * thin) * sampler.evaluations(target)
    return Cost(evaluations, disk, work + (disk if in_memory else 0))


def check_room(cost: Cost, path: Path | None) -> None:
    """Raise StoreError where the draws do not fit the disk, MemoryError where the run does not fit the memory."""
    written = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path is not None else 0
    if path is not None and cost.disk_bytes - written > free_bytes(path):
        raise StoreError(
            f"{path}: the draws need {size(cost.disk_bytes - written)} more and the disk has {size(free_bytes(path))} free. "
            "Raise thin, lower num_samples or num_chains, or choose another disk"
        )
    available = free_memory()
    if cost.memory_bytes > available:
        advice = (
            "pass store='folder' to stream them to disk, or raise thin"
            if path is None
            else "lower num_chains"
        )
        raise MemoryError(
            f"the run needs {size(cost.memory_bytes)} of memory and {size(available)} is free: {advice}"
        )


def free_memory() -> float:
    """Bytes that can be had without swapping (caches count as free); infinity where the system does not say.

    What this process has freed and glibc has kept, which can be gigabytes, is handed back first.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None:
        trim(0)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf


def size(number: float) -> str:
    """Bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
