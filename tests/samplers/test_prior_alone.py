"""Without data every sampler leaves the prior as it is: its own quantiles, from its own draws."""

import pytest
import torch
from scipy import stats

import bnnpriors as bp
from bnnpriors.samplers import AMAGOLD, BAOAB, GGMC, HMC, SGHMC, SGLD, SGNHT, ChEES, Cyclical, Layerwise

from .targets import Pooled, prior_alone, run, target_of

CHAINS = 4000
ALARM = 1e-6
PRIORS = {
    "Normal": (bp.priors.Normal(0.5, 2.0), stats.norm(0.5, 2.0)),
    "StudentT": (bp.priors.StudentT(3.0, 0.0, 1.0), stats.t(3.0)),
    "Laplace": (bp.priors.Laplace(-1.0, 0.7), stats.laplace(-1.0, 0.7)),
    "Logistic": (bp.priors.Logistic(0.3, 0.6), stats.logistic(0.3, 0.6)),
    "GeneralizedNormal": (bp.priors.GeneralizedNormal(0.0, 1.5, 1.5), stats.gennorm(1.5, 0.0, 1.5)),
    "Uniform, its latent": (bp.priors.Uniform(-1.0, 2.0), stats.norm()),
    "LogNormal, its latent": (bp.priors.LogNormal(-1.0, 1.2), stats.norm(-1.0, 1.2)),
    "non-centred": (bp.priors.Laplace(-1.0, 0.7, centred=False), stats.laplace(0.0, 1.0)),
}
SAMPLERS = {
    "HMC": HMC(step_size=0.6, num_steps=4),
    "ChEES tested": ChEES(step_size=0.6, num_steps=6),
    "GGMC tested": GGMC(step_size=0.7, momentum_decay=0.7, steps_per_test=3),
    "GGMC": GGMC(step_size=0.15, momentum_decay=0.9),
    "SGLD": SGLD(step_size=0.15),
    "SGHMC": SGHMC(step_size=0.15),
    "BAOAB": BAOAB(step_size=0.15),
    "SGNHT": SGNHT(step_size=0.15),
    "AMAGOLD tested": AMAGOLD(step_size=0.5, momentum_decay=0.7, steps_per_test=3),
    "Cyclical": Cyclical(SGHMC(step_size=0.2), cycle_length=15),
    "Layerwise tested": Layerwise(GGMC(step_size=0.7, momentum_decay=0.7, steps_per_test=3)),
}

FOR_ALL = ("Normal", "StudentT", "non-centred")
"""Priors that every sampler meets; HMC, GGMC and SGLD meet the others too."""


@pytest.mark.parametrize(
    ("sampler", "prior"),
    [(s, p) for s in SAMPLERS for p in PRIORS if p in FOR_ALL or s.split()[0] in ("HMC", "GGMC", "SGLD")],
)
def test_quantiles(prior, sampler):
    """A Kolmogorov–Smirnov test of the chains' last states, alarm 1e-6."""
    given, exact = PRIORS[prior]
    posterior = prior_alone(given)
    theta = prior_alone(given, dim=CHAINS).sample_prior(torch.Generator().manual_seed(2))[:, None]
    steps = 40 if "tested" in sampler or sampler == "HMC" else 120
    last, _ = run(
        SAMPLERS[sampler], target_of(posterior, CHAINS), theta, Pooled(0, CHAINS), steps=1, skip=steps
    )
    moved = (last[0] - theta)[:, 0].abs().median()
    assert moved > 0.3 * exact.std() / 2, "the chains hardly moved, so they prove nothing"
    assert stats.kstest(last[0, :, 0].numpy(), exact.cdf).pvalue > ALARM


def test_wrong_temperature_is_seen():
    """At T = 2 the Normal prior's variance doubles, which the test above would report."""
    posterior = prior_alone(bp.priors.Normal(0.5, 2.0), temperature=2.0)
    theta = torch.full((CHAINS, 1), 0.5, dtype=torch.float64)
    last, _ = run(SAMPLERS["HMC"], target_of(posterior, CHAINS), theta, Pooled(0, CHAINS), steps=1, skip=60)
    values = last[0, :, 0].numpy()
    assert stats.kstest(values, PRIORS["Normal"][1].cdf).pvalue < ALARM
    assert stats.kstest(values, stats.norm(0.5, 2.0 * 2**0.5).cdf).pvalue > ALARM


def test_likelihood_tempering_leaves_the_prior():
    """Without data tempering="likelihood" has nothing to temper."""
    posterior = prior_alone(bp.priors.Normal(0.5, 2.0), temperature=2.0, tempering="likelihood")
    theta = torch.full((CHAINS, 1), 0.5, dtype=torch.float64)
    last, _ = run(SAMPLERS["HMC"], target_of(posterior, CHAINS), theta, Pooled(0, CHAINS), steps=1, skip=60)
    assert stats.kstest(last[0, :, 0].numpy(), PRIORS["Normal"][1].cdf).pvalue > ALARM
