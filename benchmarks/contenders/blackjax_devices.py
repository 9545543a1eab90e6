"""BlackJAX with the chains shared out over one XLA device a core, its documented way to use several cores."""

import os

import jax

jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # must precede the first JAX operation

from benchmarks.contenders.blackjax import build  # noqa: E402

__all__ = ["build"]
