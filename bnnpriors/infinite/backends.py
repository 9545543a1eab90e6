"""What computes kernel matrices: a fused kernel where there is one (in C++ on the CPU, by Triton on CUDA), the recursion in torch
otherwise."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .fused import FusedKernel
from .pairs import PairKernel
from .recursion import Recursion
from .steps import Unfusable
from .triton_kernel import TritonKernel, check_device

Backend = Literal["auto", "fused", "torch"]


def check_backend(backend: str) -> Backend:
    """The backend, if it is one.

    Raises:
        ValueError: it is not.
    """
    for known in get_args(Backend):
        if backend == known:
            return known
    raise ValueError(f"backend {backend!r} given, expected one of {', '.join(get_args(Backend))}")


def choose(backend: Backend, recursion: Recursion, x1: Tensor, x2: Tensor | None) -> PairKernel[Any] | None:
    """A fused kernel, or None for the recursion in torch.

    Raises:
        ValueError: backend="fused", and a reason why not.
    """
    if backend == "torch":
        return None
    try:
        return _fused(recursion, x1, x2)
    except Unfusable as reason:
        if backend == "auto":
            return None
        raise ValueError(f"backend='fused' is not possible here: {reason}. backend='torch' is") from reason


def _fused(recursion: Recursion, x1: Tensor, x2: Tensor | None) -> PairKernel[Any]:
    if x1.device.type not in ("cpu", "cuda"):
        raise Unfusable(f"it runs on the CPU and on CUDA, and the inputs are on {x1.device}")
    values = [value for layer in recursion.layers for value in (layer.weight_variance, layer.lengthscale)]
    values += [layer.bias_variance for layer in recursion.layers]
    inputs = [x for x in (x1, x2) if x is not None]
    if torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in [*values, *inputs]):
        raise Unfusable("it has no gradients, which are wanted here (use gram, or torch.no_grad())")
    if x1.device.type == "cpu":
        return FusedKernel(recursion, x1.shape[1])
    check_device(x1.device)
    return TritonKernel(recursion, x1)
