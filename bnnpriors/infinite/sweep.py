"""Kernels for many lengthscales of one layer's taps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from . import library
from .backends import Backend, choose
from .blocks import kernel_matrix
from .fused import FusedKernel
from .program import Convolution
from .recursion import Recursion
from .stencils import tap_terms
from .steps import Step, Unfusable

TERM_BYTES = 2**28
"""For the sums D(δ) of one block of pairs."""


def check_lengthscales(lengthscales: Sequence[float]) -> None:
    """ValueError where one is not a positive number, or there is none."""
    if not lengthscales or not all(0 < length < math.inf for length in lengthscales):
        raise ValueError(
            f"lengthscale_sweep: lengthscales {list(lengthscales)} given, expected positive numbers (of taps)"
        )


def with_lengthscale(recursion: Recursion, layer: int, lengthscale: float) -> Recursion:
    """The recursion with another lengthscale of one layer."""
    layers = list(recursion.layers)
    layers[layer] = replace(layers[layer], lengthscale=torch.tensor(lengthscale, dtype=torch.float64))
    return Recursion(recursion.plan, layers)


def sweep(
    backend: Backend,
    recursion: Recursion,
    layer: int,
    x1: Tensor,
    x2: Tensor | None,
    lengthscales: Sequence[float],
    memory: int,
) -> Float[Tensor, "lengthscales n m"]:
    """`InfiniteWidthKernel.lengthscale_sweep`, for the layer of this number."""
    kernels: list[Tensor] = []
    for length in lengthscales:
        other = with_lengthscale(recursion, layer, length)
        fused = choose(backend, other, x1, x2)
        if isinstance(fused, FusedKernel) and not kernels:
            try:
                return ReadoutSweep(fused, recursion, layer)(x1, x2, lengthscales, memory)
            except Unfusable:
                pass  # a pass for each lengthscale
        kernels.append(
            kernel_matrix(other, x1, x2, memory)[0] if fused is None else fused.matrix(x1, x2, memory)
        )
    return torch.stack(kernels)


class ReadoutSweep:
    """K_ℓ = σ_b² + Σ_δ Σ_ℓ(δ) D(δ), D(δ) = Σ_p V_{p, p+δ}, for a last convolution over all positions: one pass gives the
    kernel for every lengthscale ℓ.

    Args:
        fused: the kernel at any lengthscale. recursion: of it. layer: the number of the last layer.

    Raises:
        Unfusable: where a kernel is not such a sum.
    """

    def __init__(self, fused: FusedKernel, recursion: Recursion, layer: int) -> None:
        program, steps = recursion.plan.program, fused.lowered.steps
        readouts = [step for step in steps if step.kind == library.READOUT]
        self._taps, self._layer = program.layers[layer].taps, recursion.layers[layer]
        node = next(n for n in program.nodes if isinstance(n, Convolution) and n.layer == layer)
        if len(readouts) != 1 or self._taps is None or self._taps.scales is not None:
            raise Unfusable("the layer is not the only one that reads out all positions")
        self._readout, after = readouts[0], steps[steps.index(readouts[0]) + 1 :]
        is_last = all(
            step.is_pointwise and step.activation == library.NONE and not step.added for step in after
        )
        window = (1, *node.window.size)[-2:]
        if (
            not is_last
            or self._readout.target.shape != (1, 1)
            or (window[0], window[1]) != _size(self._readout)
        ):
            raise Unfusable("the layer is not the last, or does not see all positions at once")
        self._window, self._after, self._fused = node.window.size, after, fused
        ones = torch.ones(math.prod(window), math.prod(window), dtype=torch.float64)
        self._readout.terms = sorted(tap_terms(ones, (window[0], window[1]), self._readout.dilation))

    def weights(self, lengthscale: float) -> Float[Tensor, " terms"]:
        """Σ_ℓ(δ) for each term."""
        assert self._taps is not None
        matrix = float(self._layer.weight_variance) * self._taps.shape(self._window, lengthscale)
        width, (down, right) = self._window[-1], self._readout.dilation
        first = [term.y * width + term.x for term in self._readout.terms]
        other = [
            (term.y + term.dy // down) * width + term.x + term.dx // right for term in self._readout.terms
        ]
        return matrix[first, other]

    def __call__(
        self, x1: Tensor, x2: Tensor | None, lengthscales: Sequence[float], memory: int
    ) -> Float[Tensor, "lengthscales n m"]:
        """The kernels between two sets of inputs, or of one with itself (x2 = None)."""
        weights = torch.stack([self.weights(length) for length in lengthscales], -1).to(x1)
        columns = x1 if x2 is None else x2
        out = x1.new_empty(len(lengthscales), len(x1), len(columns))
        size = max(1, math.isqrt(TERM_BYTES // (weights.shape[0] * x1.element_size())))
        for i in range(0, len(x1), size):
            one, rows = self._fused.prepare(x1[i : i + size], memory), slice(i, i + size)
            for j in range(i if x2 is None else 0, len(columns), size):
                is_own, across = x2 is None and i == j, slice(j, j + size)
                other = one if is_own else self._fused.prepare(columns[across], memory)
                block = self._fused.terms(one, other, self._readout, is_own=is_own) @ weights
                for step in self._after:
                    block = block * step.weight + step.bias
                block = block.movedim(-1, 0)
                out[:, rows, across] = block.triu() + block.triu(1).mT if is_own else block
                if x2 is None and not is_own:
                    out[:, across, rows] = block.mT
        return out


def _size(readout: Step) -> tuple[int, int]:
    assert readout.source is not None
    return readout.source.shape
