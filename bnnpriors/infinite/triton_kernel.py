"""Kernels of many pairs of images on CUDA, by Triton: the whole program for one tile of pairs stays in registers.

A tile is 2 images with 4 others at the positions of MNIST in float32, more of them where images are smaller. Tiles that
run at once are near each other in the matrix, so that they find the maps of their images in the second-level cache.
"""

from __future__ import annotations

import linecache
import os
import shutil
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .lowering import lower
from .own_values import OwnValues
from .pairs import PairKernel
from .recursion import Recursion
from .steps import Unfusable
from .triton_source import write_source

FUNCTIONS = Path(__file__).with_name("triton_functions.py")
PREPARED_BYTES = 2**31
"""What is kept of one block of images by themselves."""
OWN_BYTES = 2**28
"""For one block in the recursion of each image with itself, at least: each of its operations is a launch of its own."""
REGISTERS = 128
"""Of a thread: two tiles of 256 threads then share a processor of a GPU, so that one computes while the other waits."""
LAUNCH_TILES = 2**22
"""Of one launch, about: less than a second, after which a keyboard interrupt is noticed."""


@dataclass(frozen=True)
class Prepared:
    """What the kernel needs of images, each by itself, with those of a tile side by side (lanes).

    Attributes:
        count: of images. inputs: [blocks, channels, positions, lanes]. maps: [blocks, 2, maps, lanes].
        variance: K(x, x), [images].
    """

    count: int
    inputs: Tensor
    maps: Tensor
    variance: Tensor


class TritonKernel(PairKernel[Prepared]):
    """The kernel of a recursion by Triton.

    Args:
        recursion: the plan and the hyperparameters, whose values are read here.
        like: a tensor of the device and the dtype that the inputs have.

    Raises:
        Unfusable: with the reason.
    """

    def __init__(self, recursion: Recursion, like: Tensor) -> None:
        if find_spec("triton") is None:
            raise Unfusable("Triton is not installed: pip install 'bnnpriors[cuda-kernels]'")
        if recursion.ntk:
            raise Unfusable("it has no neural tangent kernel")
        self.lowered = lower(recursion.plan, recursion.layers)
        self._own = OwnValues(recursion, self.lowered)
        source = write_source(self.lowered, like.element_size())
        self.rows, self.columns, self._warps = source.rows, source.columns, source.warps
        self._tables = [torch.from_numpy(table).to(like) for table in (source.bands, source.numbers)]
        self._tables.append(torch.from_numpy(source.starts).to(like.device))
        self._function = build(source.text)

    def prepare(self, x: Float[Tensor, "n channels *positions"], memory: int) -> Prepared:
        """What is needed of each image by itself, for calls of `block` and `own_block`."""
        inputs, maps, variance = self._own(x, max(memory, OWN_BYTES))
        assert variance is not None
        return Prepared(len(x), self._in_lanes(inputs), self._in_lanes(maps.mT), variance)

    def block(self, one: Prepared, other: Prepared, *, out: Tensor | None = None) -> Float[Tensor, "n m"]:
        """K between two sets of images, into `out` if given (of consecutive columns)."""
        out = one.inputs.new_empty(one.count, other.count) if out is None else out
        self._run(one, other, out, is_symmetric=False)
        return out

    def own_block(self, one: Prepared, *, out: Tensor | None = None) -> Float[Tensor, "n n"]:
        """The symmetric K of one set of images, with the variance of each itself on the diagonal."""
        out = one.inputs.new_empty(one.count, one.count) if out is None else out
        self._run(one, one, out, is_symmetric=True)
        out.diagonal().copy_(one.variance)
        return out

    def variance(self, x: Float[Tensor, "n channels *positions"], memory: int) -> Float[Tensor, " n"]:
        """K(x, x) of each image alone."""
        return self.prepare(x, memory).variance

    def _images_of_a_block(self, x: Tensor) -> int:
        numbers = 2 * self.lowered.map_size + x[0].numel()
        images = PREPARED_BYTES // (numbers * x.element_size())
        return max(1, images // self.columns) * self.columns

    def _run(self, one: Prepared, other: Prepared, out: Tensor, *, is_symmetric: bool) -> None:
        across = -(-other.count // self.columns)
        height = max(1, LAUNCH_TILES // across * self.rows // self.columns) * self.columns
        for row in range(0, one.count, height):
            begin = row if is_symmetric else 0
            down = -(-min(height, one.count - row) // self.rows)
            right = -(-(other.count - begin) // self.columns)
            with torch.cuda.device_of(out):
                self._function[(down * right,)](
                    one.inputs, other.inputs, one.maps, other.maps, *self._tables, out,
                    out.stride(0), one.count, other.count, row, begin, down, right, one.inputs.shape[1],
                    SYMMETRIC=is_symmetric, num_warps=self._warps, num_stages=1, maxnreg=REGISTERS,
                )  # fmt: skip
            if out.is_cuda and height < one.count:
                torch.cuda.synchronize(out.device)

    def _in_lanes(self, x: Float[Tensor, "n ..."]) -> Tensor:
        """Blocks of images side by side, the last one filled up with zeros: [blocks, ..., lanes]."""
        missing = -len(x) % self.columns
        if missing:
            x = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        return x.reshape(-1, self.columns, *x.shape[1:]).movedim(1, -1).contiguous()


def check_device(device: torch.device) -> None:
    """Whether Triton can compile for a device.

    Raises:
        Unfusable: with the reason why not.
    """
    if torch.version.hip is not None:
        raise Unfusable("on CUDA it is made for NVIDIA's GPUs")
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise Unfusable(f"on CUDA it takes compute capability 8.0, and {device} has less")
    if not os.environ.get("CC") and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        raise Unfusable("on CUDA it needs a C compiler (gcc or clang), with which Triton launches kernels")


@cache
def build(text: str) -> Any:
    """The function `pairs` of a kernel: compiled by Triton at its first call, or interpreted where TRITON_INTERPRET is set."""
    number = zlib.crc32(text.encode())
    name = f"<bnnpriors kernel {number:08x}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # where Triton reads it
    space: dict[str, Any] = {"__name__": f"bnnpriors_kernel_{number:08x}"}
    exec(compile(FUNCTIONS.read_text(), str(FUNCTIONS), "exec"), space)
    exec(compile(text, name, "exec"), space)
    return space["pairs"]
