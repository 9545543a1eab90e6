"""BlackJAX's SGHMC with a fresh minibatch for every two steps, as often as it can: see `BlackJAX.minibatches`."""

from functools import partial

from benchmarks.contenders import blackjax

build = partial(blackjax.build, integration_steps=2)

__all__ = ["build"]
