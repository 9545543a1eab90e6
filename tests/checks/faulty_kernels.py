"""Kernels with one fault each, and the check that is there to find it."""

import torch
from gpytorch.kernels import Kernel, RBFKernel
from torch import Tensor


class Asymmetric(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        value = super().forward(x1, x2, diag=diag, **params)
        return value if diag else value * (1 + 0.01 * torch.tanh(x1[..., :1]))


class Indefinite(Kernel):
    """1 − |x − x'|²/10: its variances are 1, its matrices have negative eigenvalues."""

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        return 1 - 0.1 * self.covar_dist(x1, x2, square_dist=True, diag=diag, **params)


class WrongDiagonal(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        value = super().forward(x1, x2, diag=diag, **params)
        return 1.01 * value if diag else value


class DependsOnTheBlock(RBFKernel):
    """Standardises by what it is given."""

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        spread = 1.0 if diag else 1 + 0.001 * x2.shape[-2]
        return super().forward(x1 / spread, x2 / spread, diag=diag, **params)


class DependsOnTheOrder(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        value = super().forward(x1, x2, diag=diag, **params)
        if diag or x1.shape != x2.shape:
            return value
        weight = 1 + 0.01 * torch.arange(x1.shape[-2], dtype=x1.dtype)
        return value * torch.where(
            x1[..., :1] < x1[..., :1].roll(1, -2), weight[:, None], weight[:, None].flip(0)
        )


class CoarseInFloat32(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        value = super().forward(x1, x2, diag=diag, **params)
        return (value * 512).round() / 512 if value.dtype == torch.float32 else value


class GradientCut(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        return super().forward(
            x1 / self.lengthscale.detach(), x2 / self.lengthscale.detach(), diag=diag, **params
        )


class InputGradientCut(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        return super().forward(x1.detach(), x2.detach(), diag=diag, **params)


class IgnoresBatches(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        value = super().forward(x1, x2, diag=diag, **params)
        return value if diag or value.ndim == 2 else value[:1].expand_as(value)


class Remembers(RBFKernel):
    """Changes a little with each call."""

    calls = 0

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        self.calls += 1
        return super().forward(x1, x2, diag=diag, **params) * (1 + 1e-12 * self.calls)


class NotFinite(RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        return super().forward(x1, x2, diag=diag, **params).log().log()


FAULTS = {
    NotFinite: "interface",
    Asymmetric: "symmetry",
    Indefinite: "positive semi-definite",
    WrongDiagonal: "diagonal",
    DependsOnTheBlock: "blocks",
    DependsOnTheOrder: "order and copies of inputs",
    CoarseInFloat32: "dtypes",
    GradientCut: "gradients",
    InputGradientCut: "gradients",
    IgnoresBatches: "GPyTorch",
    Remembers: "copies of the kernel",
}
