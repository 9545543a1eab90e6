"""Windows, taps and pooling as what steps sum over."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from . import library
from .program import Positions, Window
from .steps import Pair, Step, Term, Unfusable, Value


def plane(positions: Positions) -> Pair:
    """Height and width of positions on two axes, one or none."""
    if len(positions) > 2:
        raise Unfusable(f"it has {len(positions)} axes of positions, expected two at most")
    padded = (1, 1, *positions)[-2:]
    return padded[0], padded[1]


def window_step(source: Value, target: Value, window: Window, weight: float, bias: float) -> Step:
    """A convolution whose taps share their variance: the sum over a window."""
    size, stride, dilation = plane(window.size), plane(window.stride), plane(window.dilation)
    padding = ((0, 0), *(pair for pair in window.padding))[-2:]
    if len(window.size) < 1:
        padding = ((0, 0), (0, 0))
    low = (padding[0][0], padding[1][0])
    return Step(library.WINDOW, target, source, None, size, stride, dilation, low, weight=weight, bias=bias)


def tap_terms(matrix: Tensor, size: Pair, dilation: Pair) -> list[Term]:
    """Σ_pp' as terms: boxes where Σ depends on p' − p alone, single taps where not.

    Args:
        matrix: Σ, [taps, taps].
    """
    height, width = size
    taps = torch.arange(height * width)
    down = taps // width - (taps // width)[:, None] + height - 1
    right = taps % width - (taps % width)[:, None] + width - 1
    shift = (down * (2 * width - 1) + right).flatten()
    values, places = matrix.flatten(), torch.zeros((2 * height - 1) * (2 * width - 1), dtype=matrix.dtype)
    highest = places.scatter_reduce(0, shift, values, "amax", include_self=False)
    lowest = places.scatter_reduce(0, shift, values, "amin", include_self=False)
    is_even = torch.isclose(highest, lowest, rtol=1e-15, atol=0)
    terms = []
    for place in (is_even & (highest != 0)).nonzero()[:, 0].tolist():
        ey, ex = place // (2 * width - 1) - height + 1, place % (2 * width - 1) - width + 1
        box = (max(0, -ey), max(0, -ex), height - abs(ey), width - abs(ex))
        terms.append(Term(ey * dilation[0], ex * dilation[1], *box, float(highest[place])))
    for entry in ((~is_even[shift]) & (values != 0)).nonzero()[:, 0].tolist():
        (y, x), (other_y, other_x) = (divmod(tap, width) for tap in divmod(entry, height * width))
        shifts = ((other_y - y) * dilation[0], (other_x - x) * dilation[1])
        terms.append(Term(*shifts, y, x, 1, 1, float(values[entry])))
    return terms


def pooling(matrix: Tensor, before: Pair, after: Pair) -> tuple[Pair, Pair, float]:
    """Size, stride and weight of average pooling without padding, from its matrix.

    Args:
        matrix: [outputs, inputs].

    Raises:
        Unfusable: another map than such pooling.
    """
    grid = matrix.reshape(*after, *before)
    first = grid[0, 0]
    inside = first.nonzero()
    if not len(inside):
        raise Unfusable("its pooling ignores positions")
    size = tuple(int(inside[:, axis].max()) + 1 for axis in range(2))
    stride = tuple(
        (before[axis] - size[axis]) // (after[axis] - 1) if after[axis] > 1 else 1 for axis in range(2)
    )
    if len(before) == 2 and after[0] > 1:
        stride = (int(grid[1, 0].nonzero()[:, 0].min()), stride[1])
    if after[1] > 1:
        stride = (stride[0], int(grid[0, 1].nonzero()[:, 1].min()))
    weight = float(first[0, 0])
    expected = torch.zeros_like(grid)
    for y, x in product(range(after[0]), range(after[1])):
        expected[y, x, y * stride[0] : y * stride[0] + size[0], x * stride[1] : x * stride[1] + size[1]] = (
            weight
        )
    if not torch.allclose(expected, grid, rtol=1e-12, atol=0):
        raise Unfusable("its pooling has padding, or windows of different sizes")
    return (size[0], size[1]), (stride[0], stride[1]), weight


def zero_padding(matrix: Tensor, before: Pair, after: Pair) -> Pair:
    """Zeros above and to the left (below 0 where positions are cropped), from the place of the first position that is kept.

    Args:
        matrix: [outputs, inputs].
    """
    kept = matrix.nonzero()
    if not len(kept):
        raise Unfusable("its padding leaves no position")
    there, here = int(kept[0, 0]), int(kept[0, 1])
    return there // after[1] - here // before[1], there % after[1] - here % before[1]
