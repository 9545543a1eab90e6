"""Draws of a finite network's prior held against the kernel of its infinitely wide limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

if TYPE_CHECKING:
    from ..infinite import InfiniteWidthKernel


@dataclass(frozen=True)
class KernelComparison:
    """The second moments of a network's outputs under its prior, and those of its infinitely wide limit.

    Attributes:
        sampled: (1/(S O)) Σ_s Σ_o f_so(x_i) f_so(x_j) over S draws and O outputs, [batch, batch].
        kernel: K(x_i, x_j) of the limit.
    """

    sampled: Float64[Tensor, "batch batch"]
    kernel: Float64[Tensor, "batch batch"]
    num_functions: int

    @property
    def difference(self) -> float:
        """‖sampled − K‖_F / ‖K‖_F."""
        return float((self.sampled - self.kernel).norm() / self.kernel.norm())

    @property
    def expected(self) -> float:
        """What `difference` would be, as a root mean square, were the S O functions independent draws of the limit itself.

        A product of two Gaussian numbers has variance K_ii K_jj + K_ij², so this is √(((tr K)² + ‖K‖_F²)/(S O)) / ‖K‖_F.
        """
        square = self.kernel.square().sum()
        return float(((self.kernel.trace().square() + square) / (self.num_functions * square)).sqrt())

    def __str__(self) -> str:
        return (
            f"second moments of {self.num_functions} sampled functions differ from the infinite-width kernel by "
            f"{self.difference:.1%} (Frobenius norm); so few draws of the limit itself would differ by {self.expected:.1%}"
        )


@torch.no_grad()
def against_kernel(
    kernel: InfiniteWidthKernel, x: Tensor, outputs: Float[Tensor, "draws batch *out"]
) -> KernelComparison:
    """See `PriorPredictive.against`."""
    functions = outputs.double().flatten(2) if outputs.ndim > 2 else outputs.double()[..., None]
    if not functions.isfinite().all():
        raise ValueError(
            "against: some draws are NaN or infinite, so they have no second moments; look at `overflow` and the layers first"
        )
    count = functions.shape[0] * functions.shape[2]
    sampled = torch.einsum("sio,sjo->ij", functions, functions) / count
    return KernelComparison(sampled, kernel.matrix(x.double()).double(), count)
