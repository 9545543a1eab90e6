"""What a sampler is: pure functions from a state of all chains to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from numbers import Real
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ..counts import as_integer
from ..posterior import Target
from ..streams import Streams


class State(Protocol):
    """A NamedTuple of tensors, the first dimension the chains. `theta` is required; `momentum`, `gradient`,
    `potential` are read for statistics where present, and every field is saved in checkpoints."""

    theta: Float[Tensor, "chains dim"]

    def _asdict(self) -> dict[str, Tensor]: ...
    def _replace(self, **changes: Any) -> Any: ...


class Sampler:
    """Base class. A subclass defines `init` and `step`; `adapt` is called after each warm-up step.

    Every random number comes from `streams`, in the same order for every chain, so chains stay independent of each other.
    """

    exact_gradients = False
    """Whether the sampler needs gradients of the full data and refuses a batch size."""

    independent_chains = True
    """Whether a step of one chain ignores the others, so that chains can be spread over threads."""

    @property
    def independent_draws(self) -> bool:
        """Whether chains ignore each other after warm-up at least, so that they can be spread over threads then (see `split`)."""
        return self.independent_chains

    independent_rungs = True
    """Whether a step of one rung's chains ignores the other rungs, so that rungs can be spread over processes."""

    reversible = True
    """Whether a step without friction and noise leads back after a flip of the momentum, as a Metropolis test needs."""

    preserves_volume = True
    """Whether a step without friction and noise has a Jacobian of 1; else its Metropolis test counts the change of volume."""

    vectorised = True
    """Whether a step of many chains is one program, not one step after another, so that checks can afford a thousand chains."""

    is_baseline = False
    """Whether it seeks one point, or a law around it, and does not sample the posterior."""

    anneals = True
    """Whether at T = 0, as in a schedule's exploration, steps go down the potential."""

    @property
    def has_law(self) -> bool:
        """Whether steps after warm-up leave exp(−U/T) as it is, but for an error of the step size. Baselines have no such law,
        nor schedules that leave T for a while.
        """
        return not self.is_baseline

    @property
    def tunes(self) -> bool:
        """Whether warm-up tunes it: whether it has an `adapt` of its own. `Cyclical` then begins its cycles after the warm-up."""
        return type(self).adapt is not Sampler.adapt

    state_type: type[Any]

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """The state that starts at `theta`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no init(target, theta, streams): define it in your class"
        )

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """The next state, and figures of the step: name -> [chains]."""
        raise NotImplementedError(
            f"{type(self).__name__} has no step(target, state, streams): define it in your class"
        )

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """Tune the state after warm-up step `iteration` of `num_warmup`."""
        return state

    def reevaluate(self, target: Target, state: Any, streams: Streams) -> Any:
        """The state at the same place of another target, such as one with other data: `gradient` and `potential` anew.

        A state that keeps anything else of the target overrides this.
        """
        new = self.init(target, state.theta, streams)
        return state._replace(**{n: getattr(new, n) for n in ("gradient", "potential") if n in state._fields})

    def split(self, state: Any, chains: Sequence[slice]) -> list[Any]:
        """States of some chains each, after warm-up. One whose chains share tensors overrides this and `join`."""
        return [type(state)(*(value[part] for value in state)) for part in chains]

    def join(self, states: Sequence[Any]) -> Any:
        """The inverse of `split`."""
        return type(states[0])(*(torch.cat(values) for values in zip(*states, strict=True)))

    def frictionless(self) -> Sampler:
        """The sampler whose momentum neither decays nor is refreshed within a step; `checks.check_sampler` runs it backwards.

        A dataclass with a `momentum_decay` gets 1 for it, and others are returned as they are. One that has no such limit raises
        NotImplementedError with the reason.
        """
        if is_dataclass(self) and "momentum_decay" in [field.name for field in fields(self)]:
            return replace(self, momentum_decay=1.0)
        return self

    def harmonic_variance(self, stiffness: float) -> float | None:
        """Var θ / T in the potential kθ²/2, k = `stiffness`, of a sampler with a known error; None where it is not known."""
        return None

    def gradients(self, target: Target) -> tuple[float, float]:
        """Gradients a step: exact ones on the full data, and estimates, which without a batch size are exact too."""
        return 0.0, 1.0

    def evaluations(self, target: Target) -> float:
        """Full-data gradient evaluations a step, for estimates of cost."""
        exact, estimates = self.gradients(target)
        return exact + estimates * (1.0 if target.batch_size is None else target.batch_size / target.num_data)

    def memory(self, target: Target) -> int:
        """Bytes of the state beside a dozen rows of latents a chain."""
        return 0

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError where a run of these lengths, those of `bp.sample`, would be none; warn where it gives less than asked
        for."""

    def check(self, target: Target) -> None:
        """Raise ValueError where the sampler cannot serve this target."""
        if self.gradients(target)[0] > 0:
            target.check_exact(type(self).__name__)
        if self.exact_gradients and target.batch_size is not None:
            raise ValueError(
                f"{type(self).__name__} needs exact gradients, but the posterior has batch_size={target.batch_size}. "
                "Leave batch_size out, or use GGMC, whose Metropolis test stays exact with minibatches"
            )


