"""Predictions of our samplers on the full data agree with long NUTS runs, of Pyro and of ours, within Monte Carlo error.

`reference/pyro_nuts.npz` holds the outputs of Pyro's own run on `to_pyro()`, made by `reference/make_pyro_nuts.py`, and
`reference/nuts_*.npz` those of `bp.samplers.NUTS`, made by `reference/make_nuts.py`. The scripts define the problems.
"""

import importlib.util
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from scipy import optimize, stats

import bnnpriors as bp
from bnnpriors import samplers as S
from bnnpriors.evaluation import SamplePredictive

REFERENCE = Path(__file__).parent / "reference"
LIMIT = 6.0
OPTIONS = {"progress": False, "compile": False, "chunk_size": 32}
CHAINS, PIECE = 32, 50
"""Chains of our runs, and draws of a piece of a chain of NUTS, whose draws are nearly independent: it counts as a chain."""
TUNED = {"momentum_decay": 0.8, "steps_per_test": 5, "target_acceptance": 0.8}
HMC = S.HMC(step_size=0.1, num_steps=8)
EXACT = {
    "HMC": HMC,
    "HMC dense": S.HMC(step_size=0.1, num_steps=8, metric="dense", jitter=0.3),
    "GGMC": S.GGMC(step_size=0.1, **TUNED),
    "AMAGOLD": S.AMAGOLD(step_size=0.1, **TUNED),
    "ChEES": S.ChEES(step_size=0.1),
    "MCLMC": S.MCLMC(step_size=0.1, steps_per_test=8),
    "ReplicaExchange": S.ReplicaExchange(HMC),
    "Cyclical": S.Cyclical(S.GGMC(step_size=0.1, momentum_decay=0.9, steps_per_test=5), 10),
}
LANGEVIN = {name: getattr(S, name) for name in ("BAOAB", "OBABO", "SGHMC", "SGNHT", "GGMC")}
STEPS = {"classes": 0.15, "sparse": 0.03}
BIASED = {
    **{f"{name}, untested": lambda h, kind=kind: kind(step_size=h, momentum_decay=0.9) for name, kind in LANGEVIN.items()},
    "MCLMC, untested": lambda h: S.MCLMC(step_size=0.7 * h, energy_variance=None),
    "Layerwise, untested": lambda h: S.Layerwise(S.BAOAB(step_size=h, momentum_decay=0.9), every=20),
    "SGLD": lambda h: S.SGLD(step_size=h),
    "PSGLD": lambda h: S.PSGLD(step_size=0.25 * h),
}  # fmt: skip
ALLOWED = 0.1
"""Of a standard deviation, by which samplers without a Metropolis test may be off."""


def _script(name):
    spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _problem(name):
    """A problem, its test inputs, the predictive of the reference, and a run that others start at."""
    script = _script("make_nuts")
    posterior, x = script.PROBLEMS[name]()
    found = np.load(REFERENCE / f"nuts_{name}.npz")
    assert found["rhat"] < 1.01
    assert found["ess"] > 1000
    outputs = found["outputs"].astype(float) + found["mean"]
    latents = {k: found[k] for k in found.files if k not in ("outputs", "mean", "rhat", "ess")}
    reference = _predictive(outputs, posterior.likelihood, latents)
    start = bp.sample(posterior, HMC, num_samples=1, num_warmup=100, num_chains=CHAINS, seed=1, **OPTIONS)
    return script, posterior, x, reference, start


