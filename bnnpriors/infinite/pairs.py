"""What the fused kernels have in common: images are prepared once, each by itself, and then meet in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

P = TypeVar("P")


class PairKernel(ABC, Generic[P]):
    """The kernel of many pairs of images, without gradients: `matrix`, or in blocks of one's own, `prepare` images once and then
    `block` any two sets of them.
    """

    def matrix(
        self, x1: Float[Tensor, "n channels *positions"], x2: Tensor | None, memory: int
    ) -> Float[Tensor, "n m"]:
        """K between two sets of images, or of one with itself (x2 = None).

        Args:
            memory: bytes for one block in the recursion of each image with itself.
        """
        columns = x1 if x2 is None else x2
        out = x1.new_empty(len(x1), len(columns))
        size = self._images_of_a_block(x1)
        for i in range(0, len(x1), size):
            one, rows = self.prepare(x1[i : i + size], memory), slice(i, i + size)
            for j in range(i if x2 is None else 0, len(columns), size):
                across = slice(j, j + size)
                if x2 is None and i == j:
                    self.own_block(one, out=out[rows, across])
                    continue
                self.block(one, self.prepare(columns[across], memory), out=out[rows, across])
                if x2 is None:
                    out[across, rows] = out[rows, across].mT
        return out

    @abstractmethod
    def prepare(self, x: Float[Tensor, "n channels *positions"], memory: int) -> P:
        """What is needed of each image by itself, for calls of `block` and `own_block`."""

    @abstractmethod
    def block(self, one: P, other: P, *, out: Tensor | None = None) -> Float[Tensor, "n m"]:
        """K between two sets of images, into `out` if given (of consecutive columns)."""

    @abstractmethod
    def own_block(self, one: P, *, out: Tensor | None = None) -> Float[Tensor, "n n"]:
        """The symmetric K of one set of images, with the variance of each itself on the diagonal."""

    @abstractmethod
    def variance(self, x: Float[Tensor, "n channels *positions"], memory: int) -> Float[Tensor, " n"]:
        """K(x, x) of each image alone."""

    @abstractmethod
    def _images_of_a_block(self, x: Tensor) -> int: ...
