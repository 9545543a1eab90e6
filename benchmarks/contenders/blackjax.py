"""BlackJAX: one jitted function that scans over draws, chains by vmap, spread over XLA's devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.contenders.mlp_jax import log_likelihood, log_prior
from benchmarks.problem import Parameters, Problem


def build(problem: Problem, chains: int, integration_steps: int = 10) -> BlackJAX:
    """A `benchmarks.harness.Contender`; `chains` must be a multiple of XLA's devices (one by default)."""
    return BlackJAX(problem, chains, integration_steps)


class BlackJAX:
    """HMC, SGLD or SGHMC by BlackJAX's own kernels; a block is one call of a compiled scan.

    Args:
        integration_steps: of SGHMC, on one minibatch.
    """

    def __init__(self, problem: Problem, chains: int, integration_steps: int) -> None:
        self.problem, self.chains, self.integration_steps = problem, chains, integration_steps
        self.data = tuple(jnp.asarray(array) for array in problem.data())
        init, block = self.hmc() if problem.sampler == "hmc" else self.minibatches()
        start = {name: jnp.asarray(value) for name, value in problem.prior_draws(chains, seed=0).items()}
        self.sharding = NamedSharding(Mesh(np.array(jax.devices()), ("chains",)), PartitionSpec("chains"))
        if chains > 1:
            start = jax.device_put(start, self.sharding)
            self.state, self.block = jax.jit(jax.vmap(init))(start), jax.jit(jax.vmap(block, (0, 0, None)))
        else:
            self.state, self.block = (
                jax.jit(init)({name: value[0] for name, value in start.items()}),
                jax.jit(block),
            )
        self.key = jax.random.key(0)

    def hmc(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Initial state and a block of draws of full-batch HMC."""
        dim = sum(int(np.prod(shape)) for shape in self.problem.shapes().values())
        settings = (self.problem.step_size, jnp.ones(dim), self.problem.steps_per_draw)
        sampler = blackjax.hmc(self.full_log_density, *settings)

        def block(state: Any, key: jax.Array, data: Any) -> tuple[Any, Any]:
            def draw(state: Any, key: jax.Array) -> tuple[Any, Any]:
                state, _ = sampler.step(key, state)
                return state, state.position

            return jax.lax.scan(draw, state, jax.random.split(key, self.problem.draws_per_block))

        return sampler.init, block

    def minibatches(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Initial state and a block of SGLD or SGHMC steps, each on its own random minibatch, keeping the last position.

        BlackJAX's SGHMC takes `integration_steps` steps with one minibatch and returns the position alone, so the last gradient
        of a call changes nothing; of a call of one step XLA would leave out the only one.
        """
        problem = self.problem
        assert problem.batch_size is not None
        batch_size = problem.batch_size
        likelihood = partial(log_likelihood, problem)
        gradient = blackjax.sgmcmc.gradients.grad_estimator(
            partial(log_prior, problem), likelihood, problem.num_data
        )
        if problem.sampler == "sgld":
            sampler, size, calls = blackjax.sgld(gradient), problem.step_size**2 / 2, problem.steps_per_block
        else:
            size, calls = problem.step_size, problem.steps_per_block // self.integration_steps
            friction = (1 - problem.momentum_decay) / size
            sampler = blackjax.sghmc(gradient, num_integration_steps=self.integration_steps, alpha=friction)

        def block(state: Any, key: jax.Array, data: Any) -> tuple[Any, Any]:
            def step(state: Any, key: jax.Array) -> tuple[Any, None]:
                key_rows, key_noise = jax.random.split(key)
                rows = jax.random.randint(key_rows, (batch_size,), 0, problem.num_data)
                batch = tuple(array[rows] for array in data)
                return sampler.step(key_noise, state, batch, size), None

            state, _ = jax.lax.scan(step, state, jax.random.split(key, calls))
            return state, state

        return sampler.init, block

    def full_log_density(self, theta: Any) -> jax.Array:
        """Log density of one chain on all rows."""
        return log_prior(self.problem, theta) + log_likelihood(self.problem, theta, self.data)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.harness.Contender`."""
        return float(self.full_log_density({name: jnp.asarray(value) for name, value in theta.items()}))

    def run(self, blocks: int) -> float:
        """See `benchmarks.harness.Contender`."""
        kept = []
        for _ in range(blocks):
            self.key, key = jax.random.split(self.key)
            keys = (
                jax.device_put(jax.random.split(key, self.chains), self.sharding) if self.chains > 1 else key
            )
            self.state, positions = self.block(self.state, keys, self.data)
            kept.append(positions)
        return float(sum(leaf.sum() for leaf in jax.tree.leaves(jax.block_until_ready(kept)[-1])))
