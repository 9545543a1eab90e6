"""Predictions of our samplers on the full data agree with long NUTS runs, of Pyro and of ours, within Monte Carlo error.

`reference/pyro_nuts.npz` holds the predictions of Pyro's own run on `to_pyro()`, made by `reference/make_pyro_nuts.py`, and
`reference/nuts_*.npz` those of `bp.samplers.NUTS`, made by `reference/make_nuts.py`. The scripts define the problems.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from arviz_stats.base import array_stats

import bnnpriors as bp
from bnnpriors import samplers as S

REFERENCE = Path(__file__).parent / "reference"
LIMIT = 6.0
TUNED = {"momentum_decay": 0.8, "steps_per_test": 5, "target_acceptance": 0.8}
EXACT = {
    "HMC": S.HMC(step_size=0.1, num_steps=8),
    "GGMC": S.GGMC(step_size=0.1, **TUNED),
    "AMAGOLD": S.AMAGOLD(step_size=0.1, **TUNED),
}
BIASED = {"BAOAB": S.BAOAB, "OBABO": S.OBABO, "SGHMC": S.SGHMC, "SGNHT": S.SGNHT}
STEPS = {"classes": 0.15, "sparse": 0.03}
ALLOWED = 0.1
"""Of a standard deviation, by which samplers without a Metropolis test may be off."""


def _script(name):
    spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over chains and draws of [chains, draws, points], and its standard error by the bulk ESS."""
    ess = array_stats.ess(samples, method="mean", chain_axis=0, draw_axis=1)
    return samples.mean((0, 1)), samples.std((0, 1)) / np.sqrt(ess)


def _assert_agree(ours: np.ndarray, reference: np.ndarray, allowed: float = 0.0) -> None:
    """Means and second moments of predictions about 0, each at `LIMIT` standard errors of both, and `allowed` standard
    deviations.

    18 to 42 comparisons have a two-sided false-alarm rate of at most 1e-7 with known errors, and below 1e-6 with errors known
    to 10 %.
    """
    for power in (1, 2):
        mean, error = _mean_and_error(ours**power)
        expected, its_error = _mean_and_error(reference**power)
        error, spread = np.hypot(error, its_error), reference.std((0, 1)) ** power
        assert (LIMIT * error < 0.7 * spread).all(), "too few effective draws to tell"
        excess = (np.abs(mean - expected) - allowed * power * spread) / error
        assert excess.max() < LIMIT, f"moment {power}: off by {excess.max():.1f} standard errors"


@pytest.mark.slow
def test_predictions_agree_with_pyro_nuts():
    reference = np.load(REFERENCE / "pyro_nuts.npz")["predictions"].astype(float)
    model, likelihood, x, y, x_test = _script("make_pyro_nuts").problem()
    posterior = bp.Posterior(model, likelihood, x, y)
    draws = bp.sample(
        posterior,
        S.HMC(step_size=0.05, num_steps=25),
        num_samples=1600,
        num_warmup=400,
        num_chains=8,
        seed=1,
    )
    ours = draws.predict(x_test).outputs_by_chain()[..., 0].numpy()
    centre = reference.mean((0, 1))
    _assert_agree(ours - centre, reference - centre)


@pytest.mark.slow
@pytest.mark.parametrize("problem", STEPS)
@pytest.mark.parametrize("sampler", [*EXACT, *BIASED])
def test_predictions_agree_with_the_reference(problem: str, sampler: str):
    """Those with a Metropolis test exactly, the others at a small step size but for a tenth of a standard deviation."""
    reference = np.load(REFERENCE / f"nuts_{problem}.npz")
    assert reference["rhat"] < 1.01
    assert reference["ess"] > 1000
    script = _script("make_nuts")
    posterior, x = script.PROBLEMS[problem]()
    options = {"num_chains": 8, "seed": 1, "progress": False}
    start = bp.sample(posterior, S.HMC(step_size=0.05, num_steps=6), num_samples=1, num_warmup=120, **options)
    options |= {"num_warmup": 100, "init": start}
    if sampler in EXACT:
        draws = bp.sample(posterior, EXACT[sampler], num_samples=300, **options)
    else:
        kind = BIASED[sampler](step_size=STEPS[problem], momentum_decay=0.9)
        draws = bp.sample(posterior, kind, num_samples=400, thin=5, **options)
    ours = script.predictions(draws, x) - reference["mean"]
    _assert_agree(ours, reference["centred"].astype(float), 0.0 if sampler in EXACT else ALLOWED)


def test_the_references_are_small():
    assert sum(path.stat().st_size for path in REFERENCE.glob("*.npz")) < 2e6
