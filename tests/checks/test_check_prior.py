"""`check_prior`: sound priors pass, and each planted fault is found by the check that is there for it."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import distributions as D

from bnnpriors import priors as P
from bnnpriors.checks import CheckError, check_prior
from bnnpriors.checks.laws import check_draws, check_hmc
from bnnpriors.checks.prior import PRIOR_CHECKS
from bnnpriors.checks.subject import Subject
from bnnpriors.priors.table import families

from ..families import FAMILIES, NO_DISTRIBUTIONS
from .faulty import FAULTS, DetachedGradient, Sound, WrongScale

UNDRAWN = {"support", "seeds", "normalisation", "draws follow the density", "HMC on the prior alone"}
"""What cannot be judged of a prior that is no distribution."""


def test_every_row_of_the_table_of_families_is_in_the_list() -> None:
    assert set(families()) <= {type(P.as_prior(prior)) for prior in FAMILIES.values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes(name: str) -> None:
    prior = P.as_prior(FAMILIES[name])
    report = check_prior(prior)
    report.raise_if_failed()
    unjudged = {finding.name for finding in report.findings if finding.holds is None}
    expected = UNDRAWN if isinstance(prior, NO_DISTRIBUTIONS) else set()
    if prior.centred and "centred" not in inspect.signature(type(prior)).parameters:
        expected = expected | {"non-centred form"}
    assert unjudged == expected


class Taps(P.Prior):
    """Multivariate Student-t over the taps of each filter: R_{pp'} = exp(−‖p − p'‖), df ν."""

    def __init__(self, df: float) -> None:
        self.df = df

    def _factor(self, side: int) -> torch.Tensor:
        place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
        return torch.linalg.cholesky(torch.exp(-torch.cdist(place, place)))

    def log_prob(self, w):
        factor, taps = self._factor(w.shape[-1]).to(w), w.shape[-1] ** 2
        z = torch.linalg.solve_triangular(factor, w.flatten(-2)[..., None], upper=False)[..., 0]
        half = (self.df + taps) / 2
        constant = math.lgamma(half) - math.lgamma(self.df / 2) - taps / 2 * math.log(self.df * math.pi)
        kernel = half * torch.log1p((z**2).sum(-1) / self.df)
        return constant - factor.diagonal().log().sum() - kernel

    def sample(self, shape, *, generator=None):
        factor, taps = self._factor(shape[-1]), shape[-1] ** 2
        z = torch.randn((*shape[:-2], taps), generator=generator, dtype=torch.float64) @ factor.T
        half = torch.full((*shape[:-2], 1), self.df / 2, dtype=torch.float64)
        chi2 = 2 * torch._standard_gamma(half, generator=generator)
        return (z * (self.df / chi2).sqrt()).reshape(shape)


class TapsOfAnotherTail(Taps):
    """Draws with half the degrees of freedom of the density."""

    def sample(self, shape, *, generator=None):
        return Taps(self.df / 2).sample(shape, generator=generator)


def test_a_correlated_prior_on_a_convolution_passes_and_a_wrong_tail_is_seen() -> None:
    report = check_prior(Taps(4.0), shape=(2, 1, 3, 3))
    report.raise_if_failed()
    assert "±" in report["normalisation"].figure
    wrong = check_prior(TapsOfAnotherTail(4.0), shape=(1, 1, 3, 3))
    assert [finding.name for finding in wrong.failures] == ["draws follow the density"]


def test_every_check_has_its_fault() -> None:
    assert list(FAULTS) == [check.name for check in PRIOR_CHECKS]


@pytest.mark.parametrize(
    ("name", "prior"),
    [(name, prior) for name, priors in FAULTS.items() for prior in priors],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_fault_is_found_by_its_own_check(name: str, prior: P.Prior) -> None:
    report = check_prior(prior)
    assert [finding.name for finding in report.failures] == [name]
    assert not report.passed
    with pytest.raises(CheckError, match=name):
        report.raise_if_failed()


class WrongParts(P.Dirichlet):
    """Draws of Dirichlet(2) under the density of Dirichlet(1)."""

    def sample(self, shape, **options):
        return P.Dirichlet(2.0).sample(shape, **options)


def test_a_prior_that_can_only_be_a_hyperprior_is_judged_as_one() -> None:
    """Its values and draws are its own; its model, saved and sampled, has it as the hyperparameter of a tensor."""
    report = check_prior(P.Dirichlet(P.Gamma(4.0, 2.0)), shape=(3,))
    assert str(report).startswith(
        f"{P.Dirichlet(P.Gamma(4.0, 2.0))!r} as a hyperprior, on values of shape (3,)"
    )
    report.raise_if_failed()
    assert report["state_dict"].figure.startswith("3 entries saved and loaded")
    wrong = check_prior(WrongParts())
    assert [finding.name for finding in wrong.failures] == ["draws follow the density"]
    assert not check_hmc(Subject(WrongParts(), (3, 2), 0))[0]


def test_extremes_of_a_positive_value_are_its_own() -> None:
    """A latent of 1e8 would be a scale of e^1e8: the non-centred form is tried at the values that the centred one is."""
    for centred in (True, False):
        report = check_prior(P.HalfCauchy(2.0, centred=centred), shape=(2,))
        assert report["extreme values"].holds


def test_hmc_alone_sees_draws_that_do_not_follow_the_density() -> None:
    assert check_hmc(Subject(Sound(), (3, 2), 0))[0]
    holds, figure = check_hmc(Subject(WrongScale(), (3, 2), 0))
    assert not holds
    assert "≤" in figure


class DensityAlone(P.Prior):
    def log_prob(self, w):
        return -0.5 * w**2 - 0.5 * math.log(2 * math.pi)


def test_a_density_without_draws_is_judged_as_far_as_it_goes() -> None:
    report = check_prior(DensityAlone())
    report.raise_if_failed()
    assert report["normalisation"].holds
    for name in ("support", "seeds", "draws follow the density", "HMC on the prior alone"):
        assert report[name].holds is None
        assert "no sample" in report[name].figure


def test_improper_says_why_a_check_does_not_apply() -> None:
    report = check_prior(P.Improper())
    assert report.passed
    for name in ("normalisation", "draws follow the density", "HMC on the prior alone"):
        assert report[name].verdict == "not applicable"
        assert "Improper is no distribution" in report[name].figure


def test_the_report_can_be_read_and_asserted() -> None:
    report = check_prior(DetachedGradient())
    lines = str(report).splitlines()
    assert lines[0] == "DetachedGradient() on a tensor of shape (3, 2): 11 hold, 1 fail, 1 not applicable"
    assert len(lines) == 1 + len(PRIOR_CHECKS)
    assert next(line for line in lines if line.startswith("gradient")).split()[1] == "FAILS"
    with pytest.raises(CheckError, match=r"gradient: largest relative error .* allowed 1e-05"):
        report.raise_if_failed()
    with pytest.raises(KeyError, match="expected one of"):
        report["speed"]
    check_prior(Sound()).raise_if_failed()


class Validating(P.Prior):
    """A user's prior whose density is that of a torch distribution, which refuses values outside its support, and NaN."""

    def __init__(self, kind: type[D.Distribution], support: D.constraints.Constraint) -> None:
        self.kind, self.support = kind, support

    def log_prob(self, w: torch.Tensor) -> torch.Tensor:
        return self.kind(*torch.tensor([2.0, 1.5], dtype=w.dtype), validate_args=True).log_prob(w)

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return self.kind(*torch.tensor([2.0, 1.5], dtype=torch.float64)).sample(shape)


