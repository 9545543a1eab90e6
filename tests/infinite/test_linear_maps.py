"""Sums over taps against the same sums written as dense matrices, one matrix a tap."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnpriors.infinite.linear_maps import both_sides, correlated_sum, diagonal, window_sum
from bnnpriors.infinite.program import Window

WINDOWS = {
    "same, even": ((5, 4), Window((2, 4), (1, 1), (1, 1), ((0, 1), (1, 2)))),
    "stride": ((6, 5), Window((3, 2), (2, 3), (1, 1), ((1, 1), (0, 0)))),
    "dilation": ((6, 7), Window((2, 3), (1, 2), (2, 2), ((1, 1), (2, 2)))),
    "whole image": ((3, 4), Window((3, 4), (1, 1), (1, 1), ((0, 0), (0, 0)))),
    "sequence": ((7,), Window((3,), (2,), (2,), ((2, 1),))),
}


def _matrices(window: Window, positions: tuple[int, ...]) -> Tensor:
    """For each tap the map from inputs to outputs, [taps, outputs, inputs]."""
    count = int(torch.Size(positions).numel())
    basis = F.pad(torch.eye(count, dtype=torch.float64).reshape(count, 1, *positions), window.flat_padding)
    convolve = F.conv1d if len(positions) == 1 else F.conv2d
    rows = []
    for tap in product(*map(range, window.size)):
        filters = torch.zeros(1, 1, *window.size, dtype=torch.float64)
        filters[(0, 0, *tap)] = 1
        rows.append(
            convolve(basis, filters, stride=window.stride, dilation=window.dilation).reshape(count, -1).T
        )
    return torch.stack(rows)


def _covariance(positions: tuple[int, ...]) -> Tensor:
    """For 2 × 3 pairs; not symmetric, as between two images."""
    return torch.randn(
        2, 3, *positions, *positions, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("kind", ["equal", "independent", "correlated"])
def test_windows(name: str, kind: str) -> None:
    positions, window = WINDOWS[name]
    v, taps = _covariance(positions), _matrices(window, positions)
    count, output = taps.shape[2], window.output(positions)
    assert taps.shape[1] == torch.Size(output).numel()
    raw = torch.randn(len(taps), len(taps), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = {
        "equal": torch.eye(len(taps)).double(),
        "independent": raw.diagonal().diag(),
        "correlated": raw @ raw.T,
    }[kind]
    expected = torch.einsum("pqi,...ij,rsj,pr->...qs", taps, v.reshape(2, 3, count, count), taps, weights)
    expected = expected.reshape(2, 3, *output, *output)
    if kind == "correlated":
        full = correlated_sum(v, window, weights, positions, is_full=True)
        equal = correlated_sum(v, window, weights, positions, is_full=False)
    else:
        given = None if kind == "equal" else weights.diagonal()
        full = window_sum(v, window, given, is_full=True)
        equal = window_sum(diagonal(v, positions), window, given, is_full=False)
    torch.testing.assert_close(full, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(equal, diagonal(expected, output), rtol=1e-12, atol=1e-12)


def test_pooling_works_on_both_sides() -> None:
    positions = (5, 4)
    v = _covariance(positions)
    pool = torch.nn.AvgPool2d((2, 3), stride=1, padding=1, count_include_pad=False)
    matrix = pool(torch.eye(20, dtype=torch.float64).reshape(20, 1, 5, 4)).reshape(20, -1).T
    expected = matrix @ v.reshape(2, 3, 20, 20) @ matrix.T
    torch.testing.assert_close(
        both_sides(pool, v, positions).reshape(expected.shape), expected, rtol=1e-12, atol=1e-12
    )
