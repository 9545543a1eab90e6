"""Kernel matrices block by block: bounded memory, and only the upper triangle where both sets of inputs are one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .maps import Maps
from .recursion import Recursion


def own_maps(recursion: Recursion, x: Tensor, memory: int) -> Maps:
    """What depends on one input alone, for all inputs."""
    _check(memory)
    size = max(1, memory // _pair_bytes(recursion, x))
    return Maps.join([_call(recursion.own, x[i : i + size]) for i in range(0, len(x), size)])


def kernel_matrix(
    recursion: Recursion, x1: Tensor, x2: Tensor | None, memory: int
) -> tuple[Tensor, Tensor | None]:
    """K and, if the recursion is asked for it, Θ between two sets of inputs, or of one with itself (x2 = None).

    The diagonal of the latter is the variance of each input itself, without rounding between two images that are one. Where a
    gradient is wanted, each block is computed again on the way back instead of being kept.

    Args:
        memory: bytes for the values of one block of pairs, about; not counting the matrices and the maps.
    """
    is_own = x2 is None
    _check(memory)
    if not len(x1) or (x2 is not None and not len(x2)):
        empty = x1.new_empty(len(x1), len(x1 if x2 is None else x2))
        return empty, empty if recursion.ntk else None
    maps1 = own_maps(recursion, x1, memory)
    x2, maps2 = (x1, maps1) if x2 is None else (x2, own_maps(recursion, x2, memory))
    size = max(1, math.isqrt(memory // _pair_bytes(recursion, x1)))
    names = ("nngp", "ntk") if recursion.ntk else ("nngp",)
    matrices = {name: _Matrix(len(x1), len(x2), x1, is_symmetric=is_own) for name in names}
    for i in range(0, len(x1), size):
        rows = slice(i, min(i + size, len(x1)))
        for j in range(i if is_own else 0, len(x2), size):
            columns = slice(j, min(j + size, len(x2)))
            parts = _call(recursion.cross, x1[rows], x2[columns], maps1.select(rows), maps2.select(columns))
            for name, block in zip(names, parts, strict=False):
                own = getattr(maps1, name)[rows] if is_own and i == j else None
                matrices[name].put(rows, columns, block if own is None else _symmetric(block, own))
    return matrices["nngp"].result(), matrices["ntk"].result() if recursion.ntk else None


class _Matrix:
    """A matrix that is filled block by block in rows; joined at the end where it has a gradient, which writing would tangle."""

    def __init__(self, rows: int, columns: int, like: Tensor, *, is_symmetric: bool) -> None:
        self._filled = like.new_empty(rows, columns)
        self._symmetric = is_symmetric
        self._blocks: dict[int, dict[int, Tensor]] = {}

    def put(self, rows: slice, columns: slice, block: Tensor) -> None:
        pieces = [(rows, columns, block)]
        if self._symmetric and rows != columns:
            pieces.append((columns, rows, block.mT))
        for down, across, piece in pieces:
            if piece.requires_grad:
                self._blocks.setdefault(down.start, {})[across.start] = piece
            else:
                self._filled[down, across] = piece

    def result(self) -> Tensor:
        if not self._blocks:
            return self._filled
        strips = [torch.cat([row[j] for j in sorted(row)], 1) for _, row in sorted(self._blocks.items())]
        return torch.cat(strips)


def _symmetric(block: Tensor, own: Tensor) -> Tensor:
    """The upper triangle, mirrored, with the variances on the diagonal."""
    upper = block.triu(1)
    return upper + upper.mT + own.diag()


def _check(memory: int) -> None:
    if memory < 1:
        raise ValueError(f"memory {memory} given, expected bytes for one block of pairs, such as 2**24")


def _pair_bytes(recursion: Recursion, x: Tensor) -> int:
    return x.element_size() * max(1, recursion.plan.peak) * (2 if recursion.ntk else 1)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False) if torch.is_grad_enabled() else function(*args)
