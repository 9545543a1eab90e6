"""`check_prior`: sound priors pass, and each planted fault is found by the check that is there for it."""

from __future__ import annotations

import inspect
import math

import pyro
import pytest
import torch
from torch import distributions as D

from bnnpriors import priors as P
from bnnpriors.checks import CheckError, check_prior
from bnnpriors.checks.interface import check_state_dict
from bnnpriors.checks.laws import check_hmc
from bnnpriors.checks.prior import PRIOR_CHECKS
from bnnpriors.checks.subject import Subject

from .faulty import FAULTS, DetachedGradient, Sound, WrongScale

ABSTRACT = (P.Prior, P.LocationScale)
# Exported classes are checked as they are by default; these need arguments, or have other forms that are worth a check.
EXAMPLES: dict[str, object] = {
    "Normal, fan-in": P.Normal(0.3, P.fan_in()),
    "Normal, a scale for each unit": P.Normal(torch.tensor([0.0, 5.0]), torch.tensor([[0.1], [1.0], [30.0]])),
    "StudentT, heavy": P.StudentT(0.7, 0.0, 0.5),
    "Gamma, singular at zero": P.Gamma(0.4, 3.0),
    "Laplace, non-centred": P.Laplace(1.0, 2.0, centred=False),
    "two levels": P.Normal(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0))),
    "all parameters learnt": P.StudentT(P.Gamma(4.0, 1.0), P.Normal(0.0, 3.0), P.HalfNormal(), centred=False),
    "Distribution": P.Distribution(D.Uniform(-2.0, 3.0)),
    "torch, correlated": D.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])),
    "Mixture": P.Mixture([P.Normal(0.0, 0.5), P.StudentT(3.0, 1.0, 2.0)]),
    "Mixture, learnt weights": P.Mixture([P.Normal(-1.0, 0.5), P.Laplace(1.0, 2.0)], P.Dirichlet(2.0)),
    "Mixture, one component for the tensor": P.Mixture(
        [P.Normal(0.0, 0.5), P.Normal(1.0, 2.0)], selection="tensor"
    ),
    "ScaleMixture": P.ScaleMixture([0.1, 1.0], [0.7, 0.3]),
    "ScaleMixture, non-centred": P.ScaleMixture([0.1, 1.5], [0.7, 0.3], centred=False),
    "spike and slab, learnt": P.ScaleMixture([0.05, P.HalfNormal(1.0)], P.Dirichlet(1.0)),
    "a scale for each input": P.Normal(0.0, P.HalfCauchy(1.0).per("input"), centred=False),
    "a scale for each output": P.Normal(0.0, P.InverseGamma(3.0, 1.0).per("output")),
    "Horseshoe for units": P.Horseshoe(0.5, groups="output"),
    "CorrelatedNormal, learnt": P.CorrelatedNormal(P.HalfNormal(1.0), "matern32", P.LogNormal(0.0, 0.5)),
    "CorrelatedStudentT, rbf": P.CorrelatedStudentT(4.0, 0.5, "rbf", 1.0),
    "matched variance": P.Laplace(0.0, 0.5, matched="variance"),
    "Pyro": pyro.distributions.LogNormal(-1.0, 0.2),
}


def _exported() -> dict[str, type[P.Prior]]:
    kinds = {name: getattr(P, name) for name in P.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, P.Prior) and kind not in ABSTRACT
    }


def _has_defaults(kind: type[P.Prior]) -> bool:
    return all(
        parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in inspect.signature(kind).parameters.values()
    )  # fmt: skip


FAMILIES = {name: kind() for name, kind in _exported().items() if _has_defaults(kind)} | EXAMPLES


def test_every_exported_family_is_in_the_list() -> None:
    assert set(_exported()) <= {type(P.as_prior(prior)).__name__ for prior in FAMILIES.values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes(name: str) -> None:
    check_prior(FAMILIES[name]).raise_if_failed()


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
    with pytest.raises(ValueError, match="cannot change its shape"):
        check_state_dict(Subject(P.as_prior(D.Dirichlet(torch.ones(3))), (2, 3), 0))


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes_where_there_is_an_accelerator(name: str) -> None:
    finding = check_prior(FAMILIES[name])["dtype and device"]
    assert finding.holds
    assert "CUDA" in finding.figure
