"""Measurement points: the inputs at which a law of functions is compared with its prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from ..counts import as_integer
from ..posterior import Posterior

Sampler = Callable[[torch.Generator], Tensor]
Part = str | Tensor | Sampler
NAMES = ("training", "minibatch")


class Box:
    """Inputs that are uniform in a box, drawn anew at every step.

    Args:
        low, high: its corners, numbers or one number an input coordinate, in the unit of the inputs. count: of inputs.
        shape: of one input; needed where the corners are numbers and inputs have more than one coordinate.

    Raises:
        ValueError: fewer than one input, or corners that are not in order.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        count: int,
        *,
        shape: tuple[int, ...] = (1,),
    ) -> None:
        corners = [torch.as_tensor(corner, dtype=torch.float64) for corner in (low, high)]
        one = tuple(corners[0].shape) or tuple(shape)
        number = as_integer(count)
        if number is None or number < 1 or not bool((corners[0] < corners[1]).all()):
            raise ValueError(
                f"Box: low {low}, high {high} and count {count} given, expected low < high and an integer from 1"
            )
        self.low, self.high = (corner.expand(one) for corner in corners)
        self.count = number

    def __call__(self, generator: torch.Generator) -> Shaped[Tensor, "count *shape"]:
        device = generator.device
        low, high = self.low.to(device), self.high.to(device)
        unit = torch.rand(self.count, *low.shape, generator=generator, dtype=torch.float64, device=device)
        return low + (high - low) * unit

    def __repr__(self) -> str:
        return f"{self.count} in a box"


class Measurement:
    """Measurement points of a posterior, from what a user gives: one part, or a sequence of parts that are joined.

    A part is "training" (all training inputs), "minibatch" (those of the step's likelihood), a tensor of inputs, or a function
    of a generator that draws them, such as `Box`.

    Attributes:
        is_fixed: whether every step has the same points. holds_training: whether they hold all training inputs.

    Raises:
        ValueError: another name, "minibatch" without a batch size, inputs that are NaN, or shaped unlike those of training.
        TypeError: a part of another type.
    """

    def __init__(self, given: Part | Sequence[Part], posterior: Posterior) -> None:
        self._posterior = posterior
        assert posterior.data.x is not None
        self._training = posterior.data.x
        parts: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
        if not parts:
            raise ValueError(f"measurement: no part given, expected one of {NAMES}, a tensor or a function")
        checked: list[Any] = [self._checked(part) for part in parts]
        tensors = [part for part in checked if isinstance(part, Tensor)]
        self.is_fixed = len(tensors) == len(checked)
        self.holds_training = self._training_in(tensors)
        self._parts: list[Any] = [torch.cat(tensors)] if self.is_fixed and len(tensors) > 1 else checked
        self.description = " and ".join(_described(part) for part in parts)

    def __call__(
        self, generator: torch.Generator, minibatch: Shaped[Tensor, "batch *shape"] | None
    ) -> Shaped[Tensor, "points *shape"]:
        """The points of one step."""
        found = []
        for part in self._parts:
            if isinstance(part, Tensor):
                found.append(part)
            elif part == "minibatch":
                found.append(self._training if minibatch is None else minibatch)
            else:
                found.append(self._inputs(part(generator)))
        return torch.cat(found) if len(found) > 1 else found[0]

    def _checked(self, part: Part) -> Tensor | str | Sampler:
        if isinstance(part, str):
            if part not in NAMES:
                raise ValueError(
                    f"measurement: {part!r} given, expected one of {NAMES}, a tensor of inputs, a function of a generator, or a "
                    "sequence of these"
                )
            if part == "minibatch" and self._posterior.batch_size is None:
                raise ValueError(
                    "measurement: 'minibatch' given for a posterior without batch_size, whose minibatch is all the data: "
                    "give Posterior(..., batch_size=...), or measurement='training'"
                )
            return self._training if part == "training" else part
        if isinstance(part, Tensor):
            return self._inputs(part)
        if not callable(part):
            raise TypeError(
                f"measurement: {type(part).__name__} given, expected one of {NAMES}, a tensor of inputs or a function of a "
                "generator"
            )
        return part

    def _inputs(self, x: Any) -> Tensor:
        x = self._posterior.prepare_inputs(x)
        if not len(x) or x.shape[1:] != self._training.shape[1:]:
            raise ValueError(
                f"measurement: inputs {tuple(x.shape)} given, expected (points, "
                f"{', '.join(map(str, self._training.shape[1:]))}) with one point at least"
            )
        return x

    def _training_in(self, parts: Sequence[Tensor]) -> bool:
        """Whether every training input is one of these, to the bit."""
        if any(part is self._training for part in parts):
            return True
        rows = {row.numpy().tobytes() for part in parts for row in part.cpu()}
        return all(row.numpy().tobytes() in rows for row in self._training.cpu())


def _described(part: Part) -> str:
    if isinstance(part, str):
        return "all training inputs" if part == "training" else "the minibatch"
    if isinstance(part, Tensor):
        return f"{len(part)} given points"
    return repr(part) if isinstance(part, Box) else "random points"