def _predictive(outputs, likelihood, latents, piece=PIECE):
    """Of a run [chains, draws, ...], its chains cut into pieces."""
    flat = torch.from_numpy(outputs).double().flatten(0, 1)
    own = {name: torch.from_numpy(value).double().flatten(0, 1) for name, value in latents.items()}
    return SamplePredictive(flat, likelihood, own, num_chains=len(flat) // piece)


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


def chance_limit(chains: int, alarm: float = 1e-8) -> float:
    """What the ratio of total variation and `chance` exceeds with probability `alarm` at most, where the law is the same.

    The ratio is a weighted mean of √(π/2)|t| over cells, t of Student's law with chains − 1 degrees of freedom or more, however
    the cells depend on each other, and P(mean of |t| > r) ≤ E (|t| − s)₊/(r − s) for every s < r.
    """
    df = chains - 1

    def log_bound(s: float, r: float) -> float:
        excess = 2 * (stats.t.pdf(s, df) * (df + s**2) / (df - 1) - s * stats.t.sf(s, df))
        return math.log(excess) - math.log(r - s)

    def least(r: float) -> float:
        found = optimize.minimize_scalar(lambda s: log_bound(s, r), bounds=(0.0, 0.98 * r), method="bounded")
        return found.fun - math.log(alarm)

    return math.sqrt(math.pi / 2) * optimize.brentq(least, 2.0, 50.0)


def _ratio(draws, reference, x):
    """Total variation over what chance makes of it, over its limit."""
    ours = draws if isinstance(draws, SamplePredictive) else draws.predict(x)
    found = bp.compare(ours, reference)
    assert found.chance < 0.03, "too few effective draws to tell"
    return found.total_variation / found.chance / chance_limit(min(ours.num_chains, reference.num_chains))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "chains", "draws"),
    [(S.HMC(step_size=0.05, num_steps=25), CHAINS, 250), (S.NUTS(step_size=0.05, max_tree_depth=5), 4, 80)],
    ids=["HMC", "NUTS"],
)
def test_predictions_agree_with_pyro_nuts(sampler, chains, draws):
    """Of the function, seen through noise of one scale; the run of Pyro is another's program from the density on."""
    model, likelihood, x, y, x_test = _script("make_pyro_nuts").problem()
    posterior, noise = bp.Posterior(model, likelihood, x, y), bp.likelihoods.Gaussian(0.2)
    run = bp.sample(
        posterior, sampler, num_samples=draws, num_warmup=100, num_chains=chains, seed=1, **OPTIONS
    )
    outputs = run.predict(x_test).outputs_by_chain().numpy()
    expected = np.load(REFERENCE / "pyro_nuts.npz")["predictions"].astype(float)
    ours = _predictive(outputs, noise, {}, PIECE if chains == CHAINS else 20)
    assert _ratio(ours, _predictive(expected[..., None], noise, {}), x_test) < 1
    if chains == CHAINS:  # the draws of four chains are too few for moments
        centre = expected.mean((0, 1))
        _assert_agree(outputs[..., 0] - centre, expected - centre)


@pytest.mark.slow
@pytest.mark.parametrize("problem", STEPS)
@pytest.mark.parametrize("name", [*EXACT, *BIASED])
def test_predictions_agree_with_the_reference(problem: str, name: str):
    """Those with a Metropolis test exactly; the others at a step size that leaves an error below what `compare` sees, and below
    a tenth of a standard deviation."""
    script, posterior, x, reference, start = _problem(problem)
    options = {"num_chains": CHAINS, "seed": 1, "num_warmup": 100, "init": start, **OPTIONS}
    if name == "ReplicaExchange":
        ladder = [factor * posterior.temperatures[0] for factor in (1, 2)]
        data = posterior.data
        posterior = bp.Posterior(posterior.model, posterior.likelihood, data.x, data.y, temperature=ladder)
        options["init"] = "prior"
    if name in EXACT:
        draws = bp.sample(posterior, EXACT[name], num_samples=80, **options)
    else:
        is_overdamped = name in ("SGLD", "PSGLD")
        sampler = BIASED[name](STEPS[problem])
        draws = bp.sample(posterior, sampler, num_samples=80, thin=25 if is_overdamped else 8, **options)
    draws = draws.at_temperature(posterior.temperatures[0])
    assert _ratio(draws, reference, x) < 1
    ours, theirs = (
        script.predictions(outputs.numpy())
        for outputs in (draws.predict(x).outputs_by_chain(), reference.outputs.unflatten(0, (4, -1)))
    )
    centre = theirs.mean((0, 1))
    _assert_agree(ours - centre, theirs - centre, 0.0 if name in EXACT else ALLOWED)


@pytest.mark.slow
def test_another_temperature_does_not_agree():
    """What the total variation sees: the law at three times the temperature. Moments see less."""
    _, posterior, x, reference, _ = _problem("sparse")
    hot = 3 * posterior.temperatures[0]
    data = posterior.data
    other = bp.Posterior(posterior.model, posterior.likelihood, data.x, data.y, temperature=hot)
    options = {"num_warmup": 100, "num_chains": CHAINS, "seed": 1, **OPTIONS}
    assert _ratio(bp.sample(other, HMC, num_samples=50, **options), reference, x) > 1


def test_the_limit_of_chance():
    """Of one cell it is that of |t|, but for the bound; more chains know the errors better."""
    assert math.sqrt(math.pi / 2) * stats.t.isf(5e-9, 31) < chance_limit(32) < 11
    assert chance_limit(1000) < chance_limit(32) < chance_limit(16)


def test_every_sampler_of_the_full_data_is_compared():
    compared = {name.split(",")[0].split()[0] for name in (*EXACT, *BIASED)} | {"NUTS"}
    assert compared == set(S.__all__) - {"MAP", "SWAG", "Sampler"}


def test_the_references_are_small():
    assert sum(path.stat().st_size for path in REFERENCE.glob("*.npz")) < 2e6
