"""`check_sampler`: our samplers pass, and each planted fault is found by the check that is there for it."""

from __future__ import annotations

import math
import re
from functools import cache

import pytest
import torch

from bnnpriors import samplers
from bnnpriors.checks import CheckError, Report, chains, check_sampler
from bnnpriors.checks.chains import Subject, _functions, _names
from bnnpriors.checks.densities import Banana, DoubleWell, Funnel, Gaussian, Harmonic, Law, Mean
from bnnpriors.checks.equilibrium import LEVEL
from bnnpriors.checks.geweke import Network
from bnnpriors.checks.known import TEMPERATURES, Known, Pooled
from bnnpriors.checks.report import run_checks
from bnnpriors.checks.sampler import SAMPLER_CHECKS
from bnnpriors.samplers import (
    AMAGOLD,
    BAOAB,
    GGMC,
    HMC,
    MAP,
    MCLMC,
    NUTS,
    OBABO,
    PSGLD,
    SGHMC,
    SGLD,
    SGNHT,
    SWAG,
    ChEES,
    Cyclical,
    Layerwise,
    ReplicaExchange,
    Sampler,
)

from ..samplers.targets import quartic_moments
from .faulty_samplers import FAULTS, HalfTheNoise, WithoutFlip

LAWS = {
    law.__class__.__name__: law for law in (Gaussian(), DoubleWell(), Funnel(), Banana(), Mean(), Network())
}
SOUND: dict[str, tuple[Sampler, set[str]]] = {
    "SGLD": (SGLD(), {"time reversal", "volume", "order of minibatches"}),
    "GGMC": (GGMC(), {"order of minibatches"}),
    "GGMC tested": (GGMC(step_size=0.3, steps_per_test=4), {"harmonic"}),
    "HMC": (HMC(num_steps=5), {"harmonic", "minibatches", "order of minibatches"}),
    "HMC dense": (
        HMC(num_steps=5, metric="dense"),
        {"chains", "harmonic", "minibatches", "order of minibatches"},
    ),
    "ChEES": (ChEES(num_steps=10), {"chains", "harmonic", "minibatches", "order of minibatches"}),
    "MCLMC": (
        MCLMC(energy_variance=None),
        {"volume", "harmonic", "double well", "minibatches", "order of minibatches"},
    ),
    "MCLMC tested": (
        MCLMC(steps_per_test=4),
        {"volume", "harmonic", "double well", "minibatches", "order of minibatches"},
    ),
    "SGHMC": (SGHMC(), {"time reversal", "order of minibatches"}),
    "BAOAB": (BAOAB(), {"order of minibatches"}),
    "OBABO": (OBABO(), {"order of minibatches"}),
    "SGNHT": (SGNHT(), {"harmonic", "order of minibatches"}),
    "PSGLD": (PSGLD(), {"time reversal", "volume", "harmonic", "order of minibatches"}),
    "AMAGOLD": (AMAGOLD(), {"harmonic"}),
    "Cyclical": (Cyclical(SGHMC(), 40), {"time reversal", "harmonic", "order of minibatches"}),
    "Cyclical, tested": (Cyclical(GGMC(steps_per_test=3), 20), {"harmonic"}),
    "Cyclical, tuned": (
        Cyclical(HMC(num_steps=5), 20),
        {"harmonic", "minibatches", "order of minibatches"},
    ),
    "Layerwise": (Layerwise(BAOAB(), every=20), {"harmonic", "order of minibatches"}),
    "ReplicaExchange": (
        ReplicaExchange(GGMC(step_size=0.3, steps_per_test=3), every=2),
        {"chains", "harmonic"},
    ),
    "NUTS": (
        NUTS(),
        {"time reversal", "volume", "harmonic", "minibatches", "order of minibatches"},
    ),
    "Layerwise, tested": (Layerwise(AMAGOLD(steps_per_test=3), every=20), {"harmonic"}),
}
"""Each sampler, and what does not apply to it."""
FULL = ("GGMC", "HMC")
"""Those that are checked with as many chains and steps as a user's; the others with an eighth of the work."""


def one(name: str, sampler: Sampler, seed: int = 0) -> Report:
    """The report of one check alone."""
    check = next(check for check in SAMPLER_CHECKS if check.name == name)
    return run_checks(Subject(sampler, seed, None, None), "", [check._replace(needs=())])


