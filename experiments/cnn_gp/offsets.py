"""The offset decomposition: what a network of convolutions makes of all pairs of positions, as many small images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bnnpriors.infinite.nonlinearities import LeakyReLU
from bnnpriors.priors.taps import tap_covariance

RELU = LeakyReLU()


def offset_sums(x1: Tensor, x2: Tensor, depth: int) -> Tensor:
    """D(δ) = Σ_q V_{q, q+δ} for all offsets δ: every stationary readout, of any lengthscale, is ⟨Σ(δ), D⟩.

    Under convolutions of stride 1 with independent weights the entries with one offset p' − p = δ form an image of
    (H − |δ_y|) × (W − |δ_x|) that obeys the recursion of the diagonal by itself.

    Args:
        x1, x2: [n, channels, H, W] and [m, channels, H, W].
        depth: convolutions 3 × 3, zero padded, σ_w² = 2, no biases, each with ReLU: the body of `zoo.cnn_gp_14` with 14.

    Returns:
        [n, m, (2H − 1)(2W − 1)], offsets row by row from (1 − H, 1 − W).
    """
    height, width = x1.shape[-2:]
    own1, own2 = _variances(x1, depth), _variances(x2, depth)
    parts = []
    for down in range(1 - height, height):
        for across in range(1 - width, width):
            (top1, top2), (left1, left2) = _overlap(down, height), _overlap(across, width)
            k = torch.einsum("ichw,jchw->ijhw", x1[..., top1, left1], x2[..., top2, left2]) / x1.shape[1]
            for v1, v2 in zip(own1, own2, strict=True):
                k = RELU.moment(_convolve(k), v1[:, None, top1, left1], v2[None, :, top2, left2])
            parts.append(k.sum((-2, -1)))
    return torch.stack(parts, -1)


def readout(size: tuple[int, int], lengthscale: float) -> Tensor:
    """Σ(δ) of one readout, [(2H − 1)(2W − 1)] float64, with variance 1/HW for each position: Matérn-3/2; for a lengthscale of 0
    independent weights; for infinity one weight for all positions, of variance 1/(HW)² (mean pooling).
    """
    height, width = size
    if lengthscale == 0:
        table = torch.zeros(2 * height - 1, 2 * width - 1, dtype=torch.float64)
        table[height - 1, width - 1] = 1
    elif lengthscale == float("inf"):
        table = torch.full((2 * height - 1, 2 * width - 1), 1 / (height * width), dtype=torch.float64)
    else:
        corner = tap_covariance("matern32", lengthscale, size)[0].reshape(size)
        quarter = torch.cat([corner.flip(1)[:, :-1], corner], 1)
        table = torch.cat([quarter.flip(0)[:-1], quarter])
    return table.flatten() / (height * width)


def _variances(x: Tensor, depth: int) -> list[Tensor]:
    """The variance maps before each ReLU, [n, H, W]."""
    v, found = x.square().mean(1), []
    for _ in range(depth):
        found.append(_convolve(v))
        v = found[-1] / 2
    return found


def _convolve(v: Tensor) -> Tensor:
    """(2/9) Σ over 3 × 3 taps, zero outside."""
    return 2 * avg_pool2d(v, 3, stride=1, padding=1)


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """Where positions q lie for which q and q + offset are both in the image, and where those q + offset do."""
    return slice(max(0, -offset), length - max(0, offset)), slice(max(0, offset), length + min(0, offset))
