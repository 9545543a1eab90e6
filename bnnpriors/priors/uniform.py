"""The uniform prior on an interval: a bounded weight, or a hyperprior on a scale."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from .base import Parameter, Prior
from .location_scale import Normal
from .rules import ScaleRule, UserRule


class Uniform(Prior):
    """Uniform: log p(w) = −log(high − low) for low ≤ w ≤ high, and −∞ elsewhere. Variance (high − low)²/12.

    Its latent is u ~ N(0, 1) with w = low + (high − low) Φ(u).

    Args:
        low: a number or a rule; None for −high. `Uniform(high=fan_in(gain=3**0.5))` has variance 1/fan_in.
        high: a number above `low`, or a rule.

    Raises:
        TypeError: a tensor or a prior as a bound: the support is one fixed interval. ValueError: bounds that are not
            finite, or not in order.
    """

    def __init__(self, low: Parameter | None = None, high: Parameter = 1.0) -> None:
        self.low = _bound("low", low)
        self.high = _bound("high", high)
        if not isinstance(self.low, ScaleRule) and not isinstance(self.high, ScaleRule):
            self._ends()

    centred = False

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        """The interval [low, high]; what is known of it where a bound is a rule."""
        if isinstance(self.low, ScaleRule) or isinstance(self.high, ScaleRule):
            known = isinstance(self.low, float)
            return constraints.greater_than_eq(self.low) if known else constraints.real
        return constraints.interval(*self._ends())

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless low < high for a tensor of this shape."""
        self._ends()

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise log density; the ends count as inside, up to the rounding of `w`."""
        low, high = self._ends()
        rounding = torch.finfo(w.dtype).eps * max(abs(low), abs(high))
        inside = (w >= low - rounding) & (w <= high + rounding)
        width = torch.as_tensor(high - low, dtype=w.dtype, device=w.device)
        return torch.where(inside, -width.log(), -torch.inf)

    def standard(self) -> Prior:
        """N(0, 1)."""
        return Normal()

    def from_standard(self, z: Tensor) -> Tensor:
        """w = low + (high − low) Φ(z)."""
        low, high = self._ends()
        return low + (high - low) * torch.special.ndtr(z).clamp_min(torch.finfo(z.dtype).tiny)

    def to_standard(self, w: Tensor) -> Tensor:
        """z = Φ⁻¹((w − low)/(high − low)); infinite at the ends and NaN outside."""
        low, high = self._ends()
        below = torch.special.ndtri((w.double() - low) / (high - low))
        above = -torch.special.ndtri((high - w.double()) / (high - low))
        return torch.where(w.double() - low < high - w.double(), below, above).to(w.dtype)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A draw inside the interval, away from its ends so that its latent is finite."""
        low, high = self._ends()
        u = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        eps = torch.finfo(u.dtype).eps
        return low + (high - low) * u.uniform_(generator=generator).clamp(eps, 1 - eps)

    def mean(self) -> float:
        """(low + high)/2."""
        low, high = self._ends()
        return 0.5 * (low + high)

    def variance(self) -> float:
        """(high − low)²/12."""
        low, high = self._ends()
        return (high - low) ** 2 / 12

    def _ends(self) -> tuple[float, float]:
        high = self.high
        low = -high if self.low is None and isinstance(high, float) else self.low
        if not isinstance(low, float) or not isinstance(high, float):
            raise ValueError(
                f"{self!r}: a bound is a rule, whose number depends on the tensor; attach the prior first"
            )
        if not low < high:
            raise ValueError(f"Uniform: low {low} and high {high} given, expected low below high")
        return low, high


def _bound(name: str, value: object) -> float | ScaleRule | None:
    if value is None and name == "low":
        return None
    if isinstance(value, ScaleRule):
        return value
    if callable(value) and not isinstance(value, (type, Prior)):
        return UserRule(value)
    if not isinstance(value, (int, float)):
        raise TypeError(
            f"Uniform: {name} {value!r} given, expected a number or a rule: its support is one interval"
        )
    if not abs(value) < float("inf"):
        raise ValueError(f"Uniform: {name} {value} given, expected a finite number")
    return float(value)
