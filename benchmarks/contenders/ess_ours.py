"""This library's HMC for small networks, with its own adaptation, through its public interface only."""

from __future__ import annotations

import numpy as np
import torch

import bnnpriors as bp
from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters
from benchmarks.regression import Regression


def build(regression: Regression, chains: int, warmup: int, draws: int) -> Ours:
    """A `benchmarks.prediction_ess.Sampled`."""
    sampler = bp.samplers.HMC(step_size=0.01, num_steps=100)
    ours = Ours(regression, sampler, chains, warmup, draws)
    ours.gradients = 100.0 * chains * (warmup + draws)
    return ours


class Ours:
    """One `bp.sample`."""

    gradients = float("nan")

    def __init__(
        self, regression: Regression, sampler: bp.samplers.Sampler, chains: int, warmup: int, draws: int, *,
        compile: bool | None = None,
    ) -> None:  # fmt: skip
        self.regression, self.sampler, self.compile = regression, sampler, compile
        self.counts = {"num_samples": draws, "num_warmup": warmup, "num_chains": chains}
        priors = {
            "*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(gain=1.0)),
            "*.bias": bp.priors.Normal(0.0, 1.0),
        }
        model = bp.attach(mlp_torch.network(regression.problem), priors)
        likelihood = bp.likelihoods.Gaussian(scale=bp.priors.HalfNormal(1.0))
        x, y = torch.from_numpy(regression.x), torch.from_numpy(regression.y)
        self.posterior = bp.Posterior(model, likelihood, x, y)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.prediction_ess.Sampled`."""
        flat = torch.cat([torch.as_tensor(theta[name]).flatten() for name in self.regression.shapes()])
        return float(self.posterior.log_density(flat[None])[0])

    def sample(self) -> dict[str, np.ndarray]:
        """See `benchmarks.prediction_ess.Sampled`."""
        draws = bp.sample(
            self.posterior, self.sampler, **self.counts, seed=0, progress=False, compile=self.compile
        )
        if "num_steps" in draws.stats:
            share = self.counts["num_warmup"] / self.counts["num_samples"]
            self.gradients = float(draws.stats["num_steps"].sum()) * (1 + share)
        found = {name: draws[name] for name in self.regression.problem.shapes()}
        return {name: np.asarray(value) for name, value in found.items()}
