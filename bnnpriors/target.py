"""What samplers see of a posterior: its potential at fixed temperatures, exact or estimated."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .programs import GRADIENT, VALUE, Batch, Plan, Share
from .streams import Minibatch, Streams

if TYPE_CHECKING:
    from .posterior import Posterior


class Target:
    """The potential at fixed temperatures, as samplers use it: exact on the full data, or estimated on minibatches.

    Attributes:
        share: by which chunks of chains are evaluated, in several threads; None for one after the other in this thread.
    """

    is_random = False
    """Whether the potential has noise, and gradients are estimates on the full data too."""

    def __init__(self, posterior: Posterior, temperature: Float[Tensor, " chains"], plan: Plan) -> None:
        self.temperature = temperature
        self.plan = plan
        self.dim, self.num_data, self.layout = posterior.dim, posterior.num_data, posterior.layout
        self.batch_size, self.is_random = posterior.batch_size, posterior.is_random
        self._data = posterior.data
        self._prior_weight = posterior.prior_weight(temperature)
        self._posterior, self._programs = posterior, posterior.programs(plan)
        self.share: Share | None = None

    def part(self, chains: slice | Tensor) -> Target:
        """The same target for some of its chains, a slice or their indices."""
        new = copy.copy(self)
        new.temperature, new._prior_weight = self.temperature[chains], self._prior_weight[chains]
        return new

    def uncompiled(self) -> Target:
        """The same target, for so few evaluations that compiling a program does not pay."""
        new = copy.copy(self)
        new._programs = self._posterior.programs(self.plan._replace(compiled=False))
        return new

    def check_exact(self, who: str) -> None:
        """Raise ValueError where the potential has noise, as one with random transformations of the data has."""
        if self.is_random:
            self._posterior.refuse_random(who)

    def potential(self, theta: Float[Tensor, "chains dim"]) -> Float64[Tensor, " chains"]:
        """U on the full data. Raises ValueError where it has noise."""
        self.check_exact("potential")
        return self._programs.evaluate(theta, self._prior_weight, self._data, 1.0, (VALUE,), self.share)[0]

    def value_and_gradient(
        self, theta: Float[Tensor, "chains dim"]
    ) -> tuple[Float64[Tensor, " chains"], Float[Tensor, "chains dim"]]:
        """U and ∇U on the full data. Raises ValueError where they have noise."""
        self.check_exact("value_and_gradient")
        value, gradient = self._programs.evaluate(
            theta, self._prior_weight, self._data, 1.0, (VALUE, GRADIENT), self.share
        )
        return value, gradient

    def gradient_estimate(
        self, theta: Float[Tensor, "chains dim"], streams: Streams
    ) -> Float[Tensor, "chains dim"]:
        """ĝ: the gradient with a fresh minibatch for each chain, likelihood rescaled by N/B; exact without a batch size, unless
        transformations of the data are random: these are fresh for each chain too."""
        if self.batch_size is None and not self.is_random:
            streams.draw_ahead()
            return self.value_and_gradient(theta)[1]
        batch, scale = self._data, 1.0
        if self.batch_size is not None:
            batch = streams.minibatch(Minibatch(self.num_data, self.batch_size, self._data.rows))
            scale = self.num_data / self.batch_size
        if self.is_random:
            batch = self._transformed(batch, streams)
        streams.draw_ahead()
        return self._programs.evaluate(theta, self._prior_weight, batch, scale, (GRADIENT,), self.share)[0]

    def trial(
        self, theta: Float[Tensor, "chains dim"]
    ) -> tuple[Float64[Tensor, " chains"], Float[Tensor, "chains dim"]]:
        """U and ∇U on the full data, with transformations of a fixed seed where they are random: to judge a start, or to time."""
        batch = self._data
        if self.is_random:
            keys = [(0, 0)] * len(theta)
            batch = self._transformed(batch, Streams(0, keys, dtype=theta.dtype, device=theta.device))
        value, gradient = self._programs.evaluate(theta, self._prior_weight, batch, 1.0, (VALUE, GRADIENT))
        return value, gradient

    def _transformed(self, batch: Batch, streams: Streams) -> Batch:
        """With the random numbers of each example's transformations, from each chain's own stream."""
        augmented, x = self._posterior.augmented, batch.x
        assert augmented is not None
        assert x is not None

        def numbers(chain: int, generator: torch.Generator) -> Tensor:
            found = augmented.noise(x[chain] if batch.per_chain else x, generator)
            assert found is not None
            return found

        return batch._replace(noise=streams.each(numbers))
