"""How named tensors lie in one flat vector of latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Names and shapes, in the order in which they fill the last dimension of a flat tensor."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each tensor."""
        return tuple(math.prod(shape) for _, shape in self.shapes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(name for name, _ in self.shapes)

    @property
    def dim(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    def unpack(self, flat: Float[Tensor, "*lead dim"]) -> dict[str, Tensor]:
        """Views of the flat tensor by name, each [*lead, *shape]."""
        pieces = flat.split(self.sizes, dim=-1)
        return {
            name: piece.reshape((*flat.shape[:-1], *shape))
            for (name, shape), piece in zip(self.shapes, pieces, strict=True)
        }

    def pack(self, tensors: Mapping[str, Tensor], lead: tuple[int, ...] = ()) -> Float[Tensor, "*lead dim"]:
        """The inverse of `unpack`."""
        return torch.cat([tensors[name].reshape((*lead, -1)) for name, _ in self.shapes], dim=-1)

    def per_tensor_sum(self, flat: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead tensors"]:
        """Sums over each tensor's elements."""
        return torch.stack([piece.sum(-1) for piece in flat.split(self.sizes, dim=-1)], dim=-1)
