"""NumPyro's NUTS with its own adaptation, one chain an XLA device."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from numpyro.infer import MCMC, NUTS

from benchmarks.contenders.regression_jax import log_density, start
from benchmarks.problem import Parameters
from benchmarks.regression import Regression


def build(regression: Regression, chains: int, warmup: int, draws: int) -> NumPyro:
    """A `benchmarks.prediction_ess.Sampled`."""
    jax.config.update("jax_num_cpu_devices", chains)
    return NumPyro(regression, chains, warmup, draws)


class NumPyro:
    """NUTS on a potential function; chains in parallel."""

    gradients = float("nan")

    def __init__(self, regression: Regression, chains: int, warmup: int, draws: int) -> None:
        self.density = partial(log_density, regression)
        self.start = start(regression, chains)
        kernel = NUTS(potential_fn=lambda theta: -self.density(theta))
        self.mcmc = MCMC(
            kernel, num_warmup=warmup, num_samples=draws, num_chains=chains, chain_method="parallel", progress_bar=False
        )  # fmt: skip

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.prediction_ess.Sampled`."""
        return float(self.density(dict(theta)))

    def sample(self) -> dict[str, np.ndarray]:
        """See `benchmarks.prediction_ess.Sampled`."""
        fields = ("num_steps",)
        self.mcmc.run(jax.random.PRNGKey(0), init_params=self.start, extra_fields=fields)
        draws = jax.block_until_ready(self.mcmc.get_samples(group_by_chain=True))
        steps = self.mcmc.get_extra_fields()["num_steps"]
        self.gradients = float(steps.sum()) * (1 + self.mcmc.num_warmup / self.mcmc.num_samples)
        return {name: np.asarray(value) for name, value in draws.items()}
