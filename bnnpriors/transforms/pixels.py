"""Transformations that move or change whole pixels: crops, flips, noise; and compositions of any transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from .affine import Affine, AffineTransform
from .base import Custom, Shape, Transform, as_transform, check_fill, check_planes


class CropWithPadding(Transform):
    """Pad each side by `padding` pixels, then cut out a window of the original size, uniform over its places.

    Args:
        padding: pixels. fill: what is padded with: "edge", the nearest pixel, or a number.
    """

    def __init__(self, padding: int, fill: float | str = "edge") -> None:
        if not isinstance(padding, int) or padding < 1:
            raise ValueError(f"CropWithPadding: padding {padding!r} given, expected an integer from 1")
        check_fill(self, fill)
        self.padding, self.fill = padding, fill

    def numbers(self, shape: Shape) -> int:
        """One an axis."""
        return 2

    def check(self, shape: Shape) -> None:
        """Images are [channels, height, width]."""
        check_planes(self, shape)

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """A window an image."""
        sides = [self.padding] * 4
        padded = (
            F.pad(images, sides, mode="replicate")
            if isinstance(self.fill, str)
            else F.pad(images, sides, value=self.fill)
        )
        height, width = images.shape[-2:]
        places = 2 * self.padding + 1
        offset = (noise * places).floor().clamp(max=places - 1).long()
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(len(images), device=images.device), :, offset[:, 0], offset[:, 1]]


class _Flip(Transform):
    axis: int

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 < probability <= 1:
            raise ValueError(
                f"{type(self).__name__}: probability {probability} given, expected a number in (0, 1]"
            )
        self.probability = probability

    def numbers(self, shape: Shape) -> int:
        """One."""
        return 1

    def check(self, shape: Shape) -> None:
        """Images are [channels, height, width]."""
        check_planes(self, shape)

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """Some of the images flipped."""
        flipped = noise[:, 0] < self.probability
        return torch.where(flipped.view(-1, 1, 1, 1), images.flip(self.axis), images)


class HorizontalFlip(_Flip):
    """Left and right exchanged with this probability."""

    axis = -1


class VerticalFlip(_Flip):
    """Top and bottom exchanged with this probability."""

    axis = -2


class AdditiveNoise(Transform):
    """x + `scale` · ε, ε ~ N(0, 1) for every element; inputs of any shape."""

    def __init__(self, scale: float) -> None:
        if not 0 < scale < float("inf"):
            raise ValueError(f"AdditiveNoise: scale {scale} given, expected a positive number")
        self.scale = scale

    def numbers(self, shape: Shape) -> int:
        """One an element."""
        return torch.Size(shape).numel()

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """ε = Φ⁻¹(u), with u kept from 0 and 1 by half the spacing of the generator's numbers."""
        edge = 2.0**-25 if images.dtype != torch.float64 else 2.0**-54
        epsilon = torch.special.ndtri(noise.clamp(edge, 1 - 2 * edge))
        return images + self.scale * epsilon.view(images.shape)


class Compose(Transform):
    """Transforms one after the other, the first one first. Neighbouring affine ones are done in one interpolation.

    Args:
        transforms: of this package, or functions as `Custom` takes them.
    """

    def __init__(self, transforms: Sequence[Transform | Callable[..., Tensor]]) -> None:
        if isinstance(transforms, Transform) or not transforms:
            raise TypeError(f"Compose: {transforms!r} given, expected a list of transforms, at least one")
        self.transforms: list[Transform] = []
        for transform in map(as_transform, transforms):
            last = self.transforms[-1] if self.transforms else None
            if (
                isinstance(last, AffineTransform)
                and isinstance(transform, AffineTransform)
                and last.fill == transform.fill
            ):
                self.transforms[-1] = Affine([last, transform])
            else:
                self.transforms.append(transform)

    @property
    def _opaque(self) -> bool:
        """Whether a function of the user's is among them, whose results depend on the image: all is then done at once."""
        return any(
            isinstance(part, Custom) or (isinstance(part, Compose) and part._opaque)
            for part in self.transforms
        )

    def numbers(self, shape: Shape) -> int:
        """Those of all."""
        if self._opaque:
            return torch.Size(shape).numel()
        return sum(part.numbers(shape) for part in self.transforms)

    def check(self, shape: Shape) -> None:
        """All of them check."""
        for part in self.transforms:
            part.check(shape)

    def noise(
        self, images: Shaped[Tensor, "batch *shape"], copies: int, generator: torch.Generator
    ) -> Float[Tensor, "batch copies numbers"]:
        """Uniform numbers, or, with a function of the user's among the transforms, the transformed images."""
        if not self._opaque:
            return super().noise(images, copies, generator)
        moved = images.repeat_interleave(copies, 0)
        for part in self.transforms:
            moved = part(moved, generator)
        return moved.detach().view(len(images), copies, -1)

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """One after the other."""
        if self._opaque:
            return noise.reshape(images.shape)
        shape = tuple(images.shape[1:])
        pieces = noise.split([part.numbers(shape) for part in self.transforms], dim=1)
        for part, piece in zip(self.transforms, pieces, strict=True):
            images = part.apply(images, piece)
        return images
