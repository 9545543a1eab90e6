"""What a random transformation of inputs is: a deterministic function of an input and of uniform numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Shape = tuple[int, ...]


class Transform:
    """Base class: t(x; u), u uniform on [0, 1)^n. A subclass defines `numbers` and `apply`.

    The numbers are drawn first, by `noise` and with a generator of the caller's, and `apply` is then a function of tensors alone:
    it can be traced, compiled, differentiated with respect to the images, mapped by `torch.vmap` and repeated bit for bit.
    """

    def numbers(self, shape: Shape) -> int:
        """How many uniform numbers one image of this shape takes."""
        raise NotImplementedError(f"{type(self).__name__} has no numbers(shape): define it in your class")

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """The images, each transformed by its row of `noise`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no apply(images, noise): define it in your class"
        )

    def check(self, shape: Shape) -> None:
        """Raise ValueError where images of this shape cannot be transformed."""

    def noise(
        self, images: Shaped[Tensor, "batch *shape"], copies: int, generator: torch.Generator
    ) -> Float[Tensor, "batch copies numbers"]:
        """Fresh numbers for `copies` transformations of each image, on the images' device."""
        size = (len(images), copies, self.numbers(tuple(images.shape[1:])))
        drawn = torch.rand(size, dtype=images.dtype, generator=generator, device=generator.device)
        return drawn.to(images.device)

    def __call__(
        self, images: Float[Tensor, "batch *shape"], generator: torch.Generator
    ) -> Float[Tensor, "batch *shape"]:
        """Each image by a fresh transformation of its own."""
        check_images(self, images)
        return self.apply(images, self.noise(images, 1, generator)[:, 0])

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({settings})"


class Custom(Transform):
    """A function of the user's, `function(images [n, *shape], generator) -> images [n, *shape]`, as a transform.

    Its results stand in for the random numbers, so they are held in memory for as many copies as are asked for. It need not be
    traceable or differentiable; all its randomness has to come from the generator, one transformation an image.
    """

    def __init__(self, function: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        if not callable(function):
            raise TypeError(f"Custom: {function!r} given, expected a function of (images, generator)")
        self.function = function

    def numbers(self, shape: Shape) -> int:
        """The image itself."""
        return torch.Size(shape).numel()

    def noise(
        self, images: Shaped[Tensor, "batch *shape"], copies: int, generator: torch.Generator
    ) -> Float[Tensor, "batch copies numbers"]:
        """The transformed images. Raises ValueError for a function that does not keep their shape, or gives NaN."""
        moved = self.function(images.repeat_interleave(copies, 0), generator)
        expected = (len(images) * copies, *images.shape[1:])
        if not isinstance(moved, Tensor) or tuple(moved.shape) != expected:
            found = tuple(moved.shape) if isinstance(moved, Tensor) else type(moved).__name__
            raise ValueError(
                f"Custom: {_name(self.function)} returned {found} for images {expected}, expected images of the same shape"
            )
        if not moved.isfinite().all():
            raise ValueError(f"Custom: {_name(self.function)} returned NaN or infinite values")
        return moved.detach().reshape(len(images), copies, -1).to(images)

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """What the function has returned."""
        return noise.reshape(images.shape)


def as_transform(value: Any) -> Transform:
    """A transform, or the user's function as one. Raises TypeError for anything else."""
    if isinstance(value, Transform):
        return value
    if callable(value) and not isinstance(value, type):
        return Custom(value)
    raise TypeError(
        f"{value!r} given as transform, expected one of bp.transforms such as bp.transforms.Rotation(30.0), or a function of "
        "(images, generator)"
    )


def check_images(owner: object, images: Any) -> None:
    """Raise TypeError or ValueError unless these are floating images [batch, ...] of a shape that `owner` takes."""
    name = type(owner).__name__
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: images of {found} given, expected a floating tensor [batch, ...]")
    if images.ndim < 2:
        raise ValueError(f"{name}: images {tuple(images.shape)} given, expected (batch, ...)")
    if isinstance(owner, Transform):
        owner.check(tuple(images.shape[1:]))


def check_planes(owner: object, shape: Sequence[int]) -> None:
    """Raise ValueError unless an image is [channels, height, width]."""
    if len(shape) != 3:
        raise ValueError(
            f"{type(owner).__name__}: images of shape {tuple(shape)} given, expected (channels, height, width). Load the data "
            "with flatten=False, or give Augmented(..., image_shape=(channels, height, width)) for flat inputs"
        )


def check_fill(owner: object, fill: float | str) -> None:
    """Raise ValueError unless `fill` is a finite number or "edge"."""
    if fill != "edge" and not (isinstance(fill, (int, float)) and abs(fill) < float("inf")):
        raise ValueError(f"{type(owner).__name__}: fill {fill!r} given, expected a finite number or 'edge'")


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
