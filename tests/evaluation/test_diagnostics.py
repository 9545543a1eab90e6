"""Convergence figures and temperatures of chains whose answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bnnpriors.evaluation import SamplePredictive, convergence, kinetic_temperature_interval, summary
from bnnpriors.layout import Layout

from .fakes import Normal, Softmax, fake_draws, normal_tensor

CHAINS, DRAWS = 4, 500


def autoregressive(coefficient: float, seed: int = 0) -> torch.Tensor:
    """x_t = coefficient·x_{t−1} + noise, [4, 4000, 3]; its ESS is n·(1 − coefficient)/(1 + coefficient)."""
    noise = normal_tensor(CHAINS, 4000, 3, seed=seed)
    values = [noise[:, 0] / math.sqrt(1 - coefficient**2)]
    for step in range(1, 4000):
        values.append(coefficient * values[-1] + noise[:, step])
    return torch.stack(values, 1)


def test_independent_chains_have_converged():
    found = convergence(normal_tensor(CHAINS, DRAWS, 20))
    assert (found.rhat < 1.02).all()
    assert (found.ess_bulk > 0.6 * CHAINS * DRAWS).all()
    assert (found.ess_tail > 0.5 * CHAINS * DRAWS).all()
    assert found.reason == ""


def test_ess_of_an_autoregressive_chain():
    found = convergence(autoregressive(0.8))
    np.testing.assert_allclose(found.ess_bulk, 16_000 / 9, rtol=0.25)


def test_a_shifted_chain_is_noticed_in_weights_and_in_predictions():
    theta = normal_tensor(CHAINS, DRAWS, 6)
    theta[0] += 3
    pred = SamplePredictive(theta.flatten(0, 1)[:, :, None], Normal(), num_chains=CHAINS)
    report = summary(fake_draws(theta), pred)
    assert report.figures["rhat_weights"] > 1.3
    assert report.figures["rhat_predictions"] == pytest.approx(report.figures["rhat_weights"])
    assert report.figures["rhat_share_weights"] == 1.0
    assert report.figures["ess_bulk_predictions"] < 100
    assert any(w.startswith("R̂ of the predictions") for w in report.warnings)
    assert any("Bulk ESS of the weights" in w for w in report.warnings)


def test_permuted_weights_do_not_spoil_the_prediction_figures():
    theta = normal_tensor(CHAINS, DRAWS, 2) + torch.tensor([5.0, -5.0])
    theta[0] = theta[0].flip(-1)
    pred = SamplePredictive(theta.sum(-1).flatten()[:, None, None], Normal(), num_chains=CHAINS)
    report = summary(fake_draws(theta), pred)
    assert report.figures["rhat_weights"] > 1.3
    assert report.figures["rhat_predictions"] < 1.02


def test_logits_that_drift_together_leave_the_probabilities_converged():
    logits = normal_tensor(CHAINS, DRAWS, 5, 3) + torch.arange(DRAWS)[None, :, None, None]
    pred = SamplePredictive(logits.flatten(0, 1), Softmax(), num_chains=CHAINS)
    assert summary(fake_draws(normal_tensor(CHAINS, DRAWS, 2)), pred).figures["rhat_predictions"] < 1.02


def test_the_subset_of_scalars_is_bounded_and_fixed_by_the_seed():
    theta = normal_tensor(2, 50, 100)
    first, again, other = (convergence(theta, max_scalars=7, seed=seed) for seed in (0, 0, 1))
    assert first.rhat.shape == (7,)
    np.testing.assert_array_equal(first.rhat, again.rhat)
    assert not np.array_equal(first.rhat, other.rhat)


def test_healthy_run_has_no_warnings_and_a_readable_table():
    theta = normal_tensor(CHAINS, 2000, 6)
    stats_ = {
        "acceptance": torch.full((CHAINS, 2000), 0.8),
        "divergent": torch.zeros(CHAINS, 2000, dtype=torch.bool),
        "energy": normal_tensor(CHAINS, 2000, seed=4),
        "kinetic_temperature": normal_tensor(CHAINS, 2000, 6, seed=2).square().mean(-1),
        "configurational_temperature": theta.square().mean(-1),
    }
    report = summary(fake_draws(theta, **stats_))
    assert report.warnings == []
    assert report.figures["kinetic_inside"] == pytest.approx(
        0.99, abs=0.007
    )  # 6 s.e., a false alarm under 1e-6
    assert "rhat_weights" in str(report)
    assert "No warnings." in str(report)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("acceptance", torch.full((CHAINS, DRAWS), 0.1), "Acceptance of chains"),
        ("acceptance", torch.full((CHAINS, DRAWS), 0.999), "larger step_size"),
        ("energy_error", torch.full((CHAINS, DRAWS), 0.2), "no test corrects for it"),
        ("divergent", torch.ones(CHAINS, DRAWS, dtype=torch.bool), "draws diverged"),
        ("energy", normal_tensor(CHAINS, DRAWS).cumsum(1), "missing information"),
        ("kinetic_temperature", torch.full((CHAINS, DRAWS), 9.0), "kinetic temperature"),
        (
            "configurational_temperature",
            1.3 + 0.1 * normal_tensor(CHAINS, DRAWS),
            "configurational temperature",
        ),
    ],
)
def test_each_warning(name: str, values: torch.Tensor, words: str):
    report = summary(fake_draws(normal_tensor(CHAINS, DRAWS, 3), **{name: values}))
    assert any(words in warning for warning in report.warnings)
    assert words in str(report)


def test_the_energy_error_of_a_sampler_without_a_test():
    """Its mean square over T² and the latents; with an acceptance there is a test, and at T = 0 nothing to compare with."""
    theta, error = (
        normal_tensor(CHAINS, DRAWS, 3),
        torch.tensor([0.01, -0.02, 0.03, 0.04])[:, None].expand(-1, DRAWS),
    )
    report = summary(fake_draws(theta, 0.5, energy_error=error))
    assert report.figures["energy_variance"] == pytest.approx(30e-4 / 4 / 0.25 / 3)
    assert not any("no test" in warning for warning in report.warnings)
    tested = summary(fake_draws(theta, energy_error=error, acceptance=torch.full((CHAINS, DRAWS), 0.8)))
    assert "energy_variance" not in tested.figures
    cold = summary(fake_draws(theta, temperature=0.0, energy_error=error))
    assert math.isnan(cold.figures["energy_variance"])


def test_acceptance_that_was_never_measured_is_left_out():
    report = summary(fake_draws(normal_tensor(2, DRAWS, 3), acceptance=torch.full((2, DRAWS), math.nan)))
    assert "acceptance" not in report.figures


@pytest.mark.parametrize(("chains", "draws"), [(1, 100), (4, 3), (1, 1)])
def test_too_few_chains_or_draws_give_reasons_and_no_crash(chains: int, draws: int):
    theta = normal_tensor(chains, draws, 3)
    extra = {"configurational_temperature": torch.ones(chains, draws), "energy": torch.ones(chains, draws)}
    report = summary(fake_draws(theta, **extra))
    assert math.isnan(report.figures["rhat_weights"])
    assert any("missing" in warning for warning in report.warnings)
    assert "—" in str(report)


def test_stuck_and_diverged_chains_are_named():
    theta = normal_tensor(CHAINS, DRAWS, 3)
    theta[1] = 0.5
    theta[2, 7, 0] = math.nan
    warnings = " ".join(summary(fake_draws(theta)).warnings)
    assert "chains [2] hold NaN" in warnings
    assert "chains [1] never move" in warnings


def test_a_scalar_that_never_moves_has_no_figures():
    theta = normal_tensor(CHAINS, DRAWS, 3)
    theta[:, :, 1] = 2.0
    found = convergence(theta)
    assert np.isnan([found.rhat[1], found.ess_bulk[1], found.ess_tail[1]]).all()
    assert not np.isnan(found.rhat[[0, 2]]).any()
    assert "1 of 3 scalars" in found.reason


def test_chains_at_different_temperatures_are_not_pooled_but_each_judged_by_its_own():
    temperatures = torch.tensor([0.01, 0.1, 1.0, 2.0], dtype=torch.float64)
    kinetic = normal_tensor(CHAINS, DRAWS, 50).square().mean(-1) * temperatures[:, None]
    report = summary(fake_draws(normal_tensor(CHAINS, DRAWS, 50), temperatures, kinetic_temperature=kinetic))
    assert "rhat_weights" not in report.figures
    assert "at_temperature" in report.warnings[0]
    assert len(report.warnings) == 1
    assert report.figures["kinetic_temperature"] == pytest.approx(1.0, abs=0.025)


def test_temperatures_are_left_out_at_zero_temperature():
    theta = normal_tensor(CHAINS, DRAWS, 3)
    report = summary(fake_draws(theta, 0.0, kinetic_temperature=torch.zeros(CHAINS, DRAWS)))
    assert "kinetic_temperature" not in report.figures


def test_kinetic_share_of_each_tensor():
    sizes = (400, 20)
    exact = torch.stack(
        [normal_tensor(CHAINS, DRAWS, size, seed=size).square().mean(-1) for size in sizes], -1
    )
    exact[..., 1] *= 3
    draws = fake_draws(normal_tensor(CHAINS, DRAWS, 420))
    draws.tensor_stats = {"kinetic_temperature": exact}
    draws.layout = Layout((("0.weight", (20, 20)), ("0.bias", (20,))))
    report = summary(draws)
    assert report.tensors["0.weight"] > 0.97
    assert report.tensors["0.bias"] < 0.5
    assert report.figures["kinetic_inside_tensors"] == pytest.approx(np.mean(list(report.tensors.values())))
    assert any("of the tensors" in warning for warning in report.warnings)
    assert "kinetic_inside 0.bias" in str(report)


def test_kinetic_temperature_interval():
    np.testing.assert_allclose(kinetic_temperature_interval(1000), (0.8886, 1.1189), atol=5e-5)
    low, high = kinetic_temperature_interval(np.array([5, 50]), temperature=0.1, level=0.9)
    inside = stats.chi2.cdf(high * np.array([5, 50]) / 0.1, [5, 50]) - stats.chi2.cdf(
        low * np.array([5, 50]) / 0.1, [5, 50]
    )
    np.testing.assert_allclose(inside, 0.9)
    with pytest.raises(ValueError, match="at least one dimension"):
        kinetic_temperature_interval(0)


def test_convergence_refuses_a_vector():
    with pytest.raises(ValueError, match=r"expected \(chains, draws"):
        convergence(torch.zeros(5))
