"""Finite groups that act on images: flips, quarter turns, cyclic shifts, and their products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .base import Shape, check_planes
from .finite import Finite


class Group(Finite):
    """Base class: a finite group G. The average of a function over an orbit is exactly invariant: f̄(g x) = f̄(x).

    Element 0 is the identity. A subclass permutes an image's elements.
    """

    def table(self, shape: Shape) -> Int[Tensor, "size size"]:
        """The index of g_i ∘ g_j at row i and column j, from the permutations of an image of this shape.

        Raises:
            ValueError: a set that is not closed under composition, so no group, or elements that coincide on this shape.
        """
        self.check(shape)
        count = math.prod(shape)
        image = torch.arange(count, dtype=torch.float64).reshape(1, *shape)
        moved = self.orbit(image)[0].reshape(self.size, count).long()
        known = {tuple(row.tolist()): index for index, row in enumerate(moved)}
        if len(known) < self.size:
            raise ValueError(
                f"{self!r}: {self.size} elements, of which {len(known)} differ on images of shape {shape}, expected all to"
            )
        rows = []
        for outer in moved:
            products = [tuple(inner[outer].tolist()) for inner in moved]
            if not all(product in known for product in products):
                raise ValueError(
                    f"{self!r}: not closed under composition on images of shape {shape}, so no group. Of a Product, one factor "
                    "has to map the other to itself, as quarter turns do shifts of a square image"
                )
            rows.append([known[product] for product in products])
        return torch.tensor(rows)


class FlipGroup(Group):
    """The identity and flips: two elements of one axis, four of both."""

    def __init__(self, *, horizontal: bool = True, vertical: bool = False) -> None:
        if not (horizontal or vertical):
            raise ValueError(
                "FlipGroup: horizontal=False and vertical=False given, expected one flip at least"
            )
        self.horizontal, self.vertical = horizontal, vertical
        axes = [axis for axis, wanted in ((-1, horizontal), (-2, vertical)) if wanted]
        self._axes = [[], *([axis] for axis in axes), *([axes] if len(axes) == 2 else [])]
        self.size = len(self._axes)

    def check(self, shape: Shape) -> None:
        """Images are [channels, height, width]."""
        check_planes(self, shape)

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The identity, one flip, the other, both."""
        return images.flip(self._axes[index]) if index else images


class RotationGroup(Group):
    """Quarter turns of square images: four elements."""

    size = 4

    def check(self, shape: Shape) -> None:
        """Images are [channels, side, side]."""
        check_planes(self, shape)
        if shape[1] != shape[2]:
            raise ValueError(
                f"RotationGroup: images of shape {shape} given, expected square ones: a quarter turn would change the shape"
            )

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """`index` quarter turns, anticlockwise as seen."""
        return torch.rot90(images, index, (-2, -1)) if index else images


class CyclicShifts(Group):
    """Shifts with wrap-around along the last axes, by multiples of `step`.

    Args:
        extent: the lengths of these axes: (height, width) of images, (length,) of signals.
        step: elements; it has to divide every length.
    """

    def __init__(self, extent: Sequence[int], step: int = 1) -> None:
        self.extent, self.step = tuple(extent), step
        if not self.extent or min(self.extent) < 1 or step < 1 or any(n % step for n in self.extent):
            raise ValueError(
                f"CyclicShifts: extent {self.extent} and step {step} given, expected positive lengths that step divides"
            )
        self._axes = tuple(range(-len(self.extent), 0))
        counts = torch.tensor([n // step for n in self.extent])
        self._shifts = [
            [step * int(k) for k in where]
            for where in torch.cartesian_prod(*[torch.arange(int(n)) for n in counts]).reshape(
                -1, len(counts)
            )
        ]
        self.size = len(self._shifts)

    def check(self, shape: Shape) -> None:
        """The last axes have these lengths."""
        if tuple(shape[-len(self.extent) :]) != self.extent:
            raise ValueError(
                f"CyclicShifts: images of shape {shape} given, expected the last axes to have the lengths {self.extent}"
            )

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """One shift."""
        return images.roll(self._shifts[index], self._axes) if index else images


class Product(Group):
    """All g ∘ h, g of the first group and h of the second, and so on: the eight symmetries of the square from `RotationGroup()`
    and `FlipGroup()`, for example.

    It is a group where every factor maps the later ones to themselves, and `table(shape)` says whether it is one.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = list(groups)
        if not self.groups or not all(isinstance(group, Group) for group in self.groups):
            raise TypeError(f"Product: {groups!r} given, expected a list of groups, at least one")
        self.size = math.prod(group.size for group in self.groups)

    def check(self, shape: Shape) -> None:
        """All of them check."""
        for group in self.groups:
            group.check(shape)

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The last factor acts first."""
        for group in reversed(self.groups):
            index, own = divmod(index, group.size)
            images = group.element(own, images)
        return images
