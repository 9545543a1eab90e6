"""BlackJAX with XLA's own random bit generator in place of threefry, the documented choice where random bits cost time."""

import jax

from benchmarks.contenders.blackjax import build

jax.config.update("jax_default_prng_impl", "rbg")

__all__ = ["build"]
