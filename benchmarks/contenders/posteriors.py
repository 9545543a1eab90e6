"""posteriors: its update compiled by torch.compile, the log density summed over chains inside a vmap.

It has no HMC: the nearest is BAOA on the full batch, one gradient a step as in the leapfrog, momenta refreshed a little
at every step and no Metropolis test.
"""

from __future__ import annotations

import posteriors
import torch
from torch import Tensor
from torch.func import vmap

from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters, Problem

FRICTION = 10.0  # momentum decays by exp(-friction * step_size) a step


def build(problem: Problem, chains: int) -> Posteriors:
    """A `benchmarks.harness.Contender`."""
    torch.manual_seed(0)
    return Posteriors(problem, chains)


class Posteriors:
    """`posteriors.sgmcmc` with all chains in one state: each parameter is `[chains, *shape]`."""

    def __init__(self, problem: Problem, chains: int) -> None:
        self.problem, self.chains = problem, chains
        self.net, self.data = mlp_torch.network(problem), mlp_torch.tensors(problem)
        if problem.sampler == "hmc":
            build_transform, settings = posteriors.sgmcmc.baoa.build, {"alpha": FRICTION}
            step_size = problem.step_size
        elif problem.sampler == "sgld":
            build_transform, settings = posteriors.sgmcmc.sgld.build, {}
            step_size = problem.step_size**2 / 2
        else:
            friction = (1 - problem.momentum_decay) / problem.step_size
            build_transform, settings = posteriors.sgmcmc.sghmc.build, {"alpha": friction}
            step_size = problem.step_size
        transform = build_transform(self.log_posterior, lr=step_size, **settings)
        self.update = torch.compile(transform.update)
        self.state = transform.init(mlp_torch.start(problem, chains))

    def log_posterior(self, theta: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum of the chains' log densities, whose gradient is every chain's own; and no auxiliary output."""

        def one(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return mlp_torch.log_density(self.problem, self.net, theta, x, y)

        in_axes = (0, None, None) if self.problem.batch_size is None else (0, 0, 0)
        return vmap(one, in_axes)(theta, *batch).sum(), torch.tensor([])

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        x, y = self.data
        batch = (x, y) if self.problem.batch_size is None else (x[None], y[None])
        one_chain = {name: torch.as_tensor(value)[None] for name, value in theta.items()}
        return float(self.log_posterior(one_chain, batch)[0])

    def batch(self) -> tuple[Tensor, Tensor]:
        """All rows, or fresh random ones for every chain."""
        x, y = self.data
        if self.problem.batch_size is None:
            return x, y
        rows = torch.randint(self.problem.num_data, (self.chains, self.problem.batch_size))
        return x[rows], y[rows]

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        kept = []
        for step in range(blocks * self.problem.steps_per_block):
            self.state, _ = self.update(self.state, self.batch())
            if (step + 1) % self.problem.steps_per_draw == 0:
                kept.append({name: value.clone() for name, value in self.state.params.items()})
        return sum(float(value.sum()) for value in kept[-1].values())