@cache
def whole(name: str) -> Report:
    return check_sampler(SOUND[name][0])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "NUTS" else n for n in SOUND]
)
def test_our_samplers_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name not in FULL:
        monkeypatch.setattr(chains, "CHAINS", 400)
        monkeypatch.setattr(chains, "UPDATES", 250)
    report, unjudged = whole(name), SOUND[name][1]
    report.raise_if_failed()
    assert {finding.name for finding in report.findings if finding.holds is None} == unjudged


def test_every_sampler_is_in_the_list() -> None:
    """But for the baselines, which have no law."""
    kinds = {type(sampler).__name__ for sampler, _ in SOUND.values()}
    assert kinds == set(samplers.__all__) - {"MAP", "SWAG", "Sampler"}


def test_every_check_has_its_fault() -> None:
    assert list(FAULTS) == [check.name for check in SAMPLER_CHECKS]


@pytest.mark.parametrize(
    ("name", "sampler"),
    [(name, sampler) for name, faulty in FAULTS.items() for sampler in faulty],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_fault_is_found(name: str, sampler: Sampler) -> None:
    assert [finding.name for finding in one(name, sampler).failures] == [name]


def test_a_fault_is_found_at_any_step_size_and_named() -> None:
    """The laws are stretched to the sampler's steps."""
    for step_size in (1e-6, 30.0):
        assert one("banana", WithoutFlip(step_size=step_size, steps_per_test=4)).failures
        assert one("Gaussian", HalfTheNoise(step_size=step_size)).failures
        assert one("Gaussian", SGLD(step_size=step_size)).passed
    with pytest.raises(
        CheckError, match=r"Gaussian: .* at half the step size .*, allowed 0\.62 of the first"
    ):
        one("Gaussian", HalfTheNoise()).raise_if_failed()


def test_an_uncorrected_sampler_that_is_called_exact_fails() -> None:
    sampler = SGLD()
    check = next(check for check in SAMPLER_CHECKS if check.name == "banana")
    assert run_checks(Subject(sampler, 0, None, None), "", [check]).passed
    assert run_checks(Subject(sampler, 0, True, None), "", [check]).failures


def test_no_more_comparisons_than_the_false_alarm_rate_is_divided_by() -> None:
    """1e-6 over comparisons of 5e-9: functions of the positions, and Kolmogorov–Smirnov tests."""
    laws = [*LAWS.values(), DoubleWell(), Harmonic(1.0)]
    calibration = 3 * len(Network.measured)
    assert sum(len(_names(law)) + len(law.names) for law in laws) + calibration <= 1e-6 / LEVEL


@pytest.mark.parametrize("name", LAWS)
def test_draws_of_a_law_have_uniform_positions_and_its_density(name: str) -> None:
    """The positions of 100,000 draws, at 5.2 standard errors, a false-alarm rate of 2e-7 each. And with Φ⁻¹ of the positions z,
    −U(x) − Σ log φ(z) − log |det dz/dx| is the same at every x: the potential belongs to the law."""
    law, generator = LAWS[name], torch.Generator().manual_seed(0)
    x = law.draw(100_000, generator)
    functions = _functions(law.positions(x))
    assert functions.shape[1] == len(_names(law))
    error = functions.std(0) / len(x) ** 0.5
    assert (functions.mean(0).abs() < 5.2 * error).all()
    if isinstance(law, Network):
        return
    constants = []
    for point in x[:20]:
        at = point[None]
        jacobian = torch.autograd.functional.jacobian(lambda t: torch.special.ndtri(law.positions(t))[0], at)[
            :, 0
        ]
        white = torch.special.ndtri(law.positions(at))
        volume = torch.linalg.slogdet(jacobian)[1]
        constants.append(float(law.potential(at) - 0.5 * (white**2).sum() + volume))
    assert max(constants) - min(constants) < 2e-3


def test_the_double_well_is_that_of_the_specification() -> None:
    x = DoubleWell().draw(400_000, torch.Generator().manual_seed(0))
    mean, square = quartic_moments(1.0)
    assert abs(float(x.mean()) - mean) < 0.01
    assert abs(float((x**2).mean()) - square) < 0.02


def test_the_network_is_a_posterior_of_its_data() -> None:
    """−log p(y | z) of N(f, ½²), and data that are drawn with that noise."""
    law, generator = Network(), torch.Generator().manual_seed(0)
    z = law.draw(20_000, generator)
    residual = (law.data - law.outputs(z)) / 0.5
    expected = 0.5 * (z**2).sum(1) + 0.5 * (residual**2).sum(1)
    torch.testing.assert_close(law.potential(z), expected)
    assert abs(float(residual.std()) - 1) < 0.02


@pytest.mark.parametrize("law", [Mean(), DoubleWell()], ids=["mean", "double well"])
def test_minibatches_of_a_law_are_unbiased(law: Law) -> None:
    """The mean of the estimate over all minibatches of one is the potential."""
    z = law.draw(5, torch.Generator().manual_seed(0))
    each = [law.potential(z, torch.full((5, 1), k)) for k in range(law.num_data)]
    torch.testing.assert_close(torch.stack(each).mean(0), law.potential(z))


def test_a_known_target_is_scaled_and_counts() -> None:
    """θ = s√T z: the gradient is √T/s times that in z, by central differences of the potential."""
    law, scale = Banana(), 3.0
    target = Known(law, 4, scale)
    assert target.temperature.tolist() == [*TEMPERATURES, *TEMPERATURES]
    theta = target.start(torch.Generator().manual_seed(0))
    value, gradient = target.value_and_gradient(theta)
    torch.testing.assert_close(value, target.potential(theta))
    z = theta / (scale * target.temperature.sqrt()[:, None])
    torch.testing.assert_close(value, target.temperature * law.potential(z))
    shift = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    slope = (target.potential(theta + shift) - target.potential(theta - shift)) / 2e-5
    torch.testing.assert_close(gradient[:, 0], slope, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(target.gradient_estimate(theta, Pooled(0, 4)), gradient)
    assert target.counts == {"exact": 4, "estimates": 1}


def test_the_report_says_what_the_sampler_must_be() -> None:
    report = whole("GGMC")
    assert str(report).splitlines()[0].startswith("GGMC(momentum_decay=0.9, step_size=0.001")
    assert "which has an error that must vanish: 14 hold, 0 fail, 1 not applicable" in str(report)
    assert re.match(r"Var x = 1\.1\d+ T/k in closed form", report["harmonic"].figure)
    assert "without a Metropolis test" in report["order of minibatches"].figure


def test_reports_repeat_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (str(one("double well", HMC(num_steps=3), seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(before, torch.get_rng_state())


class Flattened(Law):
    """An eighth of another potential."""

    def __init__(self, law):
        self.law = law

    def potential(self, z, index=None):
        return self.law.potential(z, index) / 8


class Hot(NUTS):
    """Its trajectories are those at eight times the temperature."""

    def step(self, target, state, streams):
        hot = target.part(slice(None))
        hot.law = Flattened(target.law)
        return super().step(hot, state, streams)


class Miscounting(NUTS):
    """It takes more gradients than it says."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        return new, info | {"num_steps": info["num_steps"] // 2}


def test_faults_of_a_sampler_of_whole_transitions_are_found() -> None:
    """With 96 chains of 12 steps."""
    assert one("double well", Hot()).failures
    assert one("interface", Miscounting()).failures
    assert one("interface", NUTS()).passed


class Frictional(GGMC):
    """It has no limit without friction."""

    def frictionless(self):
        raise NotImplementedError("the friction is part of it")


def test_what_does_not_apply_says_why() -> None:
    assert "whole transition" in one("volume", NUTS())["volume"].figure
    for name in ("time reversal", "volume"):
        assert one(name, Frictional())[name].figure == "the friction is part of it"
        assert "no momentum" in one(name, SGLD())[name].figure


def test_a_scale_of_the_users_own() -> None:
    """Too short a law makes the error of SGLD large, and a long one small."""
    subject = Subject(SGLD(step_size=0.1), 0, None, 0.5)
    assert subject.scale(Banana()) == 0.5 * Banana.fineness
    found = Subject(SGLD(step_size=0.1), 0, None, None).scale(Harmonic(1.0))
    assert math.isclose(found, 0.1 / 0.4, rel_tol=0.1)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="expected an object with its settings"):
        check_sampler(SGLD)
    for baseline in (MAP(), SWAG(), Layerwise(Cyclical(SGLD(), 10, exploration=0.5))):
        with pytest.raises(ValueError, match=r"given, a baseline, or a schedule .* by bp\.compare"):
            check_sampler(baseline)
    with pytest.raises(ValueError, match="seed -1 given"):
        check_sampler(SGLD(), seed=-1)
    with pytest.raises(ValueError, match=r"scale 0\.0 given, expected a positive number"):
        check_sampler(SGLD(), scale=0.0)
