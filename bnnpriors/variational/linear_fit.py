"""Function-space inference on linear models: maximise E_q log p(y | w) − KL_X̃ over a family of laws."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .families import Family
from .gaussian import Gaussian
from .linear_regression import LinearRegression
from .score import divergence_surrogate

ESTIMATORS = ("closed form", "ssge")
Measurements = Callable[[torch.Generator], Tensor]


def fit(
    model: LinearRegression,
    family: Family,
    measurements: Measurements,
    *,
    estimator: str = "closed form",
    num_steps: int = 2000,
    learning_rate: float = 0.02,
    num_samples: int = 100,
    jitter: float = 0.0,
    seed: int = 0,
) -> list[float]:
    """Maximise L = E_q log p(y | w) − KL_X̃ by Adam, its rate falling to zero along a half cosine (Sun et al. 1903.05779, §3).

    Args:
        family: changed in place.
        measurements: generator -> features of the measurement points X̃, [points, p], drawn anew at every step.
        estimator: "closed form", the divergence of normal laws; "ssge", ∇KL_X̃ = E[(∇ log q(f) − ∇ log p(f)) ∂f], where ∇ log q is
            `SpectralScore`'s from `num_samples` draws, biased as that is.
        jitter: as for `functional_kl`, of both estimators.
        seed: of draws and measurement points.

    Returns:
        The objective of each step, without the divergence for "ssge".

    Raises:
        ValueError: "closed form" for a family without closed form, an unknown estimator, fewer than one step. IllDefinedError:
            the divergence is infinite.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"fit: estimator {estimator!r} given, expected one of {ESTIMATORS}")
    if estimator == "closed form" and family.law() is None:
        raise ValueError(
            f"fit: estimator='closed form' given for {type(family).__name__}, of which only draws are known; use 'ssge'"
        )
    if num_steps < 1:
        raise ValueError(f"fit: num_steps {num_steps} given, expected one at least")
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in family.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    history = []
    for _ in range(num_steps):
        points = measurements(generator)
        optimiser.zero_grad()
        law = family.law()
        if estimator == "closed form":
            assert law is not None
            objective = model.objective(law, points, jitter=jitter)
            shown = objective
        else:
            weights = family.sample(num_samples, generator)
            shown = _log_likelihood(model, weights) if law is None else model.expected_log_likelihood(law)
            values, prior = weights @ points.mT, model.prior.image(points)
            objective = shown - divergence_surrogate(values, prior, jitter=jitter, generator=generator)
        (-objective).backward()
        optimiser.step()
        schedule.step()
        history.append(float(shown.detach()))
    return history


def moments(family: Family, *, num_samples: int = 20_000, seed: int = 0) -> Gaussian:
    """The normal law with a family's mean and covariance: its own, or that of draws."""
    with torch.no_grad():
        law = family.law()
        if law is not None:
            return Gaussian(*(part.detach().clone() for part in law))
        draws = family.sample(num_samples, torch.Generator().manual_seed(seed))
        return Gaussian(draws.mean(0), draws.mT.cov())


def _log_likelihood(model: LinearRegression, weights: Float[Tensor, "samples p"]) -> Tensor:
    """E_q log p(y | w) of draws."""
    residual = model.y - weights @ model.features.mT
    constant = len(model.y) * math.log(2 * math.pi * model.noise)
    return -0.5 * (constant + residual.square().sum(1).mean() / model.noise)
