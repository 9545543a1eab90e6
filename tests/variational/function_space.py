"""What tests of function-space inference share: networks, data, and the kernel of a linear network."""

from __future__ import annotations

import gpytorch
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import FunctionSpace

QUICK = {"num_steps": 200, "learning_rate": 0.05, "progress": False}


def own_kernel(posterior: bp.Posterior) -> gpytorch.kernels.Kernel:
    """Of a linear network the kernel of infinite width is that of its own prior, x·x'."""
    return bp.infinite.kernel(posterior.model)


def network(width: int, activation: nn.Module, outputs: int = 1) -> bp.BayesianModule:
    net = nn.Sequential(nn.Linear(1, width), activation, nn.Linear(width, outputs)).double()
    return bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(gain=2**0.5)), "*.bias": P.Normal(0.0, 1.0)})


def wave(num: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.linspace(-2, 2, num, dtype=torch.float64)[:, None]
    noise = torch.randn(num, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.sin(2 * x) + 0.1 * noise


@torch.no_grad()
def divergence(fit: FunctionSpace, x: Tensor) -> float:
    return float(fit._divergence.closed(fit.sample(1), x))
