"""Pyro's HMC with fixed steps, adaptation off, one chain."""

from __future__ import annotations

import pyro
import torch
from pyro.infer import HMC, MCMC
from torch import Tensor

from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters, Problem


def build(problem: Problem, chains: int) -> Pyro:
    """A `benchmarks.harness.Contender`; one chain."""
    pyro.set_rng_seed(0)
    return Pyro(problem)


class Pyro:
    """HMC on a potential function; a call is one `MCMC.run`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.net, self.data = mlp_torch.network(problem), mlp_torch.tensors(problem)
        self.position = {name: value[0] for name, value in mlp_torch.start(problem, 1).items()}

    def potential(self, theta: dict[str, Tensor]) -> Tensor:
        """Negative log density on all rows."""
        return -mlp_torch.log_density(self.problem, self.net, theta, *self.data)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        return -float(self.potential({name: torch.as_tensor(value) for name, value in theta.items()}))

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        kernel = HMC(
            potential_fn=self.potential,
            step_size=self.problem.step_size,
            num_steps=self.problem.steps_per_draw,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        mcmc = MCMC(
            kernel,
            num_samples=blocks * self.problem.draws_per_block,
            warmup_steps=0,
            initial_params=self.position,
            disable_progbar=True,
        )
        mcmc.run()
        draws = mcmc.get_samples()
        self.position = {name: value[-1] for name, value in draws.items()}
        return sum(float(value.sum()) for value in self.position.values())
