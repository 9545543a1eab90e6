"""Simulation-based calibration of HMC under every family of priors that can be on a weight, and faults that it must see.

False-alarm rate: 1e-6 for the whole list, divided over its priors and over the quantities of each.
"""

from __future__ import annotations

import pytest

from bnnpriors import priors as P
from bnnpriors.checks.subject import Subject

from ..families import FAMILIES, NO_DISTRIBUTIONS
from .calibration import calibrate
from .targets import Refusing

SUBJECTS = {name: Subject(P.as_prior(prior), None, 0) for name, prior in FAMILIES.items()}
ATTACHED = {
    name: subject
    for name, subject in SUBJECTS.items()
    if not subject.is_hyperprior and not isinstance(subject.prior, NO_DISTRIBUTIONS)
}
LEVEL = 1e-6 / len(ATTACHED)


def test_every_family_is_on_a_weight_or_above_one() -> None:
    """What is not on the list of calibrated priors is in a prior on it, or is no distribution."""
    attached = {type(site.prior) for subject in ATTACHED.values() for site in subject.site.walk()}
    left = {type(subject.prior) for subject in SUBJECTS.values()} - attached
    assert left == set(NO_DISTRIBUTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACHED)
def test_every_family_is_calibrated(name: str) -> None:
    subject = ATTACHED[name]
    result = calibrate(subject.prior, subject.shape)
    assert result.acceptance > 0.5
    assert result.persistence < 0.9, "the chains hardly moved, so they prove nothing"
    assert min(result.pvalues().values()) > LEVEL, result.pvalues()


class WideDraws(P.Normal):
    """Draws 1.3 times as wide as the density says."""

    def sample(self, shape, **options):
        return 1.3 * super().sample(shape, **options)


class WithoutJacobian(P.Gamma):
    """Its density takes away the Jacobian of s = e^u that the library adds."""

    def log_prob(self, w):
        return super().log_prob(w) - w.log()


class WithoutLogScale(P.Normal):
    """Forgets −log scale, which matters where the scale is learnt."""

    def log_prob(self, w):
        return -0.5 * (w / self.scale) ** 2


FAULTS = {
    "draws of the prior too wide": (WideDraws(), 1.0, "the log prior"),
    "no Jacobian of a hyperprior": (P.Normal(0.0, WithoutJacobian(2.0, 1.0)), 1.0, "0.weight.scale"),
    "no log scale": (WithoutLogScale(0.0, P.Gamma(2.0, 1.0)), 1.0, "0.weight.scale"),
    "noise of the data too large": (P.Normal(), 1.4, "the log likelihood"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_seen(name: str) -> None:
    prior, noise, quantity = FAULTS[name]
    assert calibrate(prior, (3, 2), noise=noise).pvalues()[quantity] < LEVEL


def test_the_same_without_the_faults_is_calibrated() -> None:
    assert min(calibrate(P.Normal(0.0, P.Gamma(2.0, 1.0)), (3, 2)).pvalues().values()) > LEVEL


def test_chains_that_never_move_are_calibrated_but_known() -> None:
    """Values that repeat are ties, broken at random."""
    result = calibrate(P.Normal(), (3, 2), streams_type=Refusing)
    assert min(result.pvalues().values()) > LEVEL
    assert result.persistence == pytest.approx(1.0)
