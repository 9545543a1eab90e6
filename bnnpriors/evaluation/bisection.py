"""The inverse of a cumulative distribution function that has no closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 48


def bisect(cdf: Callable[[Tensor], Tensor], goal: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """Where the increasing `cdf` reaches `goal`: widen a bracket around `centre` by doubling, then halve it."""
    low, high = centre - width, centre + width
    for _ in range(STEPS):
        too_high, too_low = cdf(low) > goal, cdf(high) < goal
        if not (too_high | too_low).any():
            break
        low = torch.where(too_high, low - (high - low), low)
        high = torch.where(too_low, high + (high - low), high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = cdf(middle) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
