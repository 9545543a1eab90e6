"""The kernel of the infinitely wide network, as a GPyTorch kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from .backends import Backend, check_backend, choose
from .blocks import kernel_matrix, own_maps
from .hyperparameters import LayerKernel
from .plan import lay_out
from .program import Program
from .recursion import Recursion
from .stored import StoredGram
from .sweep import check_lengthscales, sweep
from .tiles import store_gram

MEMORY = 2**24
"""Bytes for one block of pairs, unless told otherwise: blocks that stay near the caches are faster than large ones."""


class InfiniteWidthKernel(LayerKernel):
    """The covariance of the outputs of a network whose hidden layers are infinitely wide; made by `bp.infinite.kernel`.

    Its hyperparameters are those of `LayerKernel`: `weight_variance`, `bias_variance` and `lengthscale_of_taps`.

    Args:
        program: the layer program.
        input_shape: the shape of one input, for calls with flat rows.
        backend: as for `bp.infinite.kernel`; an attribute too, which can be changed.

    Raises:
        ValueError: an unknown backend, or a shape that the network does not take.
    """

    def __init__(
        self, program: Program, input_shape: tuple[int, ...] | None = None, backend: Backend = "auto"
    ) -> None:
        super().__init__(program)
        self.backend = backend
        self.input_shape = input_shape
        if input_shape is not None:
            lay_out(program, tuple(input_shape))

    @property
    def backend(self) -> Backend:
        """What computes kernel matrices: "auto", "fused" or "torch"."""
        return self._backend

    @backend.setter
    def backend(self, backend: Backend) -> None:
        self._backend = check_backend(backend)

    @torch.no_grad()
    def backend_of(self, x: Float[Tensor, "n *shape"]) -> Literal["fused", "torch"]:
        """What computes `gram(x)` here: what "auto" comes to."""
        x = self._inputs(x[:1])
        return "torch" if choose(self.backend, self._recursion(x), x, None) is None else "fused"

    @overload
    def gram(
        self, x1: Tensor, x2: Tensor | None = None, *, dtype: torch.dtype | None = None,
        device: torch.device | str | None = None, memory: int = MEMORY, out: None = None,
    ) -> Tensor: ...  # fmt: skip

    @overload
    def gram(
        self, x1: Tensor, x2: Tensor | None = None, *, dtype: torch.dtype | None = None,
        device: torch.device | str | None = None, memory: int = MEMORY, out: str | Path, tile: int | None = None,
        resume: bool = False, workers: int | None = None, scheduler: str | None = None, progress: bool = True,
    ) -> StoredGram: ...  # fmt: skip

    @torch.no_grad()
    def gram(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory: int = MEMORY,
        out: str | Path | None = None,
        tile: int | None = None,
        resume: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        progress: bool = True,
    ) -> Float[Tensor, "n m"] | StoredGram:
        """K(x1, x2), without gradients; the symmetric K(x1, x1) if there is no x2.

        With `out` the matrix goes to a folder, tile by tile, and a `StoredGram` reads it. A process that is killed loses the
        tiles that it was computing; the same call with `resume=True` goes on, and the result is bit for bit that of a run that
        was not stopped. What the tiles will cost is logged, and shown above the progress bar, before the first.

        Args:
            x1, x2: inputs as the module takes them, [n, channels, *positions] or [n, features]; or flat rows if the kernel knows
                `input_shape`.
            dtype, device: of the computation and the result; those of x1 if not given.
            memory: bytes for one block of pairs, about.
            out: the folder. tile: rows and columns of a tile of it, 1024 if not given.
            resume: continue in a folder that is there, of the same kernel, inputs and dtype.
            workers: processes on this machine that share the tiles; this process, with all its threads, if not given.
            scheduler: address of a running dask scheduler whose workers share them, such as "tcp://10.0.0.1:8786".
            progress: whether to show a bar, on a terminal or in a notebook.

        Raises:
            TypeError: inputs that are not float32 or float64. ValueError: inputs of a shape that the network does not take, or
                that hold NaN or infinities. StoreError: a folder that is there already, or of another kernel; a disk without
                room. MemoryError: tiles that the memory does not hold. ImportError, OSError: no dask, or no scheduler.
        """
        if out is None:
            return self.matrix(*self._moved(x1, x2, dtype, device), memory=memory)
        place = torch.device(device or x1.device)
        x1, x2 = self._pair(*self._moved(x1, x2, dtype, "cpu"))
        return store_gram(
            self, x1, x2, Path(out), device=place, memory=memory, tile=tile, resume=resume, workers=workers,
            scheduler=scheduler, progress=progress,
        )  # fmt: skip

    @torch.no_grad()
    def lengthscale_sweep(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        lengthscales: Sequence[float],
        layer: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory: int = MEMORY,
    ) -> Float[Tensor, "lengthscales n m"]:
        """`gram` for many lengthscales of the taps of one layer, without changing the kernel's own.

        Where that layer is the last and sees all positions at once, K_ℓ = σ_b² + Σ_δ Σ_ℓ(δ) D(δ) with D(δ) = Σ_p V_{p, p+δ}: one
        pass of the fused kernel gives them all. Otherwise it is a pass for each.

        Args:
            lengthscales: ℓ, in taps. layer: one of `tap_names`, the last unless given. The others as for `gram`.

        Raises:
            ValueError: as for `gram`; no such layer, or lengthscales that are not positive.
        """
        if not self.tap_names or (layer is not None and layer not in self.tap_names):
            raise ValueError(
                f"lengthscale_sweep: layer {layer!r} given, expected one of {self.tap_names} with correlated taps"
            )
        check_lengthscales(lengthscales)
        x1, x2 = self._pair(*self._moved(x1, x2, dtype, device))
        number = self._scaled[-1 if layer is None else self.tap_names.index(layer)]
        return sweep(self.backend, self._recursion(x1), number, x1, x2, lengthscales, memory)

    @torch.no_grad()
    def ntk(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory: int = MEMORY,
    ) -> Float[Tensor, "n m"]:
        """Θ(x1, x2), the neural tangent kernel in the NTK parametrisation; arguments and errors as for `gram`."""
        x1, x2 = self._pair(*self._moved(x1, x2, dtype, device))
        tangent = kernel_matrix(self._recursion(x1, ntk=True), x1, x2, memory)[1]
        assert tangent is not None
        return tangent

    def matrix(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        memory: int = MEMORY,
    ) -> Float[Tensor, "n m"]:
        """K(x1, x2) as `gram`, with gradients in the hyperparameters and the inputs."""
        x1, x2 = self._pair(x1, x2)
        recursion = self._recursion(x1)
        fused = choose(self.backend, recursion, x1, x2)
        if fused is not None:
            return fused.matrix(x1, x2, memory)
        return kernel_matrix(recursion, x1, x2, memory)[0]

    def variance(self, x: Float[Tensor, "n *shape"], *, memory: int = MEMORY) -> Float[Tensor, " n"]:
        """K(x, x) of each input alone, with gradients: the diagonal of `matrix(x)`."""
        x = self._inputs(x)
        recursion = self._recursion(x)
        if not len(x):
            return x.new_empty(0)
        fused = choose(self.backend, recursion, x, None) if any(recursion.plan.is_full) else None
        return own_maps(recursion, x, memory).nngp if fused is None else fused.variance(x, memory)

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False, **params: object
    ) -> Tensor:
        """What GPyTorch calls, with flat rows [..., n, features]."""
        if last_dim_is_batch:
            raise NotImplementedError(
                "last_dim_is_batch: this kernel does not split over features; leave it out"
            )
        if x1.ndim > 2 or x2.ndim > 2:
            lead = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
            pairs = zip(*(x.expand(*lead, *x.shape[-2:]).flatten(0, -3) for x in (x1, x2)), strict=True)
            parts = torch.stack([self.forward(a, b, diag) for a, b in pairs])
            return parts.reshape(*lead, *parts.shape[1:])
        is_same = x1 is x2 or (x1.shape == x2.shape and torch.equal(x1, x2))
        if diag and is_same:
            return self.variance(x1)
        if diag:
            return torch.cat([self.matrix(a[None], b[None])[0] for a, b in zip(x1, x2, strict=True)])
        return self.matrix(x1, None if is_same else x2)

    def _recursion(self, x: Tensor, *, ntk: bool = False) -> Recursion:
        return Recursion(lay_out(self.program, tuple(x.shape[1:])), self.layer_values(x.device), ntk=ntk)

    def _moved(
        self, x1: Tensor, x2: Tensor | None, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> tuple[Tensor, Tensor | None]:
        _check_dtype(x1 if dtype is None else x1.new_empty(0, dtype=dtype))
        dtype, device = dtype or x1.dtype, device or x1.device
        return x1.to(device, dtype), None if x2 is None else x2.to(device, dtype)

    def _pair(self, x1: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x1, x2 = self._inputs(x1), None if x2 is None else self._inputs(x2)
        if x2 is not None and (x1.shape[1:], x1.dtype) != (x2.shape[1:], x2.dtype):
            raise ValueError(
                f"inputs {tuple(x1.shape)} of {x1.dtype} and {tuple(x2.shape)} of {x2.dtype} given, expected one shape and dtype"
            )
        return x1, x2

    def _inputs(self, x: Tensor) -> Tensor:
        _check_dtype(x)
        if not bool(x.isfinite().all()):
            raise ValueError("inputs hold NaN or infinite values: remove those rows")
        if self.input_shape is not None and x.ndim == 2:
            if x.shape[1] != math.prod(self.input_shape):
                raise ValueError(
                    f"inputs {tuple(x.shape)}: expected rows of {math.prod(self.input_shape)} numbers, as input_shape "
                    f"{tuple(self.input_shape)} says"
                )
            x = x.reshape(-1, *self.input_shape)
        if x.ndim == 2 and self.program.has_positions:
            raise ValueError(
                f"inputs {tuple(x.shape)} are flat rows, and the network works on positions; give [n, channels, *positions], or "
                "tell the kernel: bp.infinite.kernel(model, input_shape=(1, 28, 28))"
            )
        if x.ndim < 2:
            raise ValueError(f"inputs {tuple(x.shape)}: expected [n, features] or [n, channels, *positions]")
        return x


def _check_dtype(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"inputs of {x.dtype} given, expected float32 or float64; use x.float() or x.double()"
        )
