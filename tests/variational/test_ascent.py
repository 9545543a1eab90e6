"""The trace of a bound: what counts as converged, and who decides the steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnnpriors.variational.ascent import Ascent, Bound, change, climb, verdict


def trace(values: list[float], rates: list[float] | None = None) -> list[Bound]:
    rates = rates or [1.0] * len(values)
    return [Bound(i, value, 0.1, sum(rates[: i + 1])) for i, value in enumerate(values)]


def climbed(how: Ascent, **options) -> tuple[nn.Parameter, list[Bound], int]:
    """−x² from x = 1."""
    x, steps = nn.Parameter(torch.ones(())), []

    def loss() -> torch.Tensor:
        steps.append(float(x.detach()))
        return x.square()

    def evaluate(step: int) -> Bound:
        return Bound(step, -(float(x.detach()) ** 2) + options.get("shift", 0.0), 0.0)

    return x, climb([x], loss, evaluate, how, heading="", progress=False), len(steps)


def test_the_change_is_that_of_the_last_fifth_of_the_distance() -> None:
    """Ten values at equal distances: mean of the last two minus mean of the two before; relative to the level."""
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0, 64.0, 100.0, 104.0]
    rise, relative = change(trace(values))
    assert rise == pytest.approx(40.0)
    assert relative == pytest.approx(40 / 102)
    assert change(trace([0.001 * value for value in values]))[1] == pytest.approx(
        0.04
    )  # below a nat: absolute


def test_a_schedule_that_has_ended_is_not_convergence() -> None:
    """A bound that rises with the distance alone: under a half cosine it stands still at the end, and still rises."""
    rates = [0.5 * (1 + math.cos(math.pi * i / 50)) for i in range(50)]
    history = trace([10 * sum(rates[: i + 1]) for i in range(50)], rates)
    assert history[-1].value - history[-5].value < 0.4
    assert change(history)[1] > 0.15
    assert verdict(history).startswith(
        "Not converged: it still rises; call fit again, which goes on. Figures:"
    )


def test_verdicts() -> None:
    assert verdict(trace([-50.0] * 50)) == (
        "Converged. Figures: over the last fifth of the fit the bound rose by 0 nats (0.0%) to -50 ± 0.1."
    )
    falling = verdict(trace([100.0 - i for i in range(50)]))
    assert falling.startswith("Not converged: it falls; lower learning_rate")
    assert "fell by 10 nats" in falling
    assert verdict(trace([1.0] * 3)).startswith("Not judged")
    assert verdict([]).startswith("Not judged")


def test_schedules_and_the_distance_travelled() -> None:
    _, history, steps = climbed(Ascent(100, 1, 0.1))
    assert steps == 100
    assert [bound.step for bound in history] == list(range(2, 101, 2))
    assert history[-1].travelled == pytest.approx(0.1 * 0.5 * 101, rel=0.01)  # the mean of a half cosine
    constant = torch.optim.lr_scheduler.ConstantLR
    _, history, _ = climbed(Ascent(100, 1, 0.1, lambda optimiser, _: constant(optimiser, factor=0.5)))
    assert history[1].travelled == pytest.approx(0.2)


def test_it_stops_where_the_bound_stands_still() -> None:
    _, history, steps = climbed(Ascent(10_000, 1, 0.05, tolerance=0.001))
    assert steps < 5000
    assert verdict(history).startswith("Converged")


def test_bad_settings_and_bounds_are_refused() -> None:
    for how, message in (
        (Ascent(0, 1, 0.1), "num_steps 0"),
        (Ascent(1, 1, -0.1), "learning_rate -0.1"),
        (Ascent(1, 1, 0.1, None, 0.0), "tolerance 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            how.check()
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        climbed(Ascent(5, 1, 0.1), shift=math.nan)
