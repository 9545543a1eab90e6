"""This library, through its public interface only: attach, Posterior, sample."""

from __future__ import annotations

from typing import Any

import torch

import bnnpriors as bp
from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters, Problem


def build(problem: Problem, chains: int) -> Ours:
    """A `benchmarks.harness.Contender`."""
    return Ours(problem, chains)


class Ours:
    """A call is one `bp.sample`, everything that it prepares included.

    Compilation is asked for: left to itself `bp.sample` compiles only runs long enough to repay it, and the difference
    between a short call and a long one would then mix two programs.
    """

    def __init__(self, problem: Problem, chains: int) -> None:
        self.problem, self.chains = problem, chains
        priors = {
            "*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(gain=1.0)),
            "*.bias": bp.priors.Normal(0.0, 1.0),
        }
        model = bp.attach(mlp_torch.network(problem), priors)
        likelihood: Any = bp.likelihoods.Categorical()
        if problem.kind == "regression":
            likelihood = bp.likelihoods.Gaussian(scale=problem.noise_scale)
        x, y = mlp_torch.tensors(problem)
        self.posterior = bp.Posterior(model, likelihood, x, y, temperature=1.0, batch_size=problem.batch_size)
        if problem.sampler == "hmc":
            self.sampler: Any = bp.samplers.HMC(step_size=problem.step_size, num_steps=problem.steps_per_draw)
            self.thin = 1
        else:
            settings = {"step_size": problem.step_size}
            if problem.sampler == "sgld":
                self.sampler = bp.samplers.SGLD(**settings)
            else:
                self.sampler = bp.samplers.SGHMC(**settings, momentum_decay=problem.momentum_decay)
            self.thin = problem.steps_per_draw

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        flat = torch.cat([torch.as_tensor(theta[name]).flatten() for name in self.problem.shapes()])
        return float(self.posterior.log_density(flat[None])[0])

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        draws = bp.sample(
            self.posterior,
            self.sampler,
            num_samples=blocks * self.problem.draws_per_block,
            num_warmup=0,
            num_chains=self.chains,
            thin=self.thin,
            seed=0,
            progress=False,
            compile=True,
        )
        return float(draws.theta[:, -1].sum())
