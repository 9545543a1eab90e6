"""What every sampling optimizer shares: flat buffers, random numbers, state, and the check of its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..counts import as_integer
from ..streams import Streams
from .guard import Guard
from .noise import Noise, place_of
from .temperatures import Temperatures

Own = dict[str, Tensor]


class SamplingOptimizer(torch.optim.Optimizer):
    """Base class of `bp.optim`: a chain of exp(−U/T) whose steps are those of a training script.

    The loss is Û/N, an estimate of the potential for each of `num_data` = N data (`bp.potential`), so that ĝ = N · p.grad;
    `lr` is that of deep learning, h = √(lr/N). One step is one update of the sampler of the same name in `bp.samplers`, by the
    same code, and with the same random numbers as chain `chain` of `bp.sample(..., seed=seed)`.

    Parameters of a group that share device and dtype are updated as one flat vector, with its noise drawn at once, so no work
    is done parameter by parameter and there is no `foreach` option. `lr`, `temperature` and the settings of the sampler may
    differ between groups and be changed by schedulers; every step looks at them. A parameter that is unfrozen later starts
    with its first step. Noise comes from the optimizer's own generators, which `state_dict` holds, so that a resumed run goes on
    bit for bit. Their seed is drawn from torch's global generator unless given, so that `torch.manual_seed` repeats a script and
    no two of its optimizers share their noise; with `seed`, give each chain a `chain` of its own.

    Weights are not to be changed between steps, as by `p.data.clamp_`: the draws would have another law than asked for, which
    `step` does not see. For weights within bounds, take a prior on them.

    A gradient that was changed after `backward`, as `torch.nn.utils.clip_grad_norm_` does, is no estimate of ∇U any more, and
    the draws would have another law than asked for: `step` refuses it. `check_gradients=False` accepts changed gradients, for
    changes that keep them unbiased, such as the `unscale_` of an AMP scaler or averages over processes.

    Raises:
        ValueError: settings out of range, a parameter without gradient, a sparse or changed gradient.

    Warns:
        UserWarning: at the first step, where another living optimizer has the same seed and chain.
    """

    tensors: ClassVar[tuple[str, ...]] = ()
    """Names of what is kept for each element of a parameter, in `state[parameter]`."""

    numbers: ClassVar[tuple[str, ...]] = ()
    """Names of what is kept once for the parameters that are updated together."""

    def __init__(
        self, params: Any, settings: dict[str, Any], *, seed: int | None, chain: int, check_gradients: bool
    ) -> None:
        self.noise = Noise(type(self).__name__, seed, chain)
        self.check_gradients = check_gradients
        self._guard = Guard()
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as for any optimizer, after a look at its settings."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("steps", 0)
        group.setdefault("last_step_size", 0.0)
        self._check(group)
        self._guard.watch(group["params"])

    def _check(self, group: dict[str, Any]) -> None:
        count = as_integer(group["num_data"])
        self._expect(
            count is not None and count >= 1,
            group,
            "num_data",
            "the size of the training set, an integer from 1",
        )
        self._expect(0 < float(group["lr"]) < math.inf, group, "lr", "a positive number")
        self._expect(0 <= group["temperature"] < math.inf, group, "temperature", "a number from 0")
        self.check(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError where the sampler's own settings of a group are out of range."""

    def start(
        self, theta: Tensor, gradient: Tensor, group: dict[str, Any], streams: Streams, sizes: list[int]
    ) -> Own:
        """What is kept, before the first update: name -> [1, dim] (`tensors`) or [1] (`numbers`)."""
        return {}

    def update(
        self,
        theta: Tensor,
        gradient: Tensor,
        own: Own,
        group: dict[str, Any],
        step_size: Tensor,
        streams: Streams,
    ) -> tuple[Tensor, Own]:
        """One update of θ [1, dim] by ĝ [1, dim], h and T as [1, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no update: define it in your class")

    def momentum(self, own: Own, gradient: Tensor, group: dict[str, Any]) -> Tensor | None:
        """The momentum that belongs to the present parameters, [1, dim]; None for samplers without."""
        return own.get("momentum")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. `closure`, if any, clears the gradients, calls `backward` and returns the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._check(group)
        buckets = [(*bucket, self._gradient(*bucket)) for bucket in self._buckets()]
        for group, parameters, gradient in buckets:
            theta, streams = _flat(parameters), self.noise.streams(parameters[0])
            self._begin(group, parameters, streams)
            own = self._own(parameters)
            step_size = theta.new_full((1, 1), math.sqrt(float(group["lr"]) / group["num_data"]))
            theta, own = self.update(theta, gradient, own, group, step_size, streams)
            torch._foreach_copy_(parameters, _pieces(theta, parameters))
            self._keep(own, parameters)
        for group in self.param_groups:
            group["steps"] += 1
            group["last_step_size"] = math.sqrt(float(group["lr"]) / group["num_data"])
        self._guard.forget()
        return loss

    @torch.no_grad()
    def temperatures(self) -> Temperatures:
        """Kinetic and configurational temperatures of each tensor; call it between `backward` and `step`.

        Raises:
            ValueError: no gradients, or no step yet and so no momentum.
        """
        sizes: dict[str, int] = {}
        kinetic: dict[str, float] = {}
        configurational: dict[str, float] = {}
        names = self._names()
        for group, parameters in self._buckets():
            theta, gradient = _flat(parameters), self._gradient(group, parameters)
            if self.tensors and not all(self.state[p] for p in parameters):
                raise ValueError(
                    f"{type(self).__name__}: temperatures asked for before the first step; take a step first"
                )
            momentum = self.momentum(self._own(parameters), gradient, group)
            products = {"T_C": theta * gradient} | ({} if momentum is None else {"T_K": momentum**2})
            for what, value in products.items():
                found = configurational if what == "T_C" else kinetic
                for parameter, piece in zip(parameters, _pieces(value, parameters), strict=True):
                    sizes[names[id(parameter)]] = parameter.numel()
                    found[names[id(parameter)]] = float(piece.mean()) / (group["temperature"] or math.nan)
        return Temperatures(sizes, kinetic, configurational)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"noise": self.noise, "check_gradients": self.check_gradients}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_guard" not in vars(self):  # a copy, and not `load_state_dict`
            self._guard = Guard()
            for group in self.param_groups:
                self._guard.watch(group["params"])

    def state_dict(self) -> dict[str, Any]:
        """As for any optimizer, with the seed, the chain and the states of the random generators under "noise"."""
        return super().state_dict() | {"noise": self.noise.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`. Raises ValueError for one without noise, which is another optimizer's."""
        if "noise" not in state_dict:
            raise ValueError(
                f"{type(self).__name__}: this state_dict holds no random generators, so it is none of a sampling optimizer; "
                f"expected the result of {type(self).__name__}.state_dict()"
            )
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "noise"})
        self.noise.restore(state_dict["noise"])

    def _buckets(self) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
        """The parameters that are updated together: of one group, device and dtype."""
        for group in self.param_groups:
            together: dict[str, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.requires_grad:
                    together.setdefault(place_of(parameter), []).append(parameter)
            for parameters in together.values():
                yield group, parameters

    def _gradient(self, group: dict[str, Any], parameters: list[Tensor]) -> Tensor:
        """ĝ = N · p.grad, [1, dim]."""
        grads = []
        self._guard.watch(parameters)
        for parameter in parameters:
            if parameter.grad is None or parameter.grad.is_sparse:
                kind = "no gradient" if parameter.grad is None else "a sparse gradient"
                raise ValueError(
                    f"{type(self).__name__}: parameter {self._names()[id(parameter)]!r} {tuple(parameter.shape)} has {kind}, "
                    f"expected "
                    "the gradient of a loss that contains the log prior of every parameter: call backward() on bp.potential(...) "
                    "before step(), and freeze what has no prior by requires_grad_(False)"
                )
            if self.check_gradients and self._guard.is_changed(parameter):
                raise ValueError(
                    f"{type(self).__name__}: the gradient of parameter {self._names()[id(parameter)]!r} was changed between "
                    "backward() and step(), as gradient clipping does. A clipped gradient is no unbiased estimate of the "
                    "potential's, so the draws would have another law. Remove the clipping and lower lr instead; a change "
                    "that keeps "
                    "gradients unbiased, such as an AMP scaler's unscale_, is allowed by check_gradients=False"
                )
            grads.append(parameter.grad)
        return group["num_data"] * _flat(grads)

    def _begin(self, group: dict[str, Any], parameters: list[Tensor], streams: Streams) -> None:
        """Start what is kept for the parameters of which nothing is kept yet: all at the first step, or the unfrozen ones."""
        new = [parameter for parameter in parameters if self.tensors and not self.state[parameter]]
        if not new:
            return
        sizes = [parameter.numel() for parameter in new]
        own = self.start(_flat(new), self._gradient(group, new), group, streams, sizes)
        kept = next((self.state[p] for p in parameters if self.state[p]), own)
        self._keep(own | {name: kept[name] for name in self.numbers}, new)

    def _own(self, parameters: list[Tensor]) -> Own:
        own = {name: _flat([self.state[p][name] for p in parameters]) for name in self.tensors}
        return own | {name: self.state[parameters[0]][name] for name in self.numbers}

    def _keep(self, own: Own, parameters: list[Tensor]) -> None:
        for name in self.tensors:
            for parameter, piece in zip(parameters, _pieces(own[name], parameters), strict=True):
                self.state[parameter][name] = piece
        for name in self.numbers:
            for parameter in parameters:
                self.state[parameter][name] = own[name]

    def _names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for index, group in enumerate(self.param_groups):
            given = group.get("param_names") or [f"{index}.{k}" for k in range(len(group["params"]))]
            names |= {id(p): name for p, name in zip(group["params"], given, strict=True)}
        return names

    def _expect(self, holds: bool, group: dict[str, Any], name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{type(self).__name__}: {name} {group[name]!r} given, expected {expected}")


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(1, -1) for tensor in tensors], dim=1)


def _pieces(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    pieces = flat[0].split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
