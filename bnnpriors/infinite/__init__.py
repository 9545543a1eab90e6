"""The infinitely wide limit of the same module with the same priors: its Gaussian process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..module import BayesianModule
from . import zoo
from .backends import Backend
from .classification import DirichletClassifier, LeastSquaresClassifier
from .iterative import IterativeGPRegression
from .layers import ApproximateKernelWarning
from .regression import GPRegression
from .softmax import SoftmaxClassifier
from .stored import StoredGram
from .trace import trace

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel
    from .orbit import OrbitKernel
    from .precomputed import PrecomputedKernel


def kernel(
    model: BayesianModule,
    *,
    input_shape: tuple[int, ...] | None = None,
    mean_terms: bool = True,
    backend: Backend = "auto",
) -> InfiniteWidthKernel:
    """The kernel of the Gaussian process that a network with priors becomes as its hidden layers grow infinitely wide.

    The module is traced into a layer program: Linear, Conv1d, Conv2d (strides, paddings, dilation), ReLU, LeakyReLU, GELU, Tanh,
    SiLU, Sigmoid, Softplus, Mish, torch.erf and torch.sin, average pooling, zero padding, Flatten, Identity, sums of branches and
    products with numbers. A layer needs independent weights of finite variance and mean zero, or `CorrelatedNormal` filters; its
    variance is all that is left of its prior. The widths of the module itself play no part.

    The limit is exact where the first layer's weights and all biases are Gaussian; weights of the other layers may have any prior
    with a finite variance, by the central limit theorem. Otherwise an `ApproximateKernelWarning` says where.

    Args:
        model: from `bp.attach(net, priors)`.
        input_shape: the shape of one input, such as (1, 28, 28): needed where it is called with flat rows, as by GPyTorch.
        mean_terms: `False` adds kernels where branches are summed, and nothing more: it leaves out E[a]E[b'] + E[b]E[a'] of terms
            a + b that both have a mean, and lets a skip start at the inputs. The published Residual CNN GP (1808.05587) does so;
            it is then the kernel of no network.
        backend: what computes kernel matrices. "fused": without gradients, for ReLU, LeakyReLU, GELU and torch.erf, compiled C++
            on the CPU and Triton on CUDA, where covariances of different positions are left out. "torch": the recursion in torch,
            for everything. "auto": the first where it can.

    Raises:
        TypeError: `model` has no priors. ValueError: an unknown backend; a layer, a prior or a module that has no such limit, or
            no known one, and then the message names it and what to use.
    """
    from .nngp import InfiniteWidthKernel

    return InfiniteWidthKernel(trace(model, mean_terms=mean_terms), input_shape, backend)


def open_gram(path: str | Path) -> StoredGram:
    """A kernel matrix that `kernel.gram(..., out=path)` wrote, whole or in part, to be read.

    Raises:
        StoreError: there is none in the folder, or its metadata are damaged.
    """
    return StoredGram.open(path)


def __getattr__(name: str) -> Any:  # GPyTorch takes a while to import
    if name == "InfiniteWidthKernel":
        from .nngp import InfiniteWidthKernel

        return InfiniteWidthKernel
    if name == "PrecomputedKernel":
        from .precomputed import PrecomputedKernel

        return PrecomputedKernel
    if name == "OrbitKernel":
        from .orbit import OrbitKernel

        return OrbitKernel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ApproximateKernelWarning",
    "DirichletClassifier",
    "GPRegression",
    "InfiniteWidthKernel",
    "IterativeGPRegression",
    "LeastSquaresClassifier",
    "OrbitKernel",
    "PrecomputedKernel",
    "SoftmaxClassifier",
    "StoredGram",
    "kernel",
    "open_gram",
    "zoo",
]
