"""The problem's log density in JAX, over a dictionary of parameters; used by every JAX contender."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.problem import Problem

Tree = dict[str, Any]


def outputs(problem: Problem, theta: Tree, x: jax.Array) -> jax.Array:
    """Network outputs for inputs `[..., in]`."""
    names = problem.names()
    for layer, name in enumerate(names):
        weight, bias = theta[f"{name}.weight"], theta[f"{name}.bias"]
        if layer < len(problem.channels) - 1:
            size = problem.side(layer)
            image = x.reshape(-1, problem.channels[layer], size, size)
            image = jax.lax.conv_general_dilated(image, weight, (2, 2), ((1, 1), (1, 1)))
            x = (image + bias[:, None, None]).reshape(*x.shape[:-1], -1)
        else:
            x = x @ weight.T + bias
        if layer < len(names) - 1:
            x = jnp.tanh(x) if problem.activation == "tanh" else jax.nn.relu(x)
    return x


def log_prior(problem: Problem, theta: Tree) -> jax.Array:
    """Log prior density up to a constant."""
    return -0.5 * sum(p * jnp.square(theta[name]).sum() for name, p in problem.precisions().items())


def log_likelihood(problem: Problem, theta: Tree, row: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Log likelihood summed over whatever rows are given: one, or all."""
    x, y = row
    out = outputs(problem, theta, x)
    if problem.kind == "regression":
        return -0.5 * jnp.square(out - y).sum() / problem.noise_scale**2
    return jnp.take_along_axis(jax.nn.log_softmax(out), y[..., None], -1).sum()