@pytest.mark.parametrize(
    ("kind", "support"),
    [
        (D.Normal, D.constraints.real),
        (D.Gamma, D.constraints.positive),
        (D.Beta, D.constraints.unit_interval),
    ],
)
def test_a_prior_that_refuses_nan_passes(
    kind: type[D.Distribution], support: D.constraints.Constraint
) -> None:
    """Far out on rays the quadrature's points overflow: they are not the prior's business."""
    holds, figure = check_draws(Subject(Validating(kind, support), (2,), 0))
    assert holds, figure


def test_a_check_that_needs_a_failed_one_says_so() -> None:
    report = check_prior(WrongScale())
    assert (
        report["HMC on the prior alone"].figure == "cannot be judged while 'draws follow the density' fails"
    )


def test_reports_repeat_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first = check_prior(Sound(), shape=(), seed=3)
    assert str(first) == str(check_prior(Sound(), shape=(), seed=3))
    assert str(first) != str(check_prior(Sound(), shape=(), seed=4))
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a prior"):
        check_prior(Sound)
    with pytest.raises(ValueError, match=r"fits none of the shapes .*pass shape="):
        check_prior(P.Normal(torch.zeros(7), 1.0))
    with pytest.raises(ValueError, match="seed -1 given"):
        check_prior(Sound(), seed=-1)
    with pytest.raises(ValueError, match=r"shape \(3, 0\) given, expected positive lengths"):
        check_prior(Sound(), shape=(3, 0))
    with pytest.raises(ValueError, match="last dimensions"):
        check_prior(D.MultivariateNormal(torch.zeros(2), torch.eye(2)), shape=(3,))


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes_where_there_is_an_accelerator(name: str) -> None:
    finding = check_prior(FAMILIES[name])["dtype and device"]
    assert finding.holds
    assert "CUDA" in finding.figure
