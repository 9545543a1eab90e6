"""Kernels of many pairs of images by the compiled part: the whole program for one tile of pairs stays in the cache.

A tile is one image with as many others as a vector has lanes (16 in float32 with AVX-512). Its arc-cosines are polynomials:
errors below 1.7e-8 in float32 and 5.2e-17 in float64 for √(1−ρ²) + (π − arccos ρ)ρ. What depends on one image alone is computed
once for each by the recursion in torch (`own_values.py`).
"""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .. import extension
from . import library
from .layout import Layout, lay_out_memory
from .lowering import lower
from .own_values import OwnValues
from .pairs import PairKernel
from .recursion import Recursion
from .steps import Step, Unfusable

GROUP_BYTES = 2**19
"""Values of the images that one thread takes together: about half of a second-level cache."""
PREPARED_BYTES = 2**28
"""What is kept of one block of images by themselves."""
TILE_BYTES = 2**32
"""The largest tile of one thread; the recursion in torch, which can take a single pair at a time, does what is larger."""
CALL_WORK = 2**30
"""Nonlinearities of one call, about: a second or less, after which a keyboard interrupt is noticed."""


@dataclass(frozen=True)
class Prepared:
    """What the compiled part needs of images, each by itself.

    Attributes:
        count: of images. inputs: [images, channels, positions]. maps: [images, maps, 2].
        inputs_in_lanes, maps_in_lanes: the same with a block of images side by side, [blocks, ..., lanes].
        variance: K(x, x), [images]; None where it is computed as that of a pair.
    """

    count: int
    inputs: Tensor
    maps: Tensor
    inputs_in_lanes: Tensor
    maps_in_lanes: Tensor
    variance: Tensor | None

    def side(self) -> library.Side:
        """As the compiled part takes it."""
        tensors = (self.inputs, self.maps, self.inputs_in_lanes, self.maps_in_lanes)
        return library.Side(*(tensor.data_ptr() for tensor in tensors), self.count)


class FusedKernel(PairKernel[Prepared]):
    """The kernel of a recursion by the compiled part.

    Args:
        recursion: the plan and the hyperparameters, whose values are read here.
        channels: of the inputs.
        vector_bytes: of the vectors; the widest that the processor has unless given.

    Raises:
        Unfusable: with the reason.
    """

    def __init__(self, recursion: Recursion, channels: int, vector_bytes: int | None = None) -> None:
        found = extension.load()
        if isinstance(found, str):
            raise Unfusable(found)
        if recursion.ntk:
            raise Unfusable("it has no neural tangent kernel")
        self._library = found
        self._bytes = vector_bytes or found.bnnpriors_vector_bytes()
        self._channels = channels
        self.lowered = lower(recursion.plan, recursion.layers)
        self._own = OwnValues(recursion, self.lowered)
        self._layout = self._laid_out()
        tile = self._bytes * self._layout.work_vectors(1)
        if tile > TILE_BYTES:
            raise Unfusable(f"a tile of pairs with all their positions takes {tile / 2**30:.3g} GiB")

    def prepare(self, x: Float[Tensor, "n channels *positions"], memory: int) -> Prepared:
        """What is needed of each image by itself, for calls of `block` and `own_block`."""
        inputs, maps, variance = self._own(x, memory)
        return Prepared(len(x), inputs, maps, self._in_lanes(inputs), self._in_lanes(maps), variance)

    def block(self, one: Prepared, other: Prepared, *, out: Tensor | None = None) -> Float[Tensor, "n m"]:
        """K between two sets of images, into `out` if given (of consecutive columns)."""
        out = one.inputs.new_empty(one.count, other.count) if out is None else out
        self._run(self._layout, one, other, out, symmetry=0)
        return out

    def own_block(self, one: Prepared, *, out: Tensor | None = None) -> Float[Tensor, "n n"]:
        """The symmetric K of one set of images, with the variance of each itself on the diagonal."""
        out = one.inputs.new_empty(one.count, one.count) if out is None else out
        self._run(self._layout, one, one, out, symmetry=2 if one.variance is None else 1)
        if one.variance is not None:
            out.diagonal().copy_(one.variance)
        return out

    def variance(self, x: Float[Tensor, "n channels *positions"], memory: int) -> Float[Tensor, " n"]:
        """K(x, x) of each image alone."""
        lanes = self._bytes // x.element_size()
        parts = []
        for start in range(0, len(x), lanes):
            one = self.prepare(x[start : start + lanes], memory)
            parts.append(self.own_block(one).diagonal() if one.variance is None else one.variance)
        return torch.cat(parts)

    def terms(
        self, one: Prepared, other: Prepared, readout: Step, *, is_own: bool
    ) -> Float[Tensor, "n m terms"]:
        """The sums over boxes that a readout weights, before it does.

        Args:
            is_own: whether both sets are one; each pair of images is then computed once, and the terms of its mirror image are
                those of opposite offsets.
        """
        out = one.inputs.new_empty(one.count, other.count, len(readout.terms))
        self._run(self._laid_out(readout), one, other, out, symmetry=2 if is_own else 0)
        return out

    def _laid_out(self, readout: Step | None = None) -> Layout:
        start = self.lowered.steps[0].target
        return lay_out_memory(self.lowered, start.shape, self._channels, expand=readout)

    def _images_of_a_block(self, x: Tensor) -> int:
        start = self.lowered.steps[0].target
        numbers = 2 * (2 * self.lowered.map_size + self._channels * start.height * start.width)
        return max(self._bytes // x.element_size(), PREPARED_BYTES // (numbers * x.element_size()))

    def _run(self, layout: Layout, one: Prepared, other: Prepared, out: Tensor, *, symmetry: int) -> None:
        program = layout.program
        per_image = self._bytes * (layout.work_vectors(2) - layout.work_vectors(1))
        group = max(1, min(16, GROUP_BYTES // per_image))
        threads, work_bytes = torch.get_num_threads(), self._bytes * layout.work_vectors(group)
        work = torch.empty(threads * work_bytes + 64, dtype=torch.uint8)
        start = work.data_ptr() + -work.data_ptr() % 64
        rows, columns = one.side(), other.side()
        name = "float" if out.dtype == torch.float32 else "double"
        run = getattr(self._library, f"bnnpriors_run_{name}")
        pointers = [c.addressof(part) for part in (program, rows, columns)]
        step = max(1, CALL_WORK // (max(1, other.count) * self.lowered.work))
        for row in range(0, one.count, step):
            last = min(row + step, one.count)
            pitch = out.stride(0) // program.outputs
            run(
                self._bytes,
                *pointers,
                row,
                last,
                symmetry,
                threads,
                group,
                start,
                work_bytes,
                out.data_ptr(),
                pitch,
            )

    def _in_lanes(self, x: Float[Tensor, "n ..."]) -> Tensor:
        """Blocks of images side by side, the last one filled up with zeros: [blocks, ..., lanes], from a multiple of 64 bytes."""
        lanes = self._bytes // x.element_size()
        blocks = -(-len(x) // lanes)
        shape, size = (blocks, *x.shape[1:], lanes), x.element_size()
        memory = x.new_empty(blocks * x[0].numel() * lanes + 64 // size)
        skip = -memory.data_ptr() % 64 // size
        filled = memory[skip : memory.numel() - 64 // size + skip].view(shape)
        whole = len(x) // lanes
        filled[:whole] = x[: whole * lanes].reshape(whole, lanes, *x.shape[1:]).movedim(1, -1)
        if whole < blocks:
            filled[whole] = 0
            filled[whole, ..., : len(x) - whole * lanes] = x[whole * lanes :].movedim(0, -1)
        return filled
