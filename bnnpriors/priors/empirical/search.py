"""One-dimensional searches of the maximum-likelihood fits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize


def newton(step: Callable[[float], float], start: float) -> float:
    """exp of the root in log s, to about 1e-12, the square of the last step; steps are kept below 1, and the scale above e^−30 of
    the root mean square (many exact zeros)."""
    log_s = start
    for _ in range(100):
        change = min(max(step(log_s), -1.0), 1.0)
        log_s = max(log_s + change, -30.0)
        if abs(change) < 1e-6:
            break
    return math.exp(log_s)


def minimum(
    loss: Callable[[float], float], low: float, high: float, *, points: int = 12, tolerance: float = 1e-4
) -> float:
    """The lowest of a few points, refined between its neighbours."""
    grid = np.linspace(low, high, points)
    losses = [loss(float(point)) for point in grid]
    best = int(np.argmin(losses))
    bounds = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(found.x if found.fun < losses[best] else grid[best])
