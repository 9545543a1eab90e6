"""Predictions of our HMC agree with a long NUTS run of Pyro on `to_pyro()` within Monte Carlo error.

`reference/pyro_nuts.npz` holds the predictions of that run; `reference/make_pyro_nuts.py` made it and defines the problem.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from arviz_stats.base import array_stats

import bnnpriors as bp

REFERENCE = Path(__file__).parent / "reference"


def _problem():
    spec = importlib.util.spec_from_file_location("make_pyro_nuts", REFERENCE / "make_pyro_nuts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.problem()


def _mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over chains and draws of [chains, draws, points], and its standard error by the bulk ESS."""
    ess = array_stats.ess(samples, method="mean", chain_axis=0, draw_axis=1)
    return samples.mean((0, 1)), samples.std((0, 1)) / np.sqrt(ess)


@pytest.mark.slow
def test_predictions_agree_with_pyro_nuts():
    """Means and second moments at 21 points: 42 comparisons at 6 standard errors, a two-sided false-alarm rate of 1e-7 with
    known errors, and below 1e-6 with errors known to 10 %."""
    reference = np.load(REFERENCE / "pyro_nuts.npz")["predictions"].astype(float)
    model, likelihood, x, y, x_test = _problem()
    posterior = bp.Posterior(model, likelihood, x, y)
    draws = bp.sample(
        posterior,
        bp.samplers.HMC(step_size=0.05, num_steps=25),
        num_samples=1600,
        num_warmup=400,
        num_chains=8,
        seed=1,
    )
    ours = draws.predict(x_test).outputs_by_chain()[..., 0].numpy()
    centre = reference.mean((0, 1))
    for power in (1, 2):
        mean, error = _mean_and_error((ours - centre) ** power)
        expected, its_error = _mean_and_error((reference - centre) ** power)
        error = np.hypot(error, its_error)
        z = np.abs(mean - expected) / error
        assert (6 * error < 0.7 * reference.std((0, 1)) ** power).all(), "too few effective draws to tell"
        assert z.max() < 6.0, f"moment {power}: largest difference {z.max():.1f} standard errors"
