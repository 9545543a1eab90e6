"""Densities of known law to check samplers by: positions of a draw in [0, 1], which are uniform where the sampler is right."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor


class Law:
    """A density exp(−U(z)) in closed form, and coordinates in which it is uniform.

    Attributes:
        dim: of z. fineness: how many times shorter steps must be than for a standard normal law.
        num_data: terms that minibatches are made of. names: of the positions, for reports.
    """

    dim = 1
    fineness = 1.0
    num_data = 0
    names: tuple[str, ...] = ("x",)

    def potential(
        self, z: Float[Tensor, "chains dim"], index: Int[Tensor, "chains batch"] | None = None
    ) -> Float[Tensor, " chains"]:
        """U(z), or its unbiased estimate from the terms in `index`."""
        raise NotImplementedError

    def draw(self, chains: int, generator: torch.Generator) -> Float64[Tensor, "chains dim"]:
        """Independent draws."""
        raise NotImplementedError

    def positions(self, z: Float64[Tensor, "chains dim"]) -> Float64[Tensor, "chains positions"]:
        """Functions of z that are uniform on [0, 1]."""
        raise NotImplementedError

    def renew(self, z: Float64[Tensor, "chains dim"], generator: torch.Generator) -> bool:
        """Draw the data anew, given z; False where there are none to draw."""
        return False

    def part(self, chains: slice | Tensor) -> Law:
        """The law of some of the chains, where they have data of their own."""
        return self


class Gaussian(Law):
    """N(0, R diag(s²) Rᵀ) with standard deviations s from 1 to 10 (a condition number of 100), R a rotation."""

    dim = 3
    names = ("shortest axis", "middle axis", "longest axis")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
        self.spread = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """½ Σ_i ((Rᵀz)_i / s_i)²."""
        return 0.5 * ((z @ self.rotation.to(z) / self.spread.to(z)) ** 2).sum(1)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """R diag(s) ε."""
        return normal(chains, 3, generator) * self.spread @ self.rotation.T

    def positions(self, z: Tensor) -> Tensor:
        """Φ((Rᵀz)_i / s_i)."""
        return torch.special.ndtr(z @ self.rotation / self.spread)


class Harmonic(Law):
    """U = ‖z‖²/2, and a law N(0, v) that is not exp(−U) but the closed form of a sampler with an error."""

    dim = 2
    names = ("x", "y")

    def __init__(self, variance: float) -> None:
        self.deviation = variance**0.5

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """‖z‖²/2."""
        return 0.5 * (z**2).sum(1)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """√v ε."""
        return self.deviation * normal(chains, 2, generator)

    def positions(self, z: Tensor) -> Tensor:
        """Φ(z/√v)."""
        return torch.special.ndtr(z / self.deviation)


class DoubleWell(Law):
    """U = z⁴/4 − 0.4 z² + 0.5 z: E z = −0.45696, E z² = 1.05264. Of three terms, for minibatches of one."""

    fineness = 2.0
    num_data = 3

    def __init__(self) -> None:
        self.grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
        density = torch.exp(-self.potential(self.grid[:, None]))
        mass = torch.cumulative_trapezoid(density, self.grid)
        self.below = torch.cat([mass.new_zeros(1), mass / mass[-1]])

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """The sum of the terms, or N/B times that of a minibatch."""
        z = z[:, 0]
        terms = torch.stack([z**4 / 4, -0.4 * z**2, 0.5 * z], dim=1)
        return _estimate(terms, index)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """F⁻¹(u)."""
        return _interpolate(
            self.below, self.grid, torch.rand(chains, 1, generator=generator, dtype=torch.float64)
        )

    def positions(self, z: Tensor) -> Tensor:
        """F(z), by the trapezium rule and linear interpolation."""
        return _interpolate(self.grid, self.below, z)


class Funnel(Law):
    """Neal's funnel (2003, Annals of Statistics 31, §8), milder: v ~ N(0, 1), x₁, x₂ ~ N(0, eᵛ)."""

    dim = 3
    fineness = 4.0
    names = ("v", "x1 given v", "x2 given v")

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """v²/2 + ‖x‖² e^{−v}/2 + v."""
        v, x = z[:, 0], z[:, 1:]
        return 0.5 * v**2 + 0.5 * (x**2).sum(1) * torch.exp(-v) + v

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """v, then x given v."""
        white = normal(chains, 3, generator)
        return torch.cat([white[:, :1], white[:, 1:] * torch.exp(0.5 * white[:, :1])], dim=1)

    def positions(self, z: Tensor) -> Tensor:
        """Φ(v) and Φ(x e^{−v/2})."""
        v = z[:, :1]
        return torch.special.ndtr(torch.cat([v, z[:, 1:] * torch.exp(-0.5 * v)], dim=1))


class Banana(Law):
    """x ~ N(0, 1) and y ~ N((x² − 1)/2, ½²)."""

    dim = 2
    fineness = 2.0
    names = ("x", "y given x")

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """x²/2 + 2 (y − (x² − 1)/2)²."""
        x, y = z.unbind(1)
        return 0.5 * x**2 + 2 * (y - 0.5 * (x**2 - 1)) ** 2

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """x, then y given x."""
        x, error = normal(chains, 2, generator).unbind(1)
        return torch.stack([x, 0.5 * (x**2 - 1) + 0.5 * error], dim=1)

    def positions(self, z: Tensor) -> Tensor:
        """Φ(x) and Φ(2(y − (x² − 1)/2))."""
        x, y = z.unbind(1)
        return torch.special.ndtr(torch.stack([x, 2 * (y - 0.5 * (x**2 - 1))], dim=1))


class Mean(Law):
    """z ~ N(0, I) and twelve data y_i ~ N(z, 2² I), for minibatches: the posterior of z is N(Σ y_i/16, ¼ I)."""

    dim = 2
    fineness = 3.0
    num_data = 12
    names = ("the first mean", "the second mean")

    def __init__(self) -> None:
        self.data = 1.0 + 2.0 * normal(12, 2, torch.Generator().manual_seed(3))

    def potential(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        """‖z‖²/2 + Σ_i ‖y_i − z‖²/8."""
        return 0.5 * (z**2).sum(1) + _estimate(((self.data.to(z) - z[:, None]) ** 2).sum(2) / 8, index)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """From the posterior."""
        return self.data.sum(0) / 16 + 0.5 * normal(chains, 2, generator)

    def positions(self, z: Tensor) -> Tensor:
        """Φ(2(z − Σ y_i/16))."""
        return torch.special.ndtr(2 * (z - self.data.sum(0) / 16))


def normal(chains: int, dim: int, generator: torch.Generator) -> Float64[Tensor, "chains dim"]:
    """White noise."""
    return torch.randn(chains, dim, generator=generator, dtype=torch.float64)


def _estimate(terms: Float[Tensor, "chains data"], index: Tensor | None) -> Float[Tensor, " chains"]:
    if index is None:
        return terms.sum(1)
    return terms.gather(1, index).sum(1) * (terms.shape[1] / index.shape[1])


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation of increasing y over increasing x."""
    right = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1])).clamp(0, 1)
    return torch.lerp(y[right - 1], y[right], share)
