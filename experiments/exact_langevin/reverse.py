"""The Metropolis test of one step of SGHMC and of GGMC, from the densities of the move forwards and backwards.

Both steps have a half without noise: in SGHMC θ′ = θ + c m′, in GGMC θ′ = θ + h m½, with c and m½ as below. A move without noise
has no density, so here its end is blurred by N(0, (δ h)² T), and the test is that of the blurred step, exact for each δ > 0. Then
δ → 0.

The target is exp(−(‖θ‖²/2 + ‖m‖²/2)/T), and the reverse move leads from (θ′, −m′) to (θ, −m).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from bnnpriors.samplers.ggmc import half_kick, kick_and_drift
from bnnpriors.samplers.sghmc import sghmc_update

Pair = tuple[Tensor, Tensor]


def start(samples: int, dim: int, temperature: float, generator: torch.Generator) -> Pair:
    """θ and m from the target."""
    scale = math.sqrt(temperature)
    return _normal(samples, dim, generator) * scale, _normal(samples, dim, generator) * scale


def sghmc_log_ratio(
    begin: Pair,
    width: float,
    *,
    step_size: float,
    decay: float,
    temperature: float,
    generator: torch.Generator,
) -> Float64[Tensor, " samples"]:
    """log of the Metropolis ratio of m′ = a m − h √((1+a)/2) ∇U(θ) + √((1−a²)T) ε, θ′ = θ + c m′ + δ h √T η, c = h √(2/(1+a)).

    Backwards, −m has to be drawn at −m′ and θ′, and θ to be θ′ − c m up to the blur: it misses by c (m′ − m) + δ h √T η, of
    order h, whatever δ is.
    """
    theta, momentum = begin
    samples, dim = theta.shape
    h, t = torch.tensor(step_size, dtype=theta.dtype), torch.tensor(temperature, dtype=theta.dtype)
    unblurred, new = sghmc_update(theta, momentum, theta, _normal(samples, dim, generator), h, t, decay)
    blur = width * step_size * math.sqrt(temperature)
    new_theta = unblurred + blur * _normal(samples, dim, generator)
    factor = math.sqrt(0.5 * (1 + decay))
    noise = math.sqrt((1 - decay**2) * temperature)
    forwards = _log_normal(new - (decay * momentum - step_size * factor * theta), noise)
    forwards += _log_normal(new_theta - unblurred, blur)
    backwards = _log_normal(-momentum - (-decay * new - step_size * factor * new_theta), noise)
    backwards += _log_normal(theta - (new_theta - step_size / factor * momentum), blur)
    return (energy(begin) - energy((new_theta, new))) / temperature + backwards - forwards


def ggmc_log_ratio(
    begin: Pair, width: float, *, step_size: float, temperature: float, generator: torch.Generator
) -> Float64[Tensor, " samples"]:
    """log of the Metropolis ratio of GGMC's B A B, blurred at its end: m½ = m − (h/2) ∇U(θ), θ′ = θ + h m½ + δ h √T η,
    m′ = m½ − (h/2) ∇U(θ′). Backwards, −m′ kicked at θ′ is −m½, from which θ is reached by the same blur.

    The friction before it draws from N(0, T) and needs no test.
    """
    theta, momentum = begin
    h = torch.tensor(step_size, dtype=theta.dtype)
    blur = width * step_size * math.sqrt(temperature)
    unblurred, half = kick_and_drift(theta, momentum, theta, h)
    new_theta = unblurred + blur * _normal(*theta.shape, generator)
    new = half_kick(half, new_theta, h)
    back, _ = kick_and_drift(new_theta, -new, new_theta, h)
    ratio = _log_normal(theta - back, blur) - _log_normal(new_theta - unblurred, blur)
    return (energy(begin) - energy((new_theta, new))) / temperature + ratio


def acceptance(log_ratio: Float64[Tensor, " samples"]) -> tuple[float, float]:
    """The mean of min(1, ratio), and its standard error."""
    probability = log_ratio.clamp(max=0.0).exp()
    return float(probability.mean()), float(probability.std()) / math.sqrt(len(probability))


def energy(pair: Pair) -> Float64[Tensor, " samples"]:
    """‖θ‖²/2 + ‖m‖²/2."""
    return 0.5 * (pair[0].square().sum(1) + pair[1].square().sum(1))


def _log_normal(difference: Tensor, scale: float) -> Tensor:
    """Up to a constant that is the same forwards and backwards."""
    return -0.5 * (difference / scale).square().sum(1)


def _normal(samples: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, dim, dtype=torch.float64, generator=generator)
