"""BlackJAX's NUTS after its window adaptation (step size and diagonal metric), one chain a device."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

jax.config.update(
    "jax_num_cpu_devices", 4
)  # must precede the first JAX operation, which importing BlackJAX is

import blackjax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from benchmarks.contenders.regression_jax import log_density, start  # noqa: E402
from benchmarks.problem import Parameters  # noqa: E402
from benchmarks.regression import Regression  # noqa: E402


def build(regression: Regression, chains: int, warmup: int, draws: int) -> BlackJAX:
    """A `benchmarks.prediction_ess.Sampled`."""
    return BlackJAX(regression, chains, warmup, draws)


class BlackJAX:
    """Each chain adapts by itself and draws, one compiled program for all."""

    gradients = float("nan")

    def __init__(self, regression: Regression, chains: int, warmup: int, draws: int) -> None:
        self.regression, self.chains, self.warmup, self.draws = regression, chains, warmup, draws
        self.density = partial(log_density, regression)

    def log_density(self, theta: Parameters) -> float:
        """See `benchmarks.prediction_ess.Sampled`."""
        return float(self.density(dict(theta)))

    def sample(self) -> dict[str, np.ndarray]:
        """See `benchmarks.prediction_ess.Sampled`."""
        mesh = Mesh(np.array(jax.devices()[: self.chains]), ("chains",))
        place = NamedSharding(mesh, PartitionSpec("chains"))
        positions = jax.device_put(start(self.regression, self.chains), place)
        keys = jax.device_put(jax.random.split(jax.random.key(0), self.chains), place)
        one = jax.shard_map(
            jax.vmap(self.chain),
            mesh=mesh,
            in_specs=PartitionSpec("chains"),
            out_specs=PartitionSpec("chains"),
            check_vma=False,
        )
        draws, steps = jax.block_until_ready(jax.jit(one)(keys, positions))
        self.gradients = float(steps.sum())
        return {name: np.asarray(value) for name, value in draws.items()}

    def chain(self, key: jax.Array, position: Any) -> tuple[Any, jax.Array]:
        """Positions [draws, *shape] of one chain, and its gradients."""
        adapt_key, sample_key = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, self.density)
        (state, parameters), info = adaptation.run(adapt_key, position, num_steps=self.warmup)
        kernel = blackjax.nuts(self.density, **parameters)

        def draw(state: Any, key: jax.Array) -> tuple[Any, Any]:
            state, info = kernel.step(key, state)
            return state, (state.position, info.num_integration_steps)

        _, (draws, steps) = jax.lax.scan(draw, state, jax.random.split(sample_key, self.draws))
        return draws, steps.sum() + info.info.num_integration_steps.sum()
