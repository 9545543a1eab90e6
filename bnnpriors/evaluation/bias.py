"""`step_size_bias`: how far a sampler without a Metropolis test is from one with it, in predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .chains import MIN_DRAWS, subset
from .compare import distances
from .sampled import SamplePredictive

if TYPE_CHECKING:
    from ..draws import Draws

FALSE_ALARM = 1e-3
"""With which the largest of all distances exceeds its limit where there is no bias."""


@dataclass(frozen=True)
class StepSizeBias:
    """How far the draws of a sampler without a Metropolis test are from those of one with it; `str` is the verdict in words.

    Attributes:
        location: by how many standard deviations of the corrected run a prediction's mean is shifted: the root of the mean
            square over predictions, Monte Carlo error taken out. location_error: what Monte Carlo error alone makes of it.
        spread: by what share the variance of a prediction is too large, on average. spread_error: its Monte Carlo error.
        largest, limit: the largest distance of any mean or variance, in Monte Carlo standard errors, and what chance allows.
        agreement, total_variation: of the two predictive distributions, as `compare` defines them.
    """

    location: float
    location_error: float
    spread: float
    spread_error: float
    largest: float
    limit: float
    agreement: float | None
    total_variation: float

    @property
    def is_found(self) -> bool:
        """Whether the two differ beyond chance."""
        return self.largest > self.limit

    def __str__(self) -> str:
        agreement = "" if self.agreement is None else f"agreement is {self.agreement:.1%}, "
        figures = (
            f"means are shifted by {self.location:.3f} ± {self.location_error:.3f} standard deviations, variances are "
            f"{self.spread:+.1%} ± {self.spread_error:.1%} off, {agreement}total variation {self.total_variation:.3f}; the "
            f"largest distance is {self.largest:.1f} "
            f"standard "
            f"errors, and chance allows {self.limit:.1f}"
        )
        if self.is_found:
            return f"The step size biases the predictions: {figures}. Halve it, or use the corrected run."
        return f"No bias of the step size is seen: {figures}."


@torch.no_grad()
def step_size_bias(
    draws: Draws, corrected: Draws, x: Any, *, max_scalars: int = 256, seed: int = 0
) -> StepSizeBias:
    """Compare a run without a Metropolis test with one that has it, of the same posterior, in predictions at x.

    Means and variances of what each draw predicts, with Monte Carlo errors by effective sample sizes (Vehtari et al. 1903.08008).
    The corrected run may be short, and may begin where the other ended: `bp.sample(post, bp.samplers.GGMC(...,
    steps_per_test=...), init=draws, ...)`; a short one has large errors, which the verdict takes into account.

    Args:
        draws, corrected: of one temperature each, the same. x: inputs [batch, ...].
        max_scalars: how many predicted numbers to look at: a random subset fixed by `seed`.

    Raises:
        ValueError: a corrected run that reports no acceptance, other temperatures, or fewer than four draws a chain.
    """
    if "acceptance" not in corrected.stats:
        raise ValueError(
            "step_size_bias: the corrected run reports no acceptance, so it had no Metropolis test; expected draws of HMC, NUTS, "
            "AMAGOLD or GGMC(steps_per_test=...)"
        )
    if draws.temperatures.unique().tolist() != corrected.temperatures.unique().tolist():
        raise ValueError(
            f"step_size_bias: temperatures {draws.temperatures.unique().tolist()} and {corrected.temperatures.unique().tolist()} "
            "given, expected one and the same"
        )
    if min(draws.num_draws, corrected.num_draws) < MIN_DRAWS:
        raise ValueError(
            f"step_size_bias: {draws.num_draws} and {corrected.num_draws} draws a chain given, expected {MIN_DRAWS} or more"
        )
    ours, theirs = draws.predict(x), corrected.predict(x)
    one, other = (_numbers(pred, max_scalars, seed) for pred in (ours, theirs))
    centre, scale = other.mean((0, 1)), other.std((0, 1)).clip(min=np.finfo(np.float64).tiny)
    moments, errors = [], []
    for power in (1, 2):
        pair = [_moment(((values - centre) / scale) ** power) for values in (one, other)]
        moments.append(pair[0][0] - pair[1][0])
        errors.append(np.hypot(pair[0][1], pair[1][1]))
    from scipy.stats import norm

    shift, excess = moments
    ratio = np.concatenate(moments) / np.concatenate(errors)
    agreement, total_variation = distances(ours, theirs)
    return StepSizeBias(
        location=math.sqrt(max(float((shift**2 - errors[0] ** 2).mean()), 0.0)),
        location_error=math.sqrt(float((errors[0] ** 2).mean())),
        spread=float((excess - shift**2).mean()),
        spread_error=float(errors[1].mean()),
        largest=float(np.abs(ratio).max()),
        limit=float(norm.isf(FALSE_ALARM / (2 * len(ratio)))),
        agreement=agreement,
        total_variation=total_variation,
    )


def _numbers(
    pred: SamplePredictive, max_scalars: int, seed: int
) -> Float[np.ndarray, "chains draws scalars"]:
    points = subset(pred.num_points, max_scalars, seed)
    values: Tensor = pred.predictions_by_chain(points.to(pred.outputs.device)).flatten(2)
    return values[..., subset(values.shape[2], max_scalars, seed)].double().cpu().numpy()


def _moment(values: Float[np.ndarray, "chains draws scalars"]) -> tuple[np.ndarray, np.ndarray]:
    """The mean over chains and draws, and its standard error."""
    from arviz_stats.base import array_stats

    error = array_stats.mcse(values, method="mean", chain_axis=0, draw_axis=1)
    return values.mean((0, 1)), np.maximum(np.asarray(error, np.float64), np.finfo(np.float64).tiny)
