"""Scale rules: a scale that is a function of the shape of the tensor that the prior is attached to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


class ScaleRule:
    """A function of a tensor's shape that gives a prior's parameter; made by `fan_in`, `fan_out` or `mup`."""

    def __call__(self, shape: torch.Size | tuple[int, ...]) -> float:
        """The number for a tensor of this shape."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape): define it in your class")


@dataclass(frozen=True)
class Fan(ScaleRule):
    """s = gain / n**power, with n the fan-in or fan-out of a tensor [out, in, *taps].

    fan-in = in · Π taps and fan-out = out · Π taps; `count="channels"` leaves the taps out, as the code of Fortuin et al.
    (2105.06868) does for convolutions.
    """

    gain: float = 1.0
    count: str = "all"
    fan: str = "in"
    power: float = 0.5

    def __post_init__(self) -> None:
        if not (self.gain > 0 and math.isfinite(self.gain)):
            raise ValueError(f"fan_{self.fan}: gain {self.gain} given, expected a positive number")
        if self.count not in ("all", "channels"):
            raise ValueError(f"fan_{self.fan}: count {self.count!r} given, expected 'all' or 'channels'")

    def __call__(self, shape: torch.Size | tuple[int, ...]) -> float:
        """The scale for a tensor of this shape. Raises ValueError for a tensor of one dimension."""
        if len(shape) < 2:
            raise ValueError(
                f"fan_{self.fan} has no meaning for a parameter of shape {tuple(shape)}: it needs [out, in, ...]. "
                "Give one-dimensional parameters (biases, norms) a prior with a number as its scale"
            )
        number = shape[1] if self.fan == "in" else shape[0]
        if self.count == "all":
            number *= math.prod(shape[2:])
        return self.gain / number**self.power


@dataclass(frozen=True)
class UserRule(ScaleRule):
    """A user's function shape -> number."""

    function: Callable[[tuple[int, ...]], float]

    def __call__(self, shape: torch.Size | tuple[int, ...]) -> float:
        """What the function returns. Raises ValueError where that is no finite number."""
        given = self.function(tuple(shape))
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"scale rule {self.function!r}: {given!r} returned for shape {tuple(shape)}, expected a finite number"
            )
        return value


def fan_in(gain: float = 1.0, *, count: str = "all") -> ScaleRule:
    """The scale gain/√fan_in of the tensor that the prior is attached to.

    fan_in is in_features for a linear layer and in_channels · k² for a convolution; `count="channels"` leaves k² out.
    """
    return Fan(gain, count)


def fan_out(gain: float = 1.0, *, count: str = "all") -> ScaleRule:
    """The scale gain/√fan_out, which keeps the variance of gradients instead of that of activations.

    fan_out is out_features for a linear layer and out_channels · k² for a convolution; `count="channels"` leaves k² out.
    """
    return Fan(gain, count, "out")


def mup(role: str, gain: float = 1.0, *, base: int = 1) -> ScaleRule:
    """The initial scale of the maximal update parametrisation, Yang et al. (2203.03466), Table 3.

    `role="hidden"` (and input) weights have s = gain/√fan_in; `role="output"` weights have s = gain √base / fan_in, which equals
    gain/√fan_in at fan_in = base. As a prior it makes the outputs' prior variance fall like 1/width: the infinite-width
    limit of such a network is the zero function, so it is a rule for comparing finite widths.

    Raises:
        ValueError: another role, or base < 1.
    """
    if role not in ("hidden", "output"):
        raise ValueError(f"mup: role {role!r} given, expected 'hidden' (input weights too) or 'output'")
    if base < 1:
        raise ValueError(f"mup: base {base} given, expected a width of at least 1")
    return Fan(gain) if role == "hidden" else Fan(gain * math.sqrt(base), power=1.0)
