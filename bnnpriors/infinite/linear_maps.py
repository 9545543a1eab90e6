"""What linear maps of positions do to a covariance: sums over the taps of a window, and maps such as average pooling.

A covariance is [*pairs, *positions] at equal positions, or [*pairs, *positions, *positions] for all pairs of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .program import Positions, Window

Covariance = Float[Tensor, "..."]


def diagonal(full: Covariance, positions: Positions) -> Covariance:
    """The covariances of equal positions, from those of all pairs."""
    lead, count = full.shape[: full.ndim - 2 * len(positions)], math.prod(positions)
    return full.reshape(*lead, count, count).diagonal(dim1=-2, dim2=-1).reshape(*lead, *positions)


def window_sum(v: Covariance, window: Window, weights: Tensor | None, *, is_full: bool) -> Covariance:
    """Σ_p w_p V_{q+p, q'+p}: independent taps. w = 1 for all taps if there are no weights, which takes one axis at a time.

    Args:
        weights: [taps].
    """
    axes = len(window.size)
    sides = 2 if is_full else 1
    v = F.pad(v, window.flat_padding * sides)
    start = v.ndim - sides * axes
    if weights is None:
        for axis in range(axes):
            dims = [start + side * axes + axis for side in range(sides)]
            v = _total(_shifted(v, window, {axis: tap}, dims) for tap in range(window.size[axis]))
        return v
    dims = list(range(start, v.ndim))
    taps = product(*map(range, window.size))
    return _total(
        w * _shifted(v, window, dict(enumerate(tap)), dims) for w, tap in zip(weights, taps, strict=True)
    )


def correlated_sum(
    v: Covariance, window: Window, weights: Float[Tensor, "taps taps"], positions: Positions, *, is_full: bool
) -> Covariance:
    """Σ_pp' Σ_pp' V_{q+p, q'+p'} for all q, q', or for q = q', from the covariance of all pairs of positions.

    Args:
        weights: Σ. positions: of V. is_full: whether the result is for all pairs of output positions.
    """
    return (
        _all_pairs(v, window, weights, positions)
        if is_full
        else _equal_positions(v, window, weights, positions)
    )


def both_sides(
    apply: Callable[[Tensor], Tensor], v: Covariance, positions: Positions
) -> Float[Tensor, "..."]:
    """A V Aᵀ for a linear map A of positions: first one side, then the other."""
    axes = len(positions)
    lead = v.shape[: v.ndim - 2 * axes]
    right = apply(v.reshape(-1, 1, *positions))
    after = tuple(right.shape[2:])
    right = right.reshape(-1, math.prod(positions), math.prod(after)).mT
    left = apply(right.reshape(-1, 1, *positions))
    return left.reshape(-1, math.prod(after), math.prod(after)).mT.reshape(*lead, *after, *after)


def one_side(apply: Callable[[Tensor], Tensor], v: Float[Tensor, "..."], axes: int) -> Float[Tensor, "..."]:
    """A v for maps of positions with any leading dimensions."""
    lead, positions = v.shape[: v.ndim - axes], v.shape[v.ndim - axes :]
    after = apply(v.reshape(-1, 1, *positions))
    return after.reshape(*lead, *after.shape[2:])


def _total(terms: Iterable[Tensor]) -> Tensor:
    parts = iter(terms)
    first, second = next(parts), next(parts, None)
    if second is None:
        return first
    total = first + second
    for part in parts:
        total.add_(part)
    return total


def _shifted(v: Tensor, window: Window, taps: dict[int, int], dims: list[int]) -> Tensor:
    """The padded covariance at the positions that a tap sees; `dims` are one axis after another, for each side."""
    for position, dim in enumerate(dims):
        axis = next(iter(taps)) if len(taps) == 1 else position % len(taps)
        size, stride, dilation = window.size[axis], window.stride[axis], window.dilation[axis]
        start = taps[axis] * dilation
        count = (v.shape[dim] - dilation * (size - 1) - 1) // stride + 1
        v = v.narrow(dim, start, (count - 1) * stride + 1)
        if stride > 1:
            v = v[(slice(None),) * dim + (slice(None, None, stride),)]
    return v


def _all_pairs(v: Tensor, window: Window, weights: Tensor, positions: Positions) -> Tensor:
    """For each tap p of the left side: a convolution of the right side with Σ_p·."""
    axes = len(positions)
    lead = v.shape[: v.ndim - 2 * axes]
    after = window.output(positions)
    convolve = F.conv1d if axes == 1 else F.conv2d
    v = F.pad(v, window.flat_padding * 2).reshape(-1, *(_padded(positions, window) * 2))
    total: Tensor | float = 0.0
    for row, tap in zip(weights, product(*map(range, window.size)), strict=True):
        left = _shifted(v, window, dict(enumerate(tap)), list(range(1, 1 + axes)))
        right = left.reshape(-1, 1, *v.shape[1 + axes :])
        filters = row.to(v).reshape(1, 1, *window.size)
        total = total + convolve(right, filters, stride=window.stride, dilation=window.dilation)
    assert isinstance(total, Tensor)
    return total.reshape(*lead, *after, *after)


def _equal_positions(v: Tensor, window: Window, weights: Tensor, positions: Positions) -> Tensor:
    """Σ_pp' of the entries that one output position sees, gathered; taps outside the input have no weight."""
    axes, count = len(positions), math.prod(positions)
    lead = v.shape[: v.ndim - 2 * axes]
    index, inside = _seen(window, positions)
    index, mask = index.to(v.device), inside.to(v)
    seen = v.reshape(-1, count * count)[:, index[:, :, None] * count + index[:, None, :]]
    weighted = weights.to(v) * mask[:, :, None] * mask[:, None, :]
    return torch.einsum("bqpr,qpr->bq", seen, weighted).reshape(*lead, *window.output(positions))


def _seen(window: Window, positions: Positions) -> tuple[Tensor, Tensor]:
    """The flat input position of each tap of each output position, [outputs, taps], and whether it is inside."""
    flat = torch.zeros((), dtype=torch.long)
    inside = torch.ones((), dtype=torch.bool)
    axes = len(positions)
    output = window.output(positions)
    for axis, length in enumerate(positions):
        start = torch.arange(output[axis]) * window.stride[axis] - window.padding[axis][0]
        tap = torch.arange(window.size[axis]) * window.dilation[axis]
        place = start[:, None] + tap
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = place.shape
        place = place.reshape(shape)
        inside = inside & (place >= 0) & (place < length)
        flat = flat * length + place.clamp(0, length - 1)
    sizes = (math.prod(output), math.prod(window.size))
    return flat.reshape(sizes), inside.reshape(sizes)


def _padded(positions: Positions, window: Window) -> Positions:
    return tuple(n + sum(pad) for n, pad in zip(positions, window.padding, strict=True))
