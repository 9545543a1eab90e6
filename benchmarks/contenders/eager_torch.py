"""Plain torch, as a user would write SGLD or SGHMC in a training script: autograd, a loop over parameters, one chain."""

from __future__ import annotations

import torch

from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters, Problem


def build(problem: Problem, chains: int) -> EagerTorch:
    """A `benchmarks.harness.Contender`; one chain."""
    return EagerTorch(problem)


class EagerTorch:
    """SGLD: theta <- theta + (h^2/2) grad log p + h eps. SGHMC: m <- a m + h grad log p + √(1 − a²) eps, theta <- theta + h m.
    One parameter after another."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.net, self.data = mlp_torch.network(problem), mlp_torch.tensors(problem)
        with torch.no_grad():
            for parameter, value in zip(
                self.net.parameters(), mlp_torch.start(problem, 1).values(), strict=True
            ):
                parameter.copy_(value[0])
        self.generator = torch.Generator().manual_seed(0)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        return mlp_torch.full_log_density(self.problem, dict(theta))

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        problem, (x, y), generator = self.problem, self.data, self.generator
        assert problem.batch_size is not None
        named = dict(self.net.named_parameters())
        momenta = {name: torch.zeros_like(value) for name, value in named.items()}
        h, a = problem.step_size, problem.momentum_decay
        kept = []
        for step in range(blocks * problem.steps_per_block):
            rows = torch.randint(problem.num_data, (problem.batch_size,), generator=generator)
            mlp_torch.log_density(problem, self.net, named, x[rows], y[rows]).backward()
            with torch.no_grad():
                for name, parameter in named.items():
                    assert parameter.grad is not None
                    noise = torch.randn(parameter.shape, generator=generator)
                    if problem.sampler == "sgld":
                        parameter.add_(parameter.grad, alpha=h * h / 2).add_(noise, alpha=h)
                    else:
                        momenta[name].mul_(a).add_(parameter.grad, alpha=h).add_(
                            noise, alpha=(1 - a * a) ** 0.5
                        )
                        parameter.add_(momenta[name], alpha=h)
                    parameter.grad = None
            if (step + 1) % problem.steps_per_draw == 0:
                kept.append({name: value.detach().clone() for name, value in named.items()})
        return sum(float(value.sum()) for value in kept[-1].values())
