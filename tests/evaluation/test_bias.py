"""The bias of a step size where it is known, and the verdict on a run."""

from __future__ import annotations

import math
import re

import pytest
import torch

import bnnpriors as bp
from bnnpriors.evaluation.run_verdict import run_verdict
from bnnpriors.samplers import GGMC, HMC, OBABO

from ..conjugate import regression, sample


def _regression(**options):
    """One weight with precision k = Σx²/σ² + 1."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    posterior = bp.Posterior(
        bp.attach(net, bp.priors.Normal()), bp.likelihoods.Gaussian(0.5), x, 0.7 * x, **options
    )
    return posterior, float((x**2).sum() / 0.25 + 1)


def test_the_bias_of_a_large_step_is_its_closed_form():
    """OBABO with h²k = 1.2: the variance is 1/(1 − 0.3) times too large, and no mean is shifted; with h²k = 0.02 nothing is
    seen."""
    posterior, stiffness = _regression()
    corrected = sample(
        posterior, HMC(step_size=0.3, num_steps=4), num_samples=120, num_warmup=50, num_chains=32
    )
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    found = {}
    for share in (1.2, 0.02):
        sampler = OBABO(step_size=(share / stiffness) ** 0.5, momentum_decay=0.5)
        draws = sample(posterior, sampler, num_samples=200, num_warmup=20, num_chains=32, init=corrected)
        found[share] = bp.step_size_bias(draws, corrected, x)
    large, small = found[1.2], found[0.02]
    assert large.is_found
    assert not small.is_found
    assert large.spread == pytest.approx(1 / 0.7 - 1, abs=5 * large.spread_error)
    assert 5 * large.spread_error < 1 / 0.7 - 1
    assert large.location < 5 * large.location_error
    assert large.total_variation > small.total_variation
    assert str(large).startswith("The step size biases the predictions: means are shifted by")
    assert str(small).startswith("No bias of the step size is seen")


def test_a_shift_is_measured_in_standard_deviations():
    """Two posteriors whose means differ by 0.8 standard deviations."""
    posterior, stiffness = _regression()
    shifted = bp.Posterior(
        posterior.model, posterior.likelihood, posterior.data.x,
        posterior.data.y + 0.8 * posterior.data.x * stiffness**0.5 / (stiffness - 1),
    )  # fmt: skip
    options = {"num_samples": 60, "num_warmup": 50, "num_chains": 32}
    one, other = (sample(p, HMC(step_size=0.3, num_steps=4), **options) for p in (shifted, posterior))
    found = bp.step_size_bias(one, other, posterior.data.x[:5])
    assert found.is_found
    assert found.location == pytest.approx(0.8, abs=5 * found.location_error)
    assert abs(found.spread) < 5 * found.spread_error


def test_what_a_corrected_run_must_be():
    posterior, _, _ = regression()
    plain = sample(posterior, GGMC(), num_samples=4, num_chains=2)
    tested = sample(posterior, GGMC(steps_per_test=2), num_samples=4, num_chains=2)
    cold, _, _ = regression(temperature=0.1)
    other = sample(cold, GGMC(steps_per_test=2), num_samples=4, num_chains=2)
    x = posterior.data.x
    with pytest.raises(ValueError, match=r"reports no acceptance.*GGMC\(steps_per_test"):
        bp.step_size_bias(tested, plain, x)
    with pytest.raises(ValueError, match=r"temperatures \[1\.0\] and \[0\.1\] given"):
        bp.step_size_bias(plain, other, x)
    few = sample(posterior, GGMC(steps_per_test=2), num_samples=2, num_chains=2)
    with pytest.raises(ValueError, match="4 and 2 draws a chain given"):
        bp.step_size_bias(plain, few, x)


GOOD = {
    "chains": 4.0, "rhat_weights": 1.2, "ess_bulk_weights": 30.0, "ess_tail_weights": 30.0, "rhat_predictions": 1.004,
    "ess_bulk_predictions": 900.0, "ess_tail_predictions": 800.0, "acceptance": 0.83, "bfmi": 0.9,
    "kinetic_inside_tensors": 0.991, "configurational_temperature": 1.003,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, r"Converged\. Figures: R̂ of the predictions at most 1\.004, at least 800 effective draws, acceptance"),
        ({"rhat_predictions": 1.03}, "Nearly converged: read the warnings"),
        ({"bfmi": 0.1}, "Nearly converged"),
        ({"rhat_predictions": 1.3}, r"Not converged: the chains disagree in their predictions \(R̂ 1\.30\)"),
        ({"acceptance": 0.1, "divergent": 0.2}, r"Not converged: few proposals .*; 20\.0% of the draws diverge\. Fig"),
    ],
)  # fmt: skip
def test_verdicts(changes, words):
    assert re.match(words, run_verdict(GOOD | changes, []))


def test_a_run_is_judged_in_predictions_at_one_temperature():
    posterior, _, _ = regression(temperature=[0.1, 1.0])
    draws = sample(posterior, HMC(step_size=0.2, num_steps=10), num_samples=300, num_warmup=100, num_chains=4)
    assert "several temperatures" in draws.summary().verdict
    one = draws.at_temperature(0.1)
    assert "give inputs" in one.summary().verdict
    report = one.summary(posterior.data.x)
    assert report.verdict in str(report)
    assert report.verdict.startswith(("Converged", "Nearly"))
    assert "inside their 99 % interval" in report.verdict
    temperatures = report.tensor_temperatures["weight"]
    assert set(temperatures) == {"kinetic_temperature", "configurational_temperature"}
    assert abs(temperatures["kinetic_temperature"] - 1) < 0.25
    # of two latents far from 0, so that its standard deviation is about 1
    assert math.isfinite(temperatures["configurational_temperature"])
