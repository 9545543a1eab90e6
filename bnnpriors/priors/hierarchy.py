"""How far a hyperparameter reaches: one for a tensor, or one for each output, input, filter or weight of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Prior

Shape = tuple[int, ...]
EXTENTS = ("tensor", "output", "input", "filter", "weight")


def check_extent(extent: str) -> None:
    """Raise ValueError for what is no extent."""
    if extent not in EXTENTS:
        raise ValueError(f"per: {extent!r} given, expected one of {', '.join(map(repr, EXTENTS))}")


def extent_shape(extent: str, shape: Shape) -> Shape:
    """The shape, broadcastable to `shape` [out, in, *taps], of the hyperparameters that `extent` gives a tensor.

    Raises:
        ValueError: the tensor has no such dimension.
    """
    if extent == "tensor":
        return ()
    axes = {"output": (0,), "input": (1,), "filter": (0, 1), "weight": range(len(shape))}[extent]
    if not shape or max(axes) >= len(shape):
        raise ValueError(
            f"a hyperprior .per({extent!r}) given for a tensor of shape {tuple(shape)}, expected "
            f"{'[out, in, ...]: a bias has outputs but no inputs' if shape else 'one with dimensions'}"
        )
    return tuple(size if axis in axes else 1 for axis, size in enumerate(shape))


@dataclass(frozen=True)
class Place:
    """Where a site stands in a weight tensor.

    Attributes:
        frame: shape of the weight tensor, [out, in, *taps].
        grid: shape of the site's own part of it, broadcastable to the frame.
        is_flat: whether the site keeps its grid as a vector, because other tensors with other frames share it.
    """

    frame: Shape
    grid: Shape
    is_flat: bool = False

    @staticmethod
    def of_tensor(prior: Prior, shape: Shape) -> Place:
        """The place of a weight tensor. Raises ValueError for a prior that is meant as a hyperprior."""
        if prior.extent != "tensor" or prior.shared_as:
            raise ValueError(
                f"{prior!r} given as the prior of a tensor, but per() and shared() are for a prior on a parameter of another "
                "prior, such as Normal(0, HalfCauchy(1).per('output'))"
            )
        return Place(shape, shape)

    def of(self, hyper: Prior) -> Place:
        """The place of a hyperparameter of the site at this place."""
        grid = extent_shape(hyper.extent, self.frame)
        is_vector = hyper.shared_as is not None and hyper.extent in ("output", "input")
        return Place(self.frame, grid, self.is_flat or is_vector)

    @property
    def lead(self) -> Shape:
        """The grid as the site's own value has it."""
        return (math.prod(self.grid),) if self.is_flat and self.grid else self.grid


def check_broadcasts(name: str, attribute: str, hyper: Prior, inner: Place, outer: Place) -> None:
    """Raise ValueError where a hyperparameter is finer than what it is a parameter of."""
    if not broadcasts(inner.grid, outer.grid):
        raise ValueError(
            f"{name}: {attribute} has a prior .per({hyper.extent!r}), of shape {inner.grid}, expected one that broadcasts to "
            f"{outer.grid}, the shape of what it is a parameter of"
        )


def broadcasts(shape: Shape, to: Shape) -> bool:
    """Whether a tensor of `shape` broadcasts to one of shape `to` without enlarging it."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))
