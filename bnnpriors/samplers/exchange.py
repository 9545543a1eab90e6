"""Replica exchange over a ladder of temperatures, with any sampler."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import choose, whole
from .wrapper import Wrapper


@dataclass(frozen=True)
class ReplicaExchange(Wrapper):
    """Swaps between neighbouring temperatures (Swendsen & Wang 1986; Geyer 1991): hot chains cross the barriers between modes,
    and hand what they find down to the cold ones.

    After every `every` steps chain k at T_i and chain k at the next higher temperature T_j swap their states with probability

        min(1, exp((1/T_i − 1/T_j)(U(θ_i) − U(θ_j)))),

    which leaves the product of all the chains' laws as it is. With `tempering="likelihood"` U depends on T, and the exponent is
    U_i(θ_i)/T_i + U_j(θ_j)/T_j − U_i(θ_j)/T_i − U_j(θ_i)/T_j; this is what is computed always. Even and odd pairs take turns,
    which beats random pairs (Syed et al. 1905.02939). A momentum goes with its state, times √(T_new/T_old). Step sizes, metrics
    and all else that warm-up tunes stay with the temperature.

    Figures of each draw, chain by chain: `swap_acceptance`, the mean so far of the probability of a swap with the next higher
    temperature (since the end of warm-up; NaN at the highest); `replica`, the number of the temperature, from the lowest, where
    the state that is here began; `round_trips`, how often that state has been from the lowest to the highest and back.
    Temperatures are well placed where every pair's acceptance is 0.2 to 0.6, and the ladder works where round trips are many.

    Args:
        sampler: any whose potential is exact: on the full data, or with a Metropolis test.
        every: steps of the sampler between two turns.
    """

    every: int = 1

    independent_chains = False
    independent_draws = False
    independent_rungs = False
    own_fields: ClassVar[tuple[str, ...]] = ("iteration", "replica", "headed", "trips", "proposed", "chance")

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, every=self.every)
        if self.sampler.is_baseline:
            raise ValueError(
                f"ReplicaExchange: {type(self.sampler).__name__} given, a baseline, which has no temperature to exchange: "
                "expected a sampler, such as ReplicaExchange(bp.samplers.HMC(0.01)). A baseline goes to bp.sample itself"
            )

    def check(self, target: Target) -> None:
        """Raise ValueError where the sampler has no exact potential; warn where there is nothing to exchange."""
        super().check(target)
        if target.batch_size is not None and self.sampler.gradients(target)[0] == 0:
            raise ValueError(
                f"ReplicaExchange: {type(self.sampler).__name__} estimates gradients on minibatches of {target.batch_size} "
                "without a Metropolis test, so each temperature has an error of its own, and swaps by the exact potential would "
                "hand it from one to the other. Leave batch_size out, or put GGMC(steps_per_test=...) or AMAGOLD inside"
            )
        if len(target.temperature.unique()) == 1:
            warnings.warn(
                "ReplicaExchange: one temperature given, so there is nothing to exchange; pass a ladder, "
                "Posterior(..., temperature=[...])",
                stacklevel=3,
            )

    def gradients(self, target: Target) -> tuple[float, float]:
        """The other's, and up to three evaluations of the full data a turn, potentials among them."""
        exact, estimates = self.sampler.gradients(target)
        known = "potential" in self.sampler.state_type._fields
        return exact + (2.0 if known else 3.0) / self.every, estimates

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """The other's start; every state is at home."""
        rung = _Ladder(target.temperature).rung
        zero = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        none = torch.zeros_like(rung)
        inner = self.sampler.init(target, theta, streams)
        return self.joined(
            inner, iteration=none, replica=rung, headed=none, trips=none, proposed=zero, chance=zero
        )

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """A step of the other, and a turn where it is due."""
        inner, info = self.sampler.step(target, self.inner(state), streams)
        iteration = state.iteration + 1
        own = {name: getattr(state, name) for name in self.own_fields}
        new = self.joined(inner, **own | {"iteration": iteration})
        count = int(iteration[0])
        if count % self.every == 0:
            new = self._turn(target, new, streams, count // self.every % 2)
        figures = {
            "replica": new.replica,
            "round_trips": new.trips,
            "swap_acceptance": new.chance / new.proposed,
        }
        return new, info | figures

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """The other's; figures begin at its end."""
        inner = self.sampler.adapt(self.inner(state), info, iteration, num_warmup)
        own = {name: getattr(state, name) for name in self.own_fields}
        if iteration + 1 == num_warmup:
            own |= {name: torch.zeros_like(own[name]) for name in ("headed", "trips", "proposed", "chance")}
        return self.joined(inner, **own)

    def reevaluate(self, target: Target, state: Any, streams: Streams) -> Any:
        """The other's."""
        inner = self.sampler.reevaluate(target, self.inner(state), streams)
        return self.joined(inner, **{name: getattr(state, name) for name in self.own_fields})

    def log_ratio(
        self,
        temperature: Float[Tensor, " chains"],
        potential: Float64[Tensor, " chains"],
        swapped: Float64[Tensor, " chains"],
        partner: Int64[Tensor, " chains"],
    ) -> Float64[Tensor, " chains"]:
        """Log of the ratio of densities after and before the swap of each chain with its partner, the same for both.

        Args:
            potential: U_i(θ_i) of each chain i. swapped: U_i(θ_j), j its partner.
        """
        change = (potential - swapped) / temperature.double()
        return change + change[partner]

    def _turn(self, target: Target, state: Any, streams: Streams, parity: int) -> Any:
        ladder = _Ladder(target.temperature)
        partner, lower = ladder.pairs(parity)
        uniform = streams.uniform()
        if not bool(lower.any()):
            return state
        state = ladder.count_trips(state)
        potential = getattr(state, "potential", None)
        if potential is None or bool(potential.isnan().any()):
            potential = target.potential(state.theta)
        swapped = target.potential(state.theta[partner])
        log_ratio = self.log_ratio(target.temperature, potential, swapped, partner)
        chance = torch.exp(log_ratio.clamp(max=0.0)).nan_to_num(nan=0.0)
        accept = lower & (uniform < chance)
        accept = accept | accept[partner]
        state = state._replace(
            proposed=state.proposed + lower, chance=state.chance + torch.where(lower, chance, 0.0)
        )
        if bool(accept.any()):
            state = self._swap(target, state, partner, accept, streams)
        return ladder.count_trips(state)

    def _swap(
        self, target: Target, state: Any, partner: Int64[Tensor, " chains"], accept: Bool[Tensor, " chains"], streams: Streams
    ) -> Any:  # fmt: skip
        moved = {name: getattr(state, name)[partner] for name in ("theta", "replica", "headed", "trips")}
        if "momentum" in state._fields:
            ratio = target.temperature / target.temperature[partner]
            moved["momentum"] = state.momentum[partner] * ratio.sqrt()[:, None]
        both = {name: choose(accept, value, getattr(state, name)) for name, value in moved.items()}
        fresh = self.reevaluate(target, state._replace(**both), streams)
        kept = (choose(accept, *pair) for pair in zip(fresh, state, strict=True))
        return type(state)(*kept)


class _Ladder:
    """Chains by the order of their temperatures.

    Attributes:
        rung: number of each chain's temperature, from the lowest. highest: the last of these.
    """

    def __init__(self, temperature: Float[Tensor, " chains"]) -> None:
        values, self.rung, self._counts = temperature.unique(return_inverse=True, return_counts=True)
        self.highest = len(values) - 1
        self._order = self.rung.argsort(stable=True)
        self._starts = self._counts.cumsum(0) - self._counts
        self._chains = torch.arange(len(temperature), device=temperature.device)
        self._place = torch.empty_like(self.rung)
        self._place[self._order] = self._chains - self._starts[self.rung[self._order]]

    def pairs(self, parity: int) -> tuple[Int64[Tensor, " chains"], Bool[Tensor, " chains"]]:
        """Partner of each chain, itself where it has none, when the rungs of this parity look upwards; and who looks upwards."""
        up = self.rung % 2 == parity
        wanted = torch.where(up, self.rung + 1, self.rung - 1)
        there = wanted.clamp(0, self.highest)
        has = (wanted == there) & (self._place < self._counts[there])
        place = (self._starts[there] + self._place).clamp(max=len(self.rung) - 1)
        return torch.where(has, self._order[place], self._chains), has & up

    def count_trips(self, state: Any) -> Any:
        """`headed` is 1 for a state that was last at the lowest temperature, 2 for one that came from there to the highest."""
        at_lowest, at_highest = self.rung == 0, self.rung == self.highest
        back = at_lowest & (state.headed == 2)
        headed = torch.where(at_lowest, 1, state.headed)
        headed = torch.where(at_highest & (state.headed == 1), 2, headed)
        return state._replace(headed=headed, trips=state.trips + back)