def positive(owner: object, **values: float) -> None:
    """Raise ValueError unless every value is a positive finite number."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 < value < float("inf"):
            raise ValueError(f"{type(owner).__name__}: {name} {value!r} given, expected a positive number")


def fractions(owner: object, **values: float) -> None:
    """Raise ValueError unless every value is a number from 0 to 1."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"{type(owner).__name__}: {name} {value!r} given, expected a number in [0, 1]")


def check_target(owner: object, target_acceptance: float) -> None:
    """Raise ValueError unless it is a number between 0 and 1, neither of which is the acceptance of any step size."""
    if not isinstance(target_acceptance, Real) or not 0 < target_acceptance < 1:
        raise ValueError(
            f"{type(owner).__name__}: target_acceptance {target_acceptance!r} given, expected a number in (0, 1)"
        )


def need_warmup(owner: object, target_acceptance: float | None, num_warmup: int) -> None:
    """Raise ValueError where an acceptance is asked for and no warm-up is there to tune h towards it."""
    if target_acceptance is not None and num_warmup == 0:
        raise ValueError(
            f"{type(owner).__name__}: target_acceptance {target_acceptance} given without a warm-up, which is where h is tuned "
            "towards it: pass num_warmup=200 or more to bp.sample, or leave target_acceptance out to keep h"
        )


def whole(owner: object, **values: Any) -> None:
    """Make every value an int, whatever integer it is. Raises ValueError unless it is one from 1."""
    for name, value in values.items():
        number = as_integer(value)
        if number is None or number < 1:
            raise ValueError(f"{type(owner).__name__}: {name} {value!r} given, expected an integer from 1")
        object.__setattr__(owner, name, number)


def metropolis(
    energy_error: Float64[Tensor, " chains"], temperature: Float[Tensor, " chains"], streams: Streams
) -> tuple[Tensor, Tensor]:
    """Accept with probability min(1, exp(−ΔE/T)). Returns the probability and the decision; NaN is rejected."""
    log_ratio = -energy_error / temperature.double()
    probability = torch.exp(log_ratio.clamp(max=0.0)).nan_to_num(nan=0.0)
    return probability, streams.uniform() < probability


def diverged(
    energy_error: Float64[Tensor, " chains"], temperature: Float[Tensor, " chains"]
) -> Bool[Tensor, " chains"]:
    """Whether the energy's error is above 1000 T or not finite. At T = 0, where every ascent is refused, only the latter."""
    limit = torch.where(temperature > 0, 1000 * temperature, torch.inf)
    return ~((energy_error < limit) & energy_error.isfinite())


def settle(
    old: Any, new: Any, energy_error: Float64[Tensor, " chains"], temperature: Tensor, streams: Streams
) -> tuple[Any, dict[str, Tensor]]:
    """The new state where the Metropolis test says yes, the old one with its momentum negated elsewhere; and figures."""
    probability, accept = metropolis(energy_error, temperature, streams)
    rejected = old._replace(momentum=-old.momentum)
    kept = type(new)(
        *(
            one if one is other else choose(accept, one, other)
            for one, other in zip(new, rejected, strict=True)
        )
    )
    info = {
        "acceptance": probability,
        "accepted": accept,
        "divergent": diverged(energy_error, temperature),
        "energy_error": energy_error,
        "step_size": old.step_size,
    }
    return kept, info


def choose(accept: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Per chain, `new` where accepted and `old` elsewhere."""
    return torch.where(accept.view(-1, *[1] * (new.ndim - 1)), new, old)
