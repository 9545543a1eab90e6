"""Temperatures of an optimizer's momenta and parameters at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Temperatures:
    """Kinetic and configurational temperatures of every tensor at one step, as multiples of its T: 1 is right.

    T̂_K = mᵀm/d lies in `interval`, [χ²_{d,.005}, χ²_{d,.995}]/d, at 99 % of the steps where the momenta are exact, and T̂_C =
    θᵀĝ/d has the expectation 1 (Wenzel et al. 2002.02405, appendix on diagnostics). Average T̂_C over many steps: at one it
    says little.

    Attributes:
        sizes: name -> d, the number of elements. Names are those of `named_parameters()` if these were given to the optimizer,
        and
            "group.index" otherwise.
        kinetic: name -> T̂_K/T; empty for samplers without momentum. configurational: name -> T̂_C/T.
    """

    sizes: dict[str, int]
    kinetic: dict[str, float]
    configurational: dict[str, float]

    @property
    def interval(self) -> dict[str, tuple[float, float]]:
        """Where the kinetic temperature of a tensor lies with probability 0.99."""
        from ..evaluation.temperatures import kinetic_temperature_interval

        low, high = kinetic_temperature_interval(np.array(list(self.sizes.values())))
        ends = zip(np.atleast_1d(low), np.atleast_1d(high), strict=True)
        return {name: (float(a), float(b)) for name, (a, b) in zip(self.sizes, ends, strict=True)}

    @property
    def inside(self) -> float:
        """Share of the tensors whose kinetic temperature is in its interval: about 0.99. NaN without momentum."""
        interval = self.interval
        hits = [interval[name][0] <= value <= interval[name][1] for name, value in self.kinetic.items()]
        return sum(hits) / len(hits) if hits else float("nan")

    @property
    def overall(self) -> tuple[float, float]:
        """T̂_K/T and T̂_C/T of all elements together; NaN for the first without momentum."""
        return self._mean(self.kinetic), self._mean(self.configurational)

    def _mean(self, figures: dict[str, float]) -> float:
        if not figures:
            return float("nan")
        return sum(self.sizes[name] * value for name, value in figures.items()) / sum(self.sizes.values())

    def __str__(self) -> str:
        interval, width = self.interval, max(map(len, self.sizes), default=0)
        lines = [f"{'tensor':<{width}}  kinetic  99 % interval   configurational"]
        for name in self.sizes:
            low, high = interval[name]
            kinetic = f"{self.kinetic[name]:7.3f}" if name in self.kinetic else f"{'—':>7}"
            lines.append(
                f"{name:<{width}}  {kinetic}  {low:.3f} – {high:.3f}   {self.configurational[name]:15.3f}"
            )
        return "\n".join(lines)
