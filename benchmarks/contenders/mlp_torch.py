"""The problem's network and log density in torch, over a dictionary of parameters; used by every torch peer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.problem import Problem

Tree = dict[str, Tensor]


def network(problem: Problem) -> nn.Sequential:
    """Convolutions, if any, and linear layers, with the activation between them."""
    layers: list[nn.Module] = []

    def activation() -> nn.Module:
        return nn.Tanh() if problem.activation == "tanh" else nn.ReLU()

    if problem.channels:
        layers.append(nn.Unflatten(1, (problem.channels[0], problem.side(0), problem.side(0))))
        for inputs, outputs in pairwise(problem.channels):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
        layers.append(nn.Flatten())
    for fan_in, fan_out in pairwise(problem.layer_sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def tensors(problem: Problem) -> tuple[Tensor, Tensor]:
    """The data as tensors."""
    x, y = problem.data()
    return torch.from_numpy(x), torch.from_numpy(y)


def start(problem: Problem, chains: int) -> Tree:
    """Where the chains start, each `[chains, *shape]`."""
    return {name: torch.from_numpy(value) for name, value in problem.prior_draws(chains, seed=0).items()}


def log_density(
    problem: Problem, net: nn.Module, theta: Mapping[str, Tensor], x: Tensor, y: Tensor
) -> Tensor:
    """Log density of one chain, the likelihood of the given rows scaled up to all `num_data`; a scalar."""
    log_prior = -0.5 * sum(
        (p * theta[name].square().sum() for name, p in problem.precisions().items()), x.new_zeros(())
    )
    out = functional_call(net, dict(theta), (x,))
    if problem.kind == "regression":
        log_likelihood = -0.5 * (out - y).square().sum() / problem.noise_scale**2
    else:
        log_likelihood = -nn.functional.cross_entropy(out, y, reduction="sum")
    return log_prior + log_likelihood * (problem.num_data / x.shape[0])


def full_log_density(problem: Problem, theta: dict) -> float:
    """Log density of one chain on all rows, from numpy arrays."""
    as_tensors = {name: torch.as_tensor(value) for name, value in theta.items()}
    return float(log_density(problem, network(problem), as_tensors, *tensors(problem)))
