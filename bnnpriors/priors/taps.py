"""The covariance of the taps of a convolution kernel, from the distances between them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Kernel = str | Callable[[Tensor], Tensor] | Tensor
JITTER = 1e-8
"""Added to the diagonal of every covariance: smooth kernels of a long lengthscale are singular in floating point."""


def matern12(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """κ(d) = exp(−d), d in lengthscales."""
    return torch.exp(-distance)


def matern32(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """κ(d) = (1 + √3 d) exp(−√3 d)."""
    scaled = math.sqrt(3) * distance
    return (1 + scaled) * torch.exp(-scaled)


def matern52(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """κ(d) = (1 + √5 d + 5d²/3) exp(−√5 d)."""
    scaled = math.sqrt(5) * distance
    return (1 + scaled + scaled * scaled / 3) * torch.exp(-scaled)


def rbf(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """κ(d) = exp(−d²/2), the squared exponential."""
    return torch.exp(-0.5 * distance * distance)


KERNELS = {"matern12": matern12, "matern32": matern32, "matern52": matern52, "rbf": rbf}


def tap_covariance(
    kernel: Kernel, lengthscale: float | Tensor, taps: tuple[int, ...], device: torch.device | None = None
) -> Float64[Tensor, "*lead taps taps"]:
    """R_pp' = κ(‖p − p'‖₂/ℓ) + 1e-8 δ_pp' over the positions p of a kernel of these sizes, or the matrix that is the kernel.

    Args:
        lengthscale: ℓ in taps, [*lead] or one number.
    """
    if isinstance(kernel, Tensor):
        matrix = kernel.to(device=device, dtype=torch.float64)
    else:
        axes = [torch.arange(size, dtype=torch.float64, device=device) for size in taps]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(taps))
        distance = (points[:, None] - points).square().sum(-1).sqrt()
        if isinstance(lengthscale, Tensor):
            lengthscale = lengthscale.to(distance)[..., None, None]
        matrix = (KERNELS[kernel] if isinstance(kernel, str) else kernel)(distance / lengthscale)
    return matrix + JITTER * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def apply_to_taps(
    matrix: Float[Tensor, "*lead taps taps"], w: Float[Tensor, "out in *kernel"]
) -> Float[Tensor, "out in *kernel"]:
    """The matrix times the vector of each filter's taps.

    With one matrix for all filters the result is laid out tap after tap in memory: products with a few long rows are five
    times as fast as those with many short ones.
    """
    matrix, flat = matrix.to(w), w.flatten(2)
    if matrix.ndim > 2:
        return (matrix @ flat[..., None])[..., 0].reshape(w.shape)
    result = matrix @ flat.flatten(0, 1).mT
    return result.mT.unflatten(0, w.shape[:2]).unflatten(-1, w.shape[2:])


def per_filter(value: float | Tensor) -> float | Tensor:
    """A parameter [out, in, 1, ...] without its tap dimensions."""
    return value.flatten(2)[..., 0] if isinstance(value, Tensor) and value.ndim > 2 else value
