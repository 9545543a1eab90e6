"""The ascent of a bound: one loop for every fit, its trace, and whether it has converged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ..counts import as_integer
from ..progress import Progress

EVALUATIONS = 50
"""How often in a fit the bound is evaluated on the full data."""
CONVERGED = 0.01
"""The relative change of the bound over the last fifth of a fit below which it counts as converged."""

Schedule = Callable[[torch.optim.Optimizer, int], LRScheduler]
"""From the optimiser and the number of steps to a scheduler of torch, such as `torch.optim.lr_scheduler.CosineAnnealingLR`."""


class Bound(NamedTuple):
    """An estimate of what a fit maximises, in nats.

    Attributes:
        step: after which it was made. value: the mean over draws. error: its standard error.
        travelled: the learning rates of all steps until then, summed.
    """

    step: int
    value: float
    error: float
    travelled: float = 0.0


class Ascent(NamedTuple):
    """How to climb.

    Attributes:
        num_steps: of Adam, at most. num_draws: of θ a step. learning_rate: that of the first step.
        schedule: as `Schedule`; a half cosine down to zero if None.
        tolerance: the relative change of the bound (see `change`) at which to stop early; None for all steps.
    """

    num_steps: int
    num_draws: int
    learning_rate: float
    schedule: Schedule | None = None
    tolerance: float | None = None

    def check(self) -> None:
        """Raise ValueError for counts below one, and a rate or a tolerance that is not positive."""
        counts = (as_integer(self.num_steps), as_integer(self.num_draws))
        if any(count is None or count < 1 for count in counts) or not self.learning_rate > 0:
            raise ValueError(
                f"fit: num_steps {self.num_steps}, num_draws {self.num_draws} and learning_rate {self.learning_rate} given, "
                "expected integers from 1 and a positive number"
            )
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(
                f"fit: tolerance {self.tolerance} given, expected a positive relative change or None"
            )


def climb(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[], Tensor],
    evaluate: Callable[[int], Bound],
    how: Ascent,
    *,
    heading: str,
    progress: bool,
) -> list[Bound]:
    """Adam on `loss`, whose gradient is an estimate of that of −L; `evaluate(step)` gives L along the way, 50 times.

    Raises:
        FloatingPointError: L is no longer finite.
    """
    optimiser = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=how.learning_rate)
    schedule = (how.schedule or CosineAnnealingLR)(optimiser, how.num_steps)
    history: list[Bound] = []
    travelled, every = 0.0, max(1, how.num_steps // EVALUATIONS)
    with Progress(how.num_steps, heading=heading, enabled=progress, doing="fitting") as bar:
        for step in range(1, how.num_steps + 1):
            optimiser.zero_grad()
            loss().backward()
            travelled += float(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
            if step % every == 0 or step == how.num_steps:
                found = evaluate(step)._replace(travelled=travelled)
                if not math.isfinite(found.value):
                    raise FloatingPointError(
                        f"fit: the bound is {found.value} at step {step}: lower learning_rate, or begin with a smaller scale"
                    )
                history.append(found)
                if how.tolerance is not None and abs(change(history)[1]) < how.tolerance:
                    break
            if bar.due():
                bar.show(step, {"bound": history[-1].value} if history else {})
        bar.complete()
    return history


def change(history: Sequence[Bound]) -> tuple[float, float]:
    """How much the bound has risen lately: in nats, and relative to its size (to one nat where it is smaller).

    It is smoothed: the mean over the last fifth of the distance travelled minus that over the fifth before. Distance is the sum
    of the learning rates, so that a bound which stands still because its schedule has come to an end is not taken for
    one that has converged; under a half cosine the last fifth is the last half of the steps, about. Infinite where either
    fifth holds fewer than two values.
    """
    if not history:
        return math.inf, math.inf
    end = history[-1].travelled
    last = [bound.value for bound in history if bound.travelled > 0.8 * end]
    before = [bound.value for bound in history if 0.6 * end < bound.travelled <= 0.8 * end]
    if min(len(last), len(before)) < 2:
        return math.inf, math.inf
    level = sum(last) / len(last)
    rise = level - sum(before) / len(before)
    return rise, rise / max(1.0, abs(level))


def verdict(history: Sequence[Bound]) -> str:
    """One sentence: has the bound converged, and which figures say so? See `change` and `CONVERGED`."""
    rise, relative = change(history)
    if not math.isfinite(rise):
        return "Not judged: too few values of the bound; fit with num_steps of 50 at least."
    figures = (
        f"Figures: over the last fifth of the fit the bound {'rose' if rise >= 0 else 'fell'} by {abs(rise):.2g} nats "
        f"({abs(relative):.1%}) to {history[-1].value:.4g} ± {history[-1].error:.2g}."
    )
    if abs(relative) < CONVERGED:
        return f"Converged. {figures}"
    remedy = (
        "it still rises; call fit again, which goes on"
        if rise > 0
        else "it falls; lower learning_rate, or take more draws a step"
    )
    return f"Not converged: {remedy}. {figures}"
