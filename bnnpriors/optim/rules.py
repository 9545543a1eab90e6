"""One optimizer a sampler; the updates are those of `bnnpriors.samplers`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..counts import as_integer
from ..samplers.ggmc import half_kick, kick_and_drift, refresh
from ..samplers.langevin import baoa
from ..samplers.psgld import mean_squares, psgld_update, rmsprop_metric
from ..samplers.sghmc import sghmc_update
from ..samplers.sgld import sgld_update
from ..samplers.sgnht import Thermostat
from ..streams import Streams
from .base import Own, SamplingOptimizer

Group = dict[str, Any]


class SGLD(SamplingOptimizer):
    """`bp.samplers.SGLD`: θ ← θ − (h²/2) ĝ + h √T ε with h² = lr/N, so θ ← θ − (lr/2) p.grad + √(lr T/N) ε.

    Args:
        params: parameters, named parameters or groups of them. lr: h² N. num_data: N. temperature: T, from 0.
        seed, chain, check_gradients: see `SamplingOptimizer`, also for what is raised.
    """

    def __init__(
        self, params: Any, lr: float = 1e-2, *, num_data: int, temperature: float = 1.0, seed: int | None = None, chain: int = 0,
        check_gradients: bool = True,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "num_data": num_data, "temperature": temperature}
        super().__init__(params, settings, seed=seed, chain=chain, check_gradients=check_gradients)

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        noise = streams.normal(theta.shape[1])
        return sgld_update(theta, gradient, noise, step_size, _temperature(theta, group)), own


class PSGLD(SamplingOptimizer):
    """`bp.samplers.PSGLD`, whose metric of RMSprop is learnt in the first `num_warmup` steps and frozen then.

    Args:
        num_warmup: updates in which V follows ĝ²; draws of these steps are no draws of the posterior.
            A tensor that is unfrozen after them keeps the V of its first gradient.
        square_decay, damping: α and λ of the sampler. The others are those of `SGLD`.
    """

    tensors = ("square",)

    def __init__(
        self, params: Any, lr: float = 1e-2, *, num_data: int, num_warmup: int, temperature: float = 1.0,
        square_decay: float = 0.99, damping: float = 1e-5, seed: int | None = None, chain: int = 0, check_gradients: bool = True,
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr, "num_data": num_data, "temperature": temperature, "num_warmup": num_warmup,
            "square_decay": square_decay, "damping": damping,
        }  # fmt: skip
        super().__init__(params, settings, seed=seed, chain=chain, check_gradients=check_gradients)

    def check(self, group: Group) -> None:
        """Raise ValueError for settings out of range."""
        warmup = as_integer(group["num_warmup"])
        self._expect(warmup is not None and warmup >= 0, group, "num_warmup", "an integer from 0")
        self._expect(0 <= group["square_decay"] <= 1, group, "square_decay", "a number in [0, 1]")
        self._expect(0 < group["damping"] < math.inf, group, "damping", "a positive number")

    def start(self, theta: Tensor, gradient: Tensor, group: Group, streams: Streams, sizes: list[int]) -> Own:
        """V at the mean of ĝ² over each tensor."""
        return {"square": mean_squares(gradient, sizes)}

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        square = own["square"]
        if 1 <= group["steps"] <= group["num_warmup"]:
            square = torch.lerp(gradient**2, square, group["square_decay"])
        metric = rmsprop_metric(square, group["num_data"], group["damping"])
        noise = streams.normal(theta.shape[1])
        theta = psgld_update(theta, gradient, noise, metric, step_size, _temperature(theta, group))
        return theta, {"square": square}


class _WithMomentum(SamplingOptimizer):
    tensors: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(
        self, params: Any, lr: float = 1e-2, *, num_data: int, momentum_decay: float = 0.9, temperature: float = 1.0,
        seed: int | None = None, chain: int = 0, check_gradients: bool = True,
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr, "num_data": num_data, "temperature": temperature, "momentum_decay": momentum_decay
        }  # fmt: skip
        super().__init__(params, settings, seed=seed, chain=chain, check_gradients=check_gradients)

    def check(self, group: Group) -> None:
        """Raise ValueError for settings out of range."""
        self._expect(0 <= group["momentum_decay"] <= 1, group, "momentum_decay", "a number in [0, 1]")

    def start(self, theta: Tensor, gradient: Tensor, group: Group, streams: Streams, sizes: list[int]) -> Own:
        """Momentum from N(0, T)."""
        return {"momentum": streams.normal(theta.shape[1]) * _temperature(theta, group).sqrt()}


class SGHMC(_WithMomentum):
    """`bp.samplers.SGHMC`: in θ alone SGD with momentum a and learning rate lr, and noise.

    Args:
        momentum_decay: a in [0, 1]. The others are those of `SGLD`.
    """

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        noise, temperature = streams.normal(theta.shape[1]), _temperature(theta, group)
        theta, momentum = sghmc_update(
            theta, own["momentum"], gradient, noise, step_size, temperature, group["momentum_decay"]
        )
        return theta, {"momentum": momentum}


class _Kicked(_WithMomentum):
    """A step of the sampler ends with a half-kick by the gradient at its end: the next step here begins with it."""

    def start(self, theta: Tensor, gradient: Tensor, group: Group, streams: Streams, sizes: list[int]) -> Own:
        """Momentum from N(0, T), before the half-kick that `momentum` gives in a group that has taken steps."""
        own = super().start(theta, gradient, group, streams, sizes)
        last = gradient.new_full((1, 1), -group["last_step_size"])
        return {"momentum": half_kick(own["momentum"], gradient, last)}

    def momentum(self, own: Own, gradient: Tensor, group: Group) -> Tensor:
        """After the half-kick that is due."""
        last = gradient.new_full((1, 1), group["last_step_size"])
        return half_kick(own["momentum"], gradient, last)


class BAOAB(_Kicked):
    """`bp.samplers.BAOAB`. `state[parameter]["momentum"]` is that before the half-kick that the next gradient gives it.

    Args:
        momentum_decay: a in [0, 1]. The others are those of `SGLD`.
    """

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        momentum = self.momentum(own, gradient, group)
        noise, temperature = streams.normal(theta.shape[1]), _temperature(theta, group)
        theta, momentum = baoa(
            theta, momentum, gradient, noise, step_size, temperature, group["momentum_decay"]
        )
        return theta, {"momentum": momentum}


class GGMC(_Kicked):
    """`bp.samplers.GGMC` without its Metropolis test. `state[parameter]["momentum"]` is that before the half-kick that is due.

    A training script can have no test: it needs U on the full data at both ends and minibatches in an order that is as probable
    backwards, which a data loader's passes over the data are not. `bp.sample` with `bp.samplers.GGMC(steps_per_test=...)` has it.

    Args:
        momentum_decay: a in [0, 1]. The others are those of `SGLD`.
        steps_per_test: None; anything else is refused with that reason.
    """

    def __init__(
        self, params: Any, lr: float = 1e-2, *, num_data: int, momentum_decay: float = 0.9, temperature: float = 1.0,
        steps_per_test: int | None = None, seed: int | None = None, chain: int = 0, check_gradients: bool = True,
    ) -> None:  # fmt: skip
        if steps_per_test is not None:
            raise ValueError(
                f"GGMC: steps_per_test {steps_per_test} given, but an optimizer cannot make the Metropolis test: it needs the "
                "potential on the full data, and minibatches whose order is as probable backwards as forwards, while a loader "
                "passes over the data in an order of its own. Use bp.sample(posterior, bp.samplers.GGMC(step_size, "
                "momentum_decay, steps_per_test))"
            )
        super().__init__(
            params, lr, num_data=num_data, momentum_decay=momentum_decay, temperature=temperature, seed=seed, chain=chain,
            check_gradients=check_gradients,
        )  # fmt: skip

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        momentum = self.momentum(own, gradient, group)
        noise, temperature = streams.normal(theta.shape[1]), _temperature(theta, group)
        momentum = refresh(momentum, noise, group["momentum_decay"], temperature)
        theta, momentum = kick_and_drift(theta, momentum, gradient, step_size)
        return theta, {"momentum": momentum}


class SGNHT(_Kicked):
    """`bp.samplers.SGNHT`, with one thermostat for the parameters of a group. The figure s is in `state[parameter]["friction"]`.

    Args:
        momentum_decay: a in (0, 1]. thermostat_steps: n, from 1. The others are those of `SGLD`.
    """

    numbers = ("friction",)

    def __init__(
        self, params: Any, lr: float = 1e-2, *, num_data: int, momentum_decay: float = 0.9, thermostat_steps: float = 100.0,
        temperature: float = 1.0, seed: int | None = None, chain: int = 0, check_gradients: bool = True,
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr, "num_data": num_data, "temperature": temperature, "momentum_decay": momentum_decay,
            "thermostat_steps": thermostat_steps,
        }  # fmt: skip
        SamplingOptimizer.__init__(
            self, params, settings, seed=seed, chain=chain, check_gradients=check_gradients
        )

    def check(self, group: Group) -> None:
        """Raise ValueError for settings out of range."""
        self._expect(0 < group["momentum_decay"] <= 1, group, "momentum_decay", "a number in (0, 1]")
        self._expect(1 <= group["thermostat_steps"] < math.inf, group, "thermostat_steps", "a number from 1")

    def start(self, theta: Tensor, gradient: Tensor, group: Group, streams: Streams, sizes: list[int]) -> Own:
        """Momentum from N(0, T), friction from its law on the full data."""
        own = super().start(theta, gradient, group, streams, sizes)
        friction = _thermostat(group).start(streams.normal(1)[:, 0], theta.shape[1])
        return own | {"friction": friction}

    def update(
        self, theta: Tensor, gradient: Tensor, own: Own, group: Group, step_size: Tensor, streams: Streams
    ) -> tuple[Tensor, Own]:
        """One update."""
        momentum = self.momentum(own, gradient, group)
        noise, temperature = streams.normal(theta.shape[1]), _temperature(theta, group)[0]
        theta, momentum, friction = _thermostat(group).badoda(
            theta, momentum, gradient, own["friction"], noise, step_size, temperature
        )
        return theta, {"momentum": momentum, "friction": friction}


def _thermostat(group: Group) -> Thermostat:
    return Thermostat(-math.log(group["momentum_decay"]), group["thermostat_steps"])


def _temperature(like: Tensor, group: Group) -> Tensor:
    return like.new_full((1, 1), group["temperature"])
