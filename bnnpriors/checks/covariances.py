"""What a covariance function owes: symmetry, no negative variance of any sum, one value for a pair, whatever is beside it."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

SAME = 1e-7
"""Difference allowed where only rounding may differ, over √(K(x, x) K(x', x')): near copies of an input have half the digits."""
FLOAT32_TOLERANCE = 1e-4


class KernelSubject:
    """A kernel under test, in float64, and the inputs on which it is judged.

    Args:
        x: [n, *shape] float64, different from each other.
        networks: width -> the model whose kernel it is; None if there is none.
    """

    def __init__(
        self, kernel: Kernel, x: Float64[Tensor, "n *shape"], seed: int, networks: Callable[[int], Any] | None
    ) -> None:
        self.given, self.x, self.seed, self.networks = kernel, x, seed, networks
        self.kernel = copy.deepcopy(kernel).double()
        self._variances: dict[bytes, Tensor] = {}

    @property
    def is_infinite(self) -> bool:
        """Whether it is the kernel of an infinitely wide network, which takes inputs as the module does."""
        from ..infinite import InfiniteWidthKernel

        return isinstance(self.given, InfiniteWidthKernel)

    def matrix(self, x1: Tensor, x2: Tensor | None = None, kernel: Kernel | None = None) -> Tensor:
        """K(x1, x2), or K(x1, x1), with gradients."""
        kernel = self.kernel if kernel is None else kernel
        if self.is_infinite:
            return kernel.matrix(x1, x2)
        return kernel(x1, x1 if x2 is None else x2).to_dense()

    def variance(self, x: Tensor) -> Tensor:
        """K(x, x) of each input, by the kernel's own shortcut."""
        return self.kernel.variance(x) if self.is_infinite else self.kernel(x, diag=True)

    def on_rows(self) -> tuple[Kernel, Tensor]:
        """The kernel as GPyTorch calls it, and the inputs as flat rows."""
        if not self.is_infinite:
            return self.kernel, self.x
        from ..infinite import InfiniteWidthKernel

        flat = InfiniteWidthKernel(self.kernel.program, tuple(self.x.shape[1:]))
        flat.load_state_dict(self.kernel.state_dict())
        return flat, self.x.flatten(1)

    def generator(self, stream: int) -> torch.Generator:
        """A fresh generator; the same stream gives the same numbers."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    def apart(self, found: Tensor, expected: Tensor, rows: Tensor, columns: Tensor) -> float:
        """The largest difference of entries, over √(K(x, x) K(x', x')); infinite for another shape or NaN."""
        if found.shape != expected.shape:
            return math.inf
        scale = (self._own(rows)[:, None] * self._own(columns)).sqrt()
        error = ((found - expected).abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max()
        return math.inf if bool(error.isnan()) else float(error)

    @torch.no_grad()
    def _own(self, x: Tensor) -> Tensor:
        """|K(x, x)| of each input alone, computed once."""
        for row in x:
            key = row.numpy().tobytes()
            if key not in self._variances:
                self._variances[key] = self.matrix(row[None])[0, 0].abs()
        return torch.stack([self._variances[row.numpy().tobytes()] for row in x])


@torch.no_grad()
def check_interface(subject: KernelSubject) -> tuple[bool, str]:
    """K of n and m inputs is [n, m], finite, of their dtype."""
    x = subject.x
    for what, found, shape in (
        ("K(x, x)", subject.matrix(x), (len(x), len(x))),
        ("K(x1, x2)", subject.matrix(x[:2], x[1:]), (2, len(x) - 1)),
        ("the diagonal", subject.variance(x), (len(x),)),
    ):
        if tuple(found.shape) != shape or found.dtype != x.dtype:
            return False, f"{what} is {tuple(found.shape)} of {found.dtype}, expected {shape} of {x.dtype}"
        if not bool(found.isfinite().all()):
            return False, f"{what} holds NaN or infinite values"
    return True, f"{len(x)} inputs of shape {tuple(x.shape[1:])}: finite matrices of their dtype"


@torch.no_grad()
def check_symmetry(subject: KernelSubject) -> tuple[bool, str]:
    """K(x, x) = K(x, x)ᵀ, and K(x1, x2) = K(x2, x1)ᵀ."""
    x = subject.x
    whole = subject.matrix(x)
    error = subject.apart(whole, whole.mT, x, x)
    one, two = subject.matrix(x[:-1], x[1:]), subject.matrix(x[1:], x[:-1]).mT
    return _within(max(error, subject.apart(one, two, x[:-1], x[1:])), SAME)


@torch.no_grad()
def check_definite(subject: KernelSubject) -> tuple[bool, str]:
    """No eigenvalue below zero, and |K(x, x')|² ≤ K(x, x) K(x', x'), of the inputs, multiples of them, near and exact copies."""
    x = subject.x
    noise = torch.randn(x.shape, generator=subject.generator(1), dtype=x.dtype)
    points = torch.cat([x, 0.3 * x, -2 * x, x + 1e-3 * noise, x[:1]])
    matrix = subject.matrix(points)
    own = matrix.diagonal()
    if bool((own < 0).any()):
        return False, f"a variance of {float(own.min()):.3g}, expected none below zero"
    lowest = float(torch.linalg.eigvalsh((matrix + matrix.mT) / 2).min() / own.sum().clamp_min(1e-300))
    correlation = float((matrix.square() / (own[:, None] * own).clamp_min(1e-300)).max())
    return (
        lowest >= -SAME and correlation <= 1 + SAME,
        f"{len(points)} inputs: lowest eigenvalue {lowest:.1g} of the trace, allowed {-SAME:g}; largest squared correlation "
        f"{correlation:.6g}",
    )


@torch.no_grad()
def check_diagonal(subject: KernelSubject) -> tuple[bool, str]:
    """The variances are the diagonal of K(x, x), and K of each input alone."""
    x = subject.x
    own, whole = subject.variance(x), subject.matrix(x).diagonal()
    alone = torch.stack([subject.matrix(row[None], row[None].clone())[0, 0] for row in x])
    error = float(
        torch.maximum((own - whole).abs(), (own - alone).abs()).div(alone.abs().clamp_min(1e-300)).max()
    )
    return _within(error, SAME)


@torch.no_grad()
def check_blocks(subject: KernelSubject) -> tuple[bool, str]:
    """K of parts of the inputs, and of single pairs, is that part of K; ours also in blocks of any memory, and by `gram`."""
    x = subject.x
    whole = subject.matrix(x)
    error = 0.0
    for rows, columns in (
        (slice(0, 2), slice(1, None)),
        (slice(1, None), slice(0, 1)),
        (slice(-1, None), slice(0, None)),
    ):
        part = subject.matrix(x[rows], x[columns])
        error = max(error, subject.apart(part, whole[rows, columns], x[rows], x[columns]))
    error = max(error, subject.apart(subject.matrix(x[:-1]), whole[:-1, :-1], x[:-1], x[:-1]))
    if subject.is_infinite:
        for memory in (1, 2**30):
            blocks = subject.kernel.gram(x, memory=memory)
            error = max(error, subject.apart(blocks, whole, x, x))
    return _within(error, SAME)


@torch.no_grad()
def check_order(subject: KernelSubject) -> tuple[bool, str]:
    """Inputs in another order, and twice, have the same entries."""
    x = subject.x
    order = torch.cat([torch.randperm(len(x), generator=subject.generator(2)), torch.tensor([0, len(x) - 1])])
    points = x[order]
    return _within(
        subject.apart(subject.matrix(points), subject.matrix(x)[order][:, order], points, points), SAME
    )


@torch.no_grad()
def check_dtypes(subject: KernelSubject) -> tuple[bool, str]:
    """float32 agrees with float64."""
    x = subject.x.float()
    single = subject.given if subject.is_infinite else copy.deepcopy(subject.given).float()
    error = 0.0
    for x2 in (None, x[1:]):
        found = subject.matrix(x, x2, single)
        if found.dtype != torch.float32:
            return False, f"inputs of float32 give {found.dtype}, expected float32"
        columns = subject.x if x2 is None else subject.x[1:]
        exact = subject.matrix(subject.x, None if x2 is None else columns)
        error = max(error, subject.apart(found.double(), exact, subject.x, columns))
        if subject.is_infinite:
            blocks = subject.given.gram(x, x2)
            error = max(error, subject.apart(blocks.double(), exact, subject.x, columns))
    return _within(error, FLOAT32_TOLERANCE)


@torch.no_grad()
def check_gpytorch(subject: KernelSubject) -> tuple[bool, str]:
    """Flat rows as GPyTorch gives them: batches, diagonals of pairs, lazy slices, and a sum with a scaled kernel."""
    from gpytorch.kernels import RBFKernel, ScaleKernel

    kernel, rows = subject.on_rows()
    rows = rows[: len(rows) // 2 * 2]
    half = len(rows) // 2
    x = subject.x[: len(rows)]
    whole = kernel(rows).to_dense()
    error = subject.apart(whole, subject.matrix(x), x, x)
    batched = kernel(rows.reshape(2, half, -1)).to_dense()
    for part, inputs in zip(batched, (slice(0, half), slice(half, None)), strict=True):
        error = max(error, subject.apart(part, whole[inputs, inputs], x[inputs], x[inputs]))
    pairs = kernel(rows[:half], rows[half:], diag=True)
    error = max(error, subject.apart(pairs.diag(), whole[:half, half:].diagonal().diag(), x[:half], x[half:]))
    lazy = kernel(rows)[..., :1, 1:].to_dense()
    error = max(error, subject.apart(lazy, whole[:1, 1:], x[:1], x[1:]))
    other = RBFKernel().double()
    total = (ScaleKernel(kernel).double() + other)(rows).to_dense()
    error = max(error, subject.apart(total - other(rows).to_dense(), math.log(2) * whole, x, x))
    return _within(error, SAME)


@torch.no_grad()
def check_copies(subject: KernelSubject) -> tuple[bool, str]:
    """A pickled and a deep-copied kernel, and one that loads its state, have its matrix, and no call changes the kernel."""
    x, kernel = subject.x, subject.kernel
    before = subject.matrix(x)
    other = copy.deepcopy(kernel)
    for parameter in other.parameters():
        parameter.data.add_(0.1)
    other.load_state_dict(kernel.state_dict())
    error = 0.0
    for twin in (pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel), other, kernel):
        error = max(error, subject.apart(subject.matrix(x, None, twin), before, x, x))
    return _within(error, 0.0)


def _within(error: float, allowed: float) -> tuple[bool, str]:
    if error == math.inf:
        return False, "another shape, or NaN"
    return error <= allowed, f"largest difference {error:.1g} of √(K(x, x) K(x', x')), allowed {allowed:g}"
