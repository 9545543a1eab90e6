"""Rotations, translations, scalings and shears: affine maps of the pixel plane, any number of them in one interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .base import Shape, Transform, check_fill, check_planes


class AffineTransform(Transform):
    """Base class: out(p) = image(A p + b), p the position in pixels from the image's centre, (x, y), with y downwards.

    Bilinear interpolation. A subclass defines `parameters`, how many uniform numbers it takes, and `matrix`.

    Args:
        fill: what lies outside of the image: "edge", the nearest pixel, or a number. Standardised images are not black at 0.
    """

    parameters: int

    def __init__(self, fill: float | str = "edge") -> None:
        check_fill(self, fill)
        self.fill = fill

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """(A b; 0 1), from positions in the output to positions in the input."""
        raise NotImplementedError(f"{type(self).__name__} has no matrix(noise): define it in your class")

    def numbers(self, shape: Shape) -> int:
        """As many as there are parameters."""
        return self.parameters

    def check(self, shape: Shape) -> None:
        """Images are [channels, height, width]."""
        check_planes(self, shape)

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """One interpolation."""
        return resample(images, self.matrix(noise), self.fill)


class Rotation(AffineTransform):
    """About the centre, by an angle uniform in ±`degrees`, anticlockwise as seen."""

    parameters = 1

    def __init__(self, degrees: float, fill: float | str = "edge") -> None:
        super().__init__(fill)
        if not 0 < degrees <= 180:
            raise ValueError(f"Rotation: degrees {degrees} given, expected a number in (0, 180]")
        self.degrees = degrees

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """(cos φ, −sin φ; sin φ, cos φ): y points downwards."""
        angle = math.radians(self.degrees) * _symmetric(noise[:, 0])
        return _matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


class Translation(AffineTransform):
    """By a distance uniform in ±`pixels` along each axis, fractions of pixels included."""

    parameters = 2

    def __init__(self, pixels: float, fill: float | str = "edge") -> None:
        super().__init__(fill)
        if not 0 < pixels < math.inf:
            raise ValueError(f"Translation: pixels {pixels} given, expected a positive number")
        self.pixels = pixels

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """b alone."""
        shift = self.pixels * _symmetric(noise)
        one, zero = torch.ones_like(shift[:, 0]), torch.zeros_like(shift[:, 0])
        return _matrix(one, zero, zero, one, shift[:, 0], shift[:, 1])


class Scale(AffineTransform):
    """About the centre, by a factor whose logarithm is uniform between those of `low` and `high`; above 1 enlarges."""

    parameters = 1

    def __init__(self, low: float, high: float, fill: float | str = "edge") -> None:
        super().__init__(fill)
        if not 0 < low < high < math.inf:
            raise ValueError(f"Scale: low {low} and high {high} given, expected 0 < low < high")
        self.low, self.high = low, high

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """1/factor on the diagonal."""
        inverse = torch.exp(-math.log(self.low) - math.log(self.high / self.low) * noise[:, 0])
        zero = torch.zeros_like(inverse)
        return _matrix(inverse, zero, zero, inverse)


class Shear(AffineTransform):
    """x ← x + y tan φ about the centre, with φ uniform in ±`degrees`."""

    parameters = 1

    def __init__(self, degrees: float, fill: float | str = "edge") -> None:
        super().__init__(fill)
        if not 0 < degrees < 90:
            raise ValueError(f"Shear: degrees {degrees} given, expected a number in (0, 90)")
        self.degrees = degrees

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """tan φ off the diagonal."""
        slope = torch.tan(math.radians(self.degrees) * _symmetric(noise[:, 0]))
        one, zero = torch.ones_like(slope), torch.zeros_like(slope)
        return _matrix(one, slope, zero, one)


class Affine(AffineTransform):
    """Several affine transforms, the first one first, in one interpolation, which blurs once and costs once.

    Args:
        parts: `Rotation`, `Translation`, `Scale`, `Shear`, or subclasses of `AffineTransform` of one `fill`.
    """

    def __init__(self, parts: Sequence[AffineTransform]) -> None:
        parts = list(parts)
        if not parts or not all(isinstance(part, AffineTransform) for part in parts):
            raise TypeError(
                f"Affine: {parts} given, expected affine transforms, such as [Rotation(15.0), Scale(0.9, 1.1)]"
            )
        if len({part.fill for part in parts}) > 1:
            raise ValueError(
                f"Affine: fills {[part.fill for part in parts]} given, expected one for all: there is one interpolation"
            )
        super().__init__(parts[0].fill)
        self.parts = parts
        self.parameters = sum(part.parameters for part in parts)

    def matrix(self, noise: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch 3 3"]:
        """M₁ M₂ …: the last transform's positions are mapped first."""
        pieces = noise.split([part.parameters for part in self.parts], dim=1)
        product = self.parts[0].matrix(pieces[0])
        for part, piece in zip(self.parts[1:], pieces[1:], strict=True):
            product = product @ part.matrix(piece)
        return product


def resample(
    images: Float[Tensor, "batch channels height width"],
    matrix: Float[Tensor, "batch 3 3"],
    fill: float | str,
) -> Float[Tensor, "batch channels height width"]:
    """out(p) = image(A p + b) by bilinear interpolation, positions in pixels from the centre."""
    height, width = images.shape[-2:]
    half = images.new_tensor([width / 2, height / 2, 1.0])
    theta = (matrix * (half / half[:, None]))[:, :2]
    across, down = (
        (2 * torch.arange(n, device=images.device, dtype=images.dtype) + 1) / n - 1 for n in (width, height)
    )
    columns = theta[:, :, 0, None] * across
    rows = theta[:, :, 1, None] * down + theta[:, :, 2, None]
    grid = (rows[..., None] + columns[:, :, None]).permute(
        0, 2, 3, 1
    )  # x and y in planes of their own: vectorises
    if isinstance(fill, str):
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return F.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=False) + fill


def _symmetric(uniform: Tensor) -> Tensor:
    """From [0, 1) to [−1, 1)."""
    return 2 * uniform - 1


def _matrix(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | None = None, y: Tensor | None = None
) -> Float[Tensor, "batch 3 3"]:
    """(a b x; c d y; 0 0 1)."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [a, b, zero if x is None else x, c, d, zero if y is None else y, zero, zero, one]
    return torch.stack(rows, dim=1).view(-1, 3, 3)
