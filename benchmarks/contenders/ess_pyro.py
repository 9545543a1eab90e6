"""Pyro's NUTS with its own adaptation, one chain after another."""

from __future__ import annotations

import numpy as np
import pyro
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor
from torch.func import functional_call

from benchmarks.contenders import mlp_torch
from benchmarks.problem import Parameters
from benchmarks.regression import NOISE, Regression


def build(regression: Regression, chains: int, warmup: int, draws: int) -> Pyro:
    """A `benchmarks.prediction_ess.Sampled`."""
    pyro.set_rng_seed(0)
    return Pyro(regression, chains, warmup, draws)


class Pyro:
    """NUTS on a potential function."""

    gradients = float("nan")

    def __init__(self, regression: Regression, chains: int, warmup: int, draws: int) -> None:
        self.regression, self.chains, self.warmup, self.draws = regression, chains, warmup, draws
        self.net = mlp_torch.network(regression.problem)
        self.x, self.y = torch.from_numpy(regression.x), torch.from_numpy(regression.y)
        self.calls = 0

    def potential(self, theta: dict[str, Tensor]) -> Tensor:
        """Negative log density."""
        self.calls += 1
        problem, u = self.regression.problem, theta[NOISE]
        squares = sum(p * theta[name].square().sum() for name, p in problem.precisions().items())
        weights = {name: theta[name] for name in problem.shapes()}
        error = (functional_call(self.net, weights, (self.x,)) - self.y).square().sum()
        noise = 0.5 * (2 * u).exp() - u
        return 0.5 * squares + noise + 0.5 * error * (-2 * u).exp() + problem.num_data * u

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.prediction_ess.Sampled`."""
        return -float(self.potential({name: torch.as_tensor(value) for name, value in theta.items()}))

    def sample(self) -> dict[str, np.ndarray]:
        """See `benchmarks.prediction_ess.Sampled`."""
        found = []
        every = {name: torch.as_tensor(value) for name, value in self.regression.start(self.chains).items()}
        for chain in range(self.chains):
            start = {name: value[chain] for name, value in every.items()}
            kernel = NUTS(potential_fn=self.potential)
            settings = {"num_samples": self.draws, "warmup_steps": self.warmup, "disable_progbar": True}
            mcmc = MCMC(kernel, initial_params=start, **settings)
            mcmc.run()
            found.append(mcmc.get_samples())
        self.gradients = float(self.calls)
        return {name: torch.stack([draws[name] for draws in found]).numpy() for name in found[0]}
