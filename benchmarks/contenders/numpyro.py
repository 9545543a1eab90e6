"""NumPyro's HMC with fixed steps, adaptation off, chains vectorised; blocks continue from the last state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import HMC, MCMC

from benchmarks.contenders.mlp_jax import log_likelihood, log_prior
from benchmarks.problem import Parameters, Problem


def build(problem: Problem, chains: int) -> NumPyro:
    """A `benchmarks.harness.Contender`."""
    return NumPyro(problem, chains)


class NumPyro:
    """HMC on a potential function; a block is one compiled `MCMC.run`."""

    def __init__(self, problem: Problem, chains: int) -> None:
        self.problem = problem
        self.data = tuple(jnp.asarray(array) for array in problem.data())
        kernel = HMC(
            potential_fn=self.potential,
            step_size=problem.step_size,
            num_steps=problem.steps_per_draw,
            trajectory_length=None,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        self.mcmc = MCMC(
            kernel,
            num_warmup=0,
            num_samples=problem.draws_per_block,
            num_chains=chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        start = {name: jnp.asarray(value) for name, value in problem.prior_draws(chains, seed=0).items()}
        self.start = start if chains > 1 else jax.tree.map(lambda leaf: leaf[0], start)

    def potential(self, theta: Any) -> jax.Array:
        """Negative log density of one chain on all rows."""
        return -log_prior(self.problem, theta) - log_likelihood(self.problem, theta, self.data)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        return -float(self.potential({name: jnp.asarray(value) for name, value in theta.items()}))

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        kept = []
        for _ in range(blocks):
            if self.mcmc.last_state is None:
                self.mcmc.run(jax.random.PRNGKey(0), init_params=self.start)
            else:
                self.mcmc.post_warmup_state = self.mcmc.last_state
                self.mcmc.run(self.mcmc.last_state.rng_key)
            kept.append(self.mcmc.get_samples(group_by_chain=True))
        return float(sum(leaf.sum() for leaf in jax.tree.leaves(jax.block_until_ready(kept)[-1])))
