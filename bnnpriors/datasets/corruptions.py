"""Test images made worse step by step, on the fly: for calibration under shift (Ovadia et al. 2019, 1906.02530)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bnnpriors.datasets.dataset import Dataset
from bnnpriors.transforms.affine import resample

SEVERITIES = {
    "rotation": (15.0, 30.0, 45.0, 60.0, 75.0),
    "blur": (0.5, 1.0, 1.5, 2.0, 2.5),
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
}
"""Levels 1 to 5: degrees; standard deviation in pixels; standard deviation of grey levels from 0 to 1.

The degrees are the first of Ovadia et al.'s steps on MNIST, the noise is Hendrycks & Dietterich's (2019, 1903.12261), and the
blurs suit images of about thirty pixels, where theirs take everything away.
"""


class Shifted(NamedTuple):
    """Corrupted test inputs.

    Attributes:
        corruption: one of `SEVERITIES`, or "none" for the test inputs themselves.
        level: 1 to 5; 0 for "none".
        inputs: [points, ...], standardised with the training set's statistics, in the order of the test inputs.
    """

    corruption: str
    level: int
    inputs: Tensor


def corruptions(
    dataset: Dataset, kinds: Sequence[str] = tuple(SEVERITIES), *, seed: int = 0
) -> Iterator[Shifted]:
    """The test inputs, then those of every kind and level, one after the other.

    Random numbers depend on `seed` alone and are the same at all levels of a kind, so that curves over levels are smooth.

    Args:
        dataset: of pixels from 0 to 1 with one shared scale: images [points, channels, height, width], or flat square ones.
        kinds: of corruption: "rotation" about the centre, clockwise or anticlockwise, what lies outside being the nearest
            pixel; "blur" by a Gaussian; "noise", Gaussian, and cut off at 0 and 1.
        seed: of directions and noise.

    Raises:
        ValueError: another kind, or inputs that are no such images, at once.
    """
    if unknown := [kind for kind in kinds if kind not in SEVERITIES]:
        raise ValueError(f"corruptions {unknown}: expected some of {', '.join(SEVERITIES)}")
    images = _images(dataset)
    return _made(dataset, images, tuple(kinds), seed)


def corrupt(
    images: Float[Tensor, "points channels height width"], kind: str, level: int, *, seed: int = 0
) -> Float[Tensor, "points channels height width"]:
    """Images of pixels from 0 to 1, corrupted: what `corruptions` does, on any images.

    Raises:
        ValueError: another kind, or a level outside 1 to 5.
    """
    if kind not in SEVERITIES or not 1 <= level <= 5:
        raise ValueError(
            f"corruption {kind!r}, level {level}: expected one of {', '.join(SEVERITIES)}, and 1 to 5"
        )
    severity = SEVERITIES[kind][level - 1]
    generator = torch.Generator().manual_seed(seed)
    if kind == "rotation":
        left = torch.rand(len(images), generator=generator) < 0.5
        return _rotate(images, severity * (2.0 * left - 1.0))
    if kind == "blur":
        return _blur(images, severity)
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    return (images + severity * noise).clamp(0.0, 1.0)


def _made(dataset: Dataset, images: Tensor, kinds: tuple[str, ...], seed: int) -> Iterator[Shifted]:
    yield Shifted("none", 0, dataset.x_test)
    for kind in kinds:
        for level in range(1, 6):
            moved = corrupt(images, kind, level, seed=seed).reshape(dataset.x_test.shape)
            yield Shifted(kind, level, dataset.normalize(moved))


def _images(dataset: Dataset) -> Tensor:
    raw = dataset.denormalize(dataset.x_test)
    side = math.isqrt(raw[0].numel())
    flat = raw.ndim == 2 and side > 1 and side * side == raw.shape[1]
    lowest, highest = raw.min().item(), raw.max().item()
    if not (flat or raw.ndim == 4) or dataset.input_scale.ndim or lowest < -1e-3 or highest > 1 + 1e-3:
        raise ValueError(
            f"corruptions of {dataset.name}, inputs {tuple(raw.shape)} from {lowest:g} to {highest:g}: expected images "
            "(points, channels, height, width) or flat square ones, of pixels from 0 to 1 with one shared scale"
        )
    return raw.reshape(-1, 1, side, side) if flat else raw


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """By an angle an image, anticlockwise as seen, with bilinear interpolation."""
    angle = torch.deg2rad(degrees).to(images)
    matrix = torch.eye(3, dtype=angle.dtype, device=angle.device).repeat(len(images), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0], matrix[:, 0, 1] = angle.sin(), -angle.sin()
    return resample(images, matrix, "edge")


def _blur(images: Tensor, deviation: float) -> Tensor:
    """Convolution with exp(−d²/2σ²), d up to 4σ, along each axis; outside of the image is the nearest pixel."""
    reach = math.ceil(4 * deviation)
    distance = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (distance / deviation) ** 2)
    weights = weights / weights.sum()
    points, channels, height, width = images.shape
    planes = images.reshape(-1, 1, height, width)
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), weights.view(1, 1, -1, 1))
    return planes.view(points, channels, height, width)
