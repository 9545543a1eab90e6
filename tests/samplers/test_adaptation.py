"""Dual averaging, running moments and the windows of the metric."""

import math

import pytest
import torch

from bnnpriors.samplers.adaptation import DualAveraging, Moments, metric_windows


@pytest.mark.parametrize("num_warmup", [*range(20, 400), 1000, 1500, 5000])
def test_windows_cover_warm_up(num_warmup):
    """Windows follow each other, end in increasing order, and leave a final buffer for the step size alone."""
    first, ends = metric_windows(num_warmup)
    assert first > 0
    assert len(ends) >= 1
    assert all(a < b for a, b in zip((first, *ends), ends, strict=False))
    last = 50 if num_warmup >= 150 else int(0.35 * num_warmup)
    assert ends[-1] == num_warmup - last - 1
    sizes = [b - a for a, b in zip((first - 1, *ends), ends, strict=False)]
    assert sum(sizes) == num_warmup - first - last
    assert min(sizes) >= 10


def test_windows_of_stan():
    """Stan's own example: 1000 steps, windows that end at 100, 150, 250, 450 and 950."""
    assert metric_windows(1000) == (75, (99, 149, 249, 449, 949))
    assert metric_windows(19) == (19, ())
    assert metric_windows(0) == (0, ())


def test_dual_averaging_solves_for_the_target():
    """With acceptance exp(−h) the target .8 is reached at h = −log .8, for each chain from its own start."""
    averaging = DualAveraging.start(torch.tensor([1e-3, 0.1, 5.0], dtype=torch.float64))
    for _ in range(2000):
        averaging = averaging.update(torch.exp(-averaging.log_step.exp()), 0.8)
    torch.testing.assert_close(
        averaging.log_average.exp(), torch.full((3,), -math.log(0.8), dtype=torch.float64), rtol=0.05, atol=0
    )


def test_dual_averaging_by_hand():
    """The first update from h₀: H = (δ − α)/11, log h = log h₀ − H/0.1, and the average is that."""
    first = DualAveraging.start(torch.tensor([0.2], dtype=torch.float64))
    new = first.update(torch.tensor([0.5], dtype=torch.float64), 0.8)
    expected = math.log(0.2) - (0.3 / 11) / 0.1
    assert float(new.log_step) == pytest.approx(expected, abs=1e-6)
    assert float(new.log_average) == pytest.approx(expected, abs=1e-6)


def test_the_metric_is_the_sample_variance_over_temperature_shrunk():
    values = torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5 + 100
    moments = Moments.start(values[0])
    for value in values:
        moments = moments.update(value)
    torch.testing.assert_close(moments.mean, values.mean(0))
    temperature = torch.tensor([1.0, 1e-3, 4.0], dtype=torch.float64)
    expected = values.var(0) / temperature[:, None] * 40 / 45 + 1e-3 * 5 / 45
    torch.testing.assert_close(moments.inverse_mass(temperature), expected)
