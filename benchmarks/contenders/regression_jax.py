"""The log density of `benchmarks.regression` in JAX; used by every JAX contender."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.contenders.mlp_jax import Tree, log_prior, outputs
from benchmarks.regression import NOISE, Regression


def log_density(regression: Regression, theta: Tree) -> jax.Array:
    """Log density of one chain up to a constant."""
    problem, u = regression.problem, theta[NOISE]
    squares = jnp.square(outputs(problem, theta, jnp.asarray(regression.x)) - jnp.asarray(regression.y)).sum()
    noise = -0.5 * jnp.exp(2 * u) + u
    return log_prior(problem, theta) + noise - 0.5 * squares * jnp.exp(-2 * u) - problem.num_data * u


def start(regression: Regression, chains: int) -> Tree:
    """Where the chains start, each [chains, *shape]."""
    return {name: jnp.asarray(value) for name, value in regression.start(chains).items()}
