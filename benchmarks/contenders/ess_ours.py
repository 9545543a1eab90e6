"""This library's sampler for small networks, with its own adaptation, through its public interface only."""

from __future__ import annotations

import numpy as np
import torch

import bnnpriors as bp
from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters
from benchmarks.regression import Regression


def build(regression: Regression, chains: int, warmup: int, draws: int) -> Ours:
    """A `benchmarks.prediction_ess.Sampled`."""
    return Ours(regression, chains, warmup, draws)


class Ours:
    """One `bp.sample`."""

    gradients = float("nan")

    def __init__(self, regression: Regression, chains: int, warmup: int, draws: int) -> None:
        self.regression, self.chains, self.warmup, self.draws = regression, chains, warmup, draws
        priors = {
            "*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(gain=1.0)),
            "*.bias": bp.priors.Normal(0.0, 1.0),
        }
        model = bp.attach(mlp_torch.network(regression.problem), priors)
        likelihood = bp.likelihoods.Gaussian(scale=bp.priors.HalfNormal(1.0))
        x, y = torch.from_numpy(regression.x), torch.from_numpy(regression.y)
        self.posterior = bp.Posterior(model, likelihood, x, y)
        self.sampler = bp.samplers.HMC(step_size=0.01, num_steps=30)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.prediction_ess.Sampled`."""
        flat = torch.cat([torch.as_tensor(theta[name]).flatten() for name in self.regression.shapes()])
        return float(self.posterior.log_density(flat[None])[0])

    def sample(self) -> dict[str, np.ndarray]:
        """See `benchmarks.prediction_ess.Sampled`."""
        counts = {"num_samples": self.draws, "num_warmup": self.warmup, "num_chains": self.chains}
        draws = bp.sample(self.posterior, self.sampler, **counts, seed=0, progress=False)
        steps = self.sampler.gradients(self.posterior.target(self.chains))[0]
        self.gradients = steps * self.chains * (self.warmup + self.draws)
        found = {name: draws[name] for name in self.regression.problem.shapes()}
        return {name: np.asarray(value) for name, value in found.items()}
