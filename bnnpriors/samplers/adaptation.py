"""Warm-up: dual averaging of the step size, and windowed metrics, of each chain by itself or of the chains of a rung."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .rungs import Rungs


class DualAveraging(NamedTuple):
    """State of Nesterov dual averaging of log h (Hoffman & Gelman 1111.4246, eq. 6); every field is [chains].

    The paper draws log h towards μ = log(10 h₀) with γ = 0.05. Here μ = log h₀ and γ = 0.1: a first update moves h by a factor
    from 0.48 to 1.2, so that a warm-up of a few steps leaves h usable, and h swings less, so that the acceptance at the averaged
    log h, which is above the average acceptance, comes closer to the target.
    """

    log_step: Tensor
    log_average: Tensor
    error: Tensor
    steps: Tensor
    centre: Tensor

    @classmethod
    def start(cls, step_size: Float[Tensor, " chains"]) -> DualAveraging:
        """Begin at a step size h₀."""
        zero = torch.zeros_like(step_size)
        log_step = step_size.log()
        return cls(log_step, log_step, zero, zero, log_step)

    def update(self, acceptance: Float[Tensor, " chains"], target: float) -> DualAveraging:
        """H ← (1 − 1/(t+t₀)) H + (δ − α)/(t+t₀); log h = μ − √t/γ · H; averaged with weight t^{−κ}. γ=.1, t₀=10, κ=.75."""
        steps = self.steps + 1
        weight = 1 / (steps + 10)
        error = (1 - weight) * self.error + weight * (target - acceptance.to(self.error))
        log_step = self.centre - steps.sqrt() / 0.1 * error
        share = steps**-0.75
        return DualAveraging(
            log_step, share * log_step + (1 - share) * self.log_average, error, steps, self.centre
        )


def adapt_step_size(
    state: Any, acceptance: Float[Tensor, " chains"], target: float, iteration: int, num_warmup: int
) -> Any:
    """A state whose `step_size` follows dual averaging, kept in its field `averaging` [chains, 5]; the averaged h at the end."""
    averaging = DualAveraging(*state.averaging.unbind(1)).update(acceptance, target)
    log_step = averaging.log_average if iteration == num_warmup - 1 else averaging.log_step
    return state._replace(step_size=log_step.exp(), averaging=torch.stack(averaging, dim=1))


class Moments(NamedTuple):
    """Welford's running mean and sum of squares of each latent, per chain."""

    seen: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def start(cls, theta: Float[Tensor, "chains dim"]) -> Moments:
        """No observation yet."""
        return cls(theta.new_zeros(theta.shape[0]), torch.zeros_like(theta), torch.zeros_like(theta))

    def update(self, theta: Float[Tensor, "chains dim"]) -> Moments:
        """Add one observation a chain."""
        seen = self.seen + 1
        change = theta - self.mean
        mean = self.mean + change / seen[:, None]
        return Moments(seen, mean, self.squares + change * (theta - mean))

    def pooled(self, rungs: Rungs) -> Moments:
        """Of the chains of each rung together, each about its own mean: chains in different modes do not widen it."""
        return Moments(rungs.sum(self.seen - 1) + 1, self.mean, rungs.sum(self.squares))

    def inverse_mass(self, temperature: Float[Tensor, " chains"]) -> Float[Tensor, "chains dim"]:
        """M⁻¹ = Var θ / T, shrunk by five observations' worth towards 10⁻³ as in Stan.

        Variances scale with T, and momenta are N(0, T·M): so defined, M⁻¹ and h mean the same at every temperature.
        """
        seen = self.seen[:, None]
        variance = self.squares / (seen - 1) / temperature[:, None]
        return variance * seen / (seen + 5) + 1e-3 * 5 / (seen + 5)


class Covariances(NamedTuple):
    """Welford's running means, and sums of outer products of the chains of a rung, each about its own mean.

    `squares` [chains, rows, dim] is float64 and shared by rows (`Rungs.deal`).
    """

    seen: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def start(cls, theta: Float[Tensor, "chains dim"], rungs: Rungs) -> Covariances:
        """No observation yet."""
        zero = theta.new_zeros(rungs.count, theta.shape[1], theta.shape[1], dtype=torch.float64)
        return cls(theta.new_zeros(theta.shape[0]), torch.zeros_like(theta), rungs.deal(zero))

    def update(self, theta: Float[Tensor, "chains dim"], rungs: Rungs) -> Covariances:
        """Add one observation a chain."""
        seen = self.seen + 1
        change = theta - self.mean
        mean = self.mean + change / seen[:, None]
        before, after = change.double(), (theta - mean).double()
        squares = rungs.gather(self.squares)
        new = [
            torch.addmm(square, before[members].T, after[members])
            for square, members in zip(squares, rungs.members, strict=True)
        ]
        return Covariances(seen, mean, rungs.deal(torch.stack(new)))

    def inverse_mass(
        self, temperature: Float[Tensor, " chains"], rungs: Rungs
    ) -> tuple[Float64[Tensor, "rungs dim dim"], Float64[Tensor, "rungs dim dim"]]:
        """M⁻¹ = Cov θ / T, shrunk by five observations' worth towards 10⁻³ I as in Stan, and its Cholesky factor.

        Where there are fewer than two observations a latent, or rounding leaves no factor, it is diagonal.
        """
        count = rungs.sum(self.seen - 1)
        matrices, factors = [], []
        for square, members in zip(rungs.gather(self.squares), rungs.members, strict=True):
            seen, own_temperature = float(count[members[0]]), float(temperature[members[0]])
            matrix = 0.5 * (square + square.T) / seen / own_temperature * (seen / (seen + 5))
            matrix.diagonal().add_(1e-3 * 5 / (seen + 5))
            variances = matrix.diagonal().clone()
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if seen < 2 * len(matrix) or int(failed):
                matrix, factor = torch.diag(variances), torch.diag(variances.sqrt())
            matrices.append(matrix)
            factors.append(factor)
        return torch.stack(matrices), torch.stack(factors)


def metric_windows(num_warmup: int) -> tuple[int, tuple[int, ...]]:
    """First iteration of the metric's windows, and the iterations that end one: Stan's scheme of doubling
    windows between an initial buffer (75 of 1000 steps) and a final one (50); below 150 steps one window,
    in the proportions 15 : 50 : 35, so that h has time to follow it; below 20 steps none."""
    if num_warmup < 20:
        return num_warmup, ()
    first, last, size = (
        (75, 50, 25) if num_warmup >= 150 else (int(0.15 * num_warmup), int(0.35 * num_warmup), 0)
    )
    size = size or num_warmup - first - last
    ends, end = [], first
    while end < num_warmup - last:
        end += size
        size *= 2
        if end + size > num_warmup - last:
            end = num_warmup - last
        ends.append(end - 1)
    return first, tuple(ends)
