"""`check_kernel`: is a kernel the covariance of anything, and computed right?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..module import BayesianModule
from .covariances import (
    KernelSubject,
    check_blocks,
    check_copies,
    check_definite,
    check_diagonal,
    check_dtypes,
    check_gpytorch,
    check_interface,
    check_order,
    check_symmetry,
)
from .kernel_gradients import check_gradients
from .report import Check, Report, run_checks
from .widths import check_networks

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

KERNEL_CHECKS = (
    Check("interface", check_interface),
    Check("symmetry", check_symmetry, ("interface",)),
    Check("positive semi-definite", check_definite, ("interface",)),
    Check("diagonal", check_diagonal, ("interface",)),
    Check("blocks", check_blocks, ("interface",)),
    Check("order and copies of inputs", check_order, ("interface",)),
    Check("dtypes", check_dtypes, ("interface",)),
    Check("gradients", check_gradients, ("interface",)),
    Check("GPyTorch", check_gpytorch, ("interface",)),
    Check("copies of the kernel", check_copies, ("interface",)),
    Check("networks of finite width", check_networks, ("interface",)),
)
POINTS, FEATURES = 6, 3


def check_kernel(
    kernel: Kernel,
    x: Float[Tensor, "n *shape"] | None = None,
    *,
    networks: Callable[[int], BayesianModule] | None = None,
    seed: int = 0,
) -> Report:
    """Test a kernel: one of `bp.infinite.kernel`, or any GPyTorch kernel, such as your own.

    The properties, with the figure of each in the report:

    - interface: n and m inputs give a finite matrix [n, m] of their dtype;
    - symmetry: K(x, x) = K(x, x)ᵀ and K(x1, x2) = K(x2, x1)ᵀ;
    - positive semi-definite: no eigenvalue below zero, of the inputs, multiples of them and near and exact copies;
    - diagonal: the variances that the kernel gives by themselves are the diagonal;
    - blocks: a part of the inputs, or a pair alone, has the entries that it has in the whole;
    - order and copies of inputs: another order and repeated inputs change no entry;
    - dtypes: float32 agrees with float64 within 1e-4;
    - gradients: in every hyperparameter and in the inputs, against central differences;
    - GPyTorch: batches of rows, diagonals of pairs, lazy slices, sums with other kernels;
    - copies of the kernel: pickled, deep-copied and from a state_dict, bit for bit, and no call changes the kernel;
    - networks of finite width, where `networks` is given: their outputs have the kernel on average, and the covariance given the
      hidden layers approaches it at rate 1/√width.

    The last is statistical, with a false-alarm rate of 1e-6; the others compare numbers, over √(K(x, x) K(x', x')). Takes a
    second or so for small inputs, and about ten for networks. The kernel and the global random generators are left as they were.

    Args:
        kernel: in any dtype; a copy of it is tested in float64.
        x: inputs, three at least and different, as the kernel takes them; 6 random ones where the kernel says of what shape.
        networks: width -> the model, with its priors, of hidden layers that wide. It has to end in a Linear layer.
        seed: of all random numbers.

    Raises:
        TypeError: `kernel` is none. ValueError: inputs that are needed and not given, that are fewer than three, or of which two
            are equal; a negative seed.
    """
    from gpytorch.kernels import Kernel

    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"check_kernel: {type(kernel).__name__} given, expected bp.infinite.kernel(model), or one of GPyTorch's kind"
        )
    if seed < 0:
        raise ValueError(f"check_kernel: seed {seed} given, expected an integer from 0")
    if x is None:
        x = torch.randn(
            POINTS, *_shape(kernel), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
    x = x.detach().cpu().double()
    if x.ndim < 2 or len(x) < 3 or len(x.flatten(1).unique(dim=0)) < len(x) or not bool(x.isfinite().all()):
        raise ValueError(
            f"check_kernel: inputs {tuple(x.shape)} given, expected three at least, [n, ...], finite and all different"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        subject = KernelSubject(kernel, x, seed, networks)
        return run_checks(
            subject, f"{type(kernel).__name__} on inputs of shape {tuple(x.shape[1:])}", KERNEL_CHECKS
        )


def _shape(kernel: Kernel) -> tuple[int, ...]:
    """The shape of an input, where the kernel says."""
    from gpytorch.kernels import Kernel

    from ..infinite import InfiniteWidthKernel
    from ..infinite.program import Dense

    if not isinstance(kernel, InfiniteWidthKernel):
        counts = [0]
        for part in kernel.modules():
            if isinstance(part, Kernel):
                last = 0 if part.active_dims is None else int(part.active_dims.max()) + 1
                counts += [last, part.ard_num_dims or 0]
        return (max(counts) or FEATURES,)
    if kernel.input_shape is not None:
        return kernel.input_shape
    dense = [node for node in kernel.program.nodes if isinstance(node, Dense)]
    if kernel.program.has_positions:
        raise ValueError(
            "check_kernel: the network works on positions; pass x, inputs as the module takes them, such as six images"
        )
    return (dense[0].features[0],)
