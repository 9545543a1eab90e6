"""Integrals of a density along lines and rays, from which its total mass and the law of its draws are judged.

Let g_t be translations x + t v along a fixed direction, or dilations c + eᵗ(x − c) about a fixed centre, and J_t = 1 or e^{td}
their Jacobian. For x ~ p the position of x on its own orbit has the density p(g_t x) J_t dt, normalised (Liu & Sabatti 2000,
Biometrika 87, theorem 1), so that

    u = ∫_{−∞}^0 p(g_t x) J_t dt / ∫_{−∞}^∞ p(g_t x) J_t dt

is uniform on [0, 1]. It needs no normalising constant and holds for any density, correlated or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

LogDensity = Callable[[Tensor, slice], Tensor]
"""Points [points, dim], and which of the draws they belong to -> log density [points]."""

CHUNK = 1_000_000
"""Numbers in one call of the density: a larger call spends its time in memory, a smaller one in Python."""


class Orbit(NamedTuple):
    """A one-parameter group: translations along a unit vector, or dilations about a centre.

    Attributes:
        name: in words. vector: the direction, or the centre, [dim]. is_radial: whether it is the centre.
    """

    name: str
    vector: Tensor
    is_radial: bool = False

    def position(self, x: Float64[Tensor, "draws dim"]) -> Float64[Tensor, " draws"]:
        """A coordinate on the orbit that grows as t does."""
        return (x - self.vector).norm(dim=1).log() if self.is_radial else x @ self.vector

    def move(self, x: Float64[Tensor, "draws 1 dim"], t: Float64[Tensor, "draws times"]) -> Tensor:
        """g_t x, [draws, times, dim]."""
        if self.is_radial:
            return self.vector + t.exp()[..., None] * (x - self.vector)
        return x + t[..., None] * self.vector

    def log_jacobian(self, t: Tensor, dim: int) -> Tensor:
        """log J_t."""
        return dim * t if self.is_radial else torch.zeros_like(t)


def orbits(x: Float64[Tensor, "draws dim"], generator: torch.Generator) -> list[Orbit]:
    """Lines along a few coordinates and random directions, and rays from the median: one line in one dimension."""
    dim = x.shape[1]
    eye = torch.eye(dim, dtype=x.dtype)
    if dim == 1:
        return [Orbit("the line", eye[0])]
    picked = torch.randperm(dim, generator=generator)[:2].tolist()
    random = torch.nn.functional.normalize(torch.randn(2, dim, generator=generator, dtype=x.dtype), dim=1)
    lines = [Orbit(f"coordinate {k}", eye[k]) for k in picked]
    lines += [Orbit("a random direction", v) for v in random]
    return [*lines, Orbit("the radius", x.median(0).values, is_radial=True)]


def grid(orbit: Orbit, position: Float64[Tensor, " draws"], ratio: float) -> Float64[Tensor, " breaks"]:
    """Where panels of quadrature meet: quantiles of the positions, and a geometric sequence on both sides of their median.

    It goes to 10¹⁸ interquartile ranges on lines, and to 100 on the logarithmic scale of rays.
    """
    quantiles = position.quantile(torch.linspace(0, 1, 33, dtype=position.dtype))
    reach = max(100.0 / _spread(position), 1.0) if orbit.is_radial else 1e18
    return torch.cat([quantiles, quantiles[16] + geometric(position, ratio, reach)])


def geometric(position: Float64[Tensor, " draws"], ratio: float, reach: float) -> Float64[Tensor, " breaks"]:
    """0 and ± s · 10⁻⁵ · ratioᵏ up to s · reach, with s the interquartile range of the positions."""
    count = math.ceil(math.log(reach / 1e-5) / math.log(ratio))
    steps = _spread(position) * 1e-5 * ratio ** torch.arange(count + 1, dtype=position.dtype)
    return torch.cat([-steps, torch.zeros(1, dtype=position.dtype), steps])


def _spread(position: Tensor) -> float:
    low, high = position.quantile(torch.tensor([0.25, 0.75], dtype=position.dtype)).tolist()
    return high - low if high > low else 1.0


def log_masses(
    log_density: LogDensity,
    orbit: Orbit,
    x: Float64[Tensor, "draws dim"],
    breaks: Float64[Tensor, "draws breaks"],
    nodes: int,
) -> tuple[Float64[Tensor, " draws"], Float64[Tensor, " draws"]]:
    """Logarithms of ∫_{−∞}^0 and ∫_{−∞}^∞ of p(g_t x) J_t dt for each x, by `nodes`-point Gauss–Legendre on every panel."""
    at, weight = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes))
    rows = max(1, CHUNK // (breaks.shape[1] * nodes * x.shape[1]))
    below, total = [], []
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        edges = breaks[part].sort(1).values
        half, middle = 0.5 * edges.diff(dim=1), 0.5 * (edges[:, 1:] + edges[:, :-1])
        t = (middle[..., None] + half[..., None] * at).flatten(1)
        moved = orbit.move(x[part, None], t)
        value = log_density(moved.flatten(0, 1), part).view_as(t) + orbit.log_jacobian(t, x.shape[1])
        masses = value.unflatten(1, (-1, nodes)) + (half[..., None] * weight).log()
        masses = masses.logsumexp(2)
        total.append(masses.logsumexp(1))
        below.append(torch.where(middle < 0, masses, -torch.inf).logsumexp(1))
    return torch.cat(below), torch.cat(total)
