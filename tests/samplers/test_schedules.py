"""Cyclical schedules: what is multiplied where in a cycle, temperatures of its phases, and any sampler inside."""

import math
import warnings

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import (
    AMAGOLD,
    BAOAB,
    GGMC,
    HMC,
    MAP,
    MCLMC,
    NUTS,
    PSGLD,
    SGHMC,
    SGLD,
    SGNHT,
    SWAG,
    ChEES,
    Cyclical,
    Layerwise,
    Sampler,
)
from bnnpriors.samplers.base import diverged

from ..conjugate import regression, sample
from .targets import Pooled, assert_mean, of_potential, target_of

INSIDE = (
    AMAGOLD(),
    BAOAB(),
    ChEES(num_steps=3),
    GGMC(),
    GGMC(steps_per_test=2),
    HMC(num_steps=2),
    PSGLD(),
    SGHMC(),
    SGLD(),
    SGNHT(),
)
TUNING = (
    HMC(num_steps=8),
    HMC(num_steps=8, metric="dense"),
    ChEES(num_steps=8),
    GGMC(0.05, steps_per_test=4, target_acceptance=0.8),
    AMAGOLD(0.05, steps_per_test=4, target_acceptance=0.8),
    MCLMC(steps_per_test=4),
    Layerwise(HMC(num_steps=8)),
)
"""Samplers that tune themselves, and have an exact law."""


def start(chains, dim=1):
    return torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("multiplies", ["learning_rate", "step_size"])
def test_steps_are_those_of_the_other_with_another_step_size(multiplies):
    """C = ½(1 + cos(π r)) multiplies h, or h²N: then √C multiplies h."""
    target = target_of(of_potential(lambda x: 0.5 * x**2), 5)
    sampler = Cyclical(SGLD(step_size=0.4), cycle_length=4, multiplies=multiplies)
    streams, same = Pooled(0, 5), Pooled(0, 5)
    state, theta = sampler.init(target, start(5), streams), start(5)
    for index in range(10):
        state, info = sampler.step(target, state, streams)
        factor = 0.5 * (1 + math.cos(math.pi * (index % 4) / 4))
        h = 0.4 * (factor if multiplies == "step_size" else factor**0.5)
        theta = theta - h**2 / 2 * theta + h * same.normal(1)
        torch.testing.assert_close(state.theta, theta)
        assert info["sampling"].all()
    assert (state.iteration == 10).all()
    torch.testing.assert_close(state.step_size, torch.full((5,), 0.4, dtype=torch.float64))


def test_exploration_has_no_noise_and_a_ramp_heats_the_first_cycle():
    """Cycles of 4: r = 0, ¼, ½, ¾. T = 0 where r < ½; in the first cycle T r elsewhere; `sampling` after it where T is whole."""
    target = target_of(of_potential(lambda x: 0.0 * x, temperature=2.0), 2000)
    sampler = Cyclical(
        SGLD(step_size=1.0), cycle_length=4, multiplies="step_size", exploration=0.5, ramp=True
    )
    streams = Pooled(0, 2000)
    state = sampler.init(target, start(2000), streams)
    for index in range(8):
        before = state.theta
        state, info = sampler.step(target, state, streams)
        share = (index % 4) / 4
        h = 0.5 * (1 + math.cos(math.pi * share))
        heat = 0.0 if share < 0.5 else share if index < 4 else 1.0
        moved = float(((state.theta - before) ** 2).mean())
        assert moved == pytest.approx(2.0 * heat * h**2, rel=0.2)  # 5.2 standard errors are 0.17
        assert bool(info["sampling"].all()) == (index in (6, 7))


@pytest.mark.parametrize("inner", INSIDE, ids=str)
def test_any_sampler_explores_and_samples(inner):
    """Without noise every sampler goes down; the state and figures are the other's and one's own; the draws resume."""
    posterior, *_ = regression()
    sampler = Cyclical(inner, cycle_length=5, exploration=0.4)
    with pytest.warns(UserWarning, match="3 of 6 draws a chain"):
        draws = sample(posterior, sampler, num_samples=6, num_warmup=10, num_chains=2)
    assert draws.with_exploration().stats["sampling"].shape == (2, 6)
    assert draws.with_exploration().stats["sampling"][0].tolist() == [0, 0, 1, 1, 1, 0]
    assert draws.theta.isfinite().all()
    assert sampler.state_type._fields == (*inner.state_type._fields, "iteration")
    assert (sampler.exact_gradients, sampler.reversible) == (inner.exact_gradients, inner.reversible)
    target = posterior.target(2)
    assert sampler.gradients(target) == inner.gradients(target)


def test_a_metropolis_test_at_no_temperature_accepts_what_goes_down():
    target = target_of(of_potential(lambda x: 0.5 * x**2), 50)
    sampler = Cyclical(GGMC(step_size=0.3, steps_per_test=2), cycle_length=100, exploration=1.0)
    streams = Pooled(0, 50)
    state = sampler.init(target, 3 * start(50), streams)
    for _ in range(60):
        before = state.potential
        state, _ = sampler.step(target, state, streams)
        assert (state.potential <= before + 0.5 * 3.0**2).all()
    assert float(state.potential.mean()) < 1e-2


def test_one_draw_a_cycle(tmp_path):
    """`thin=cycle_length` keeps the last step of each cycle, and a stopped run goes on at its place in the cycle."""
    posterior, *_ = regression(batch_size=5)
    sampler = Cyclical(SGHMC(step_size=0.05), cycle_length=7, exploration=0.5)
    options = {"num_warmup": 7, "thin": 7, "num_chains": 2}
    whole = sample(posterior, sampler, num_samples=6, **options)
    assert whole.stats["sampling"].all()
    sample(posterior, sampler, num_samples=3, store=tmp_path / "a", **options)
    joined = sample(posterior, sampler, num_samples=6, store=tmp_path / "a", resume=True, **options)
    assert torch.equal(whole.theta, joined.theta)


EXPLORING = Cyclical(SGLD(step_size=0.05), cycle_length=6, exploration=0.5)


@pytest.mark.filterwarnings("ignore:Cyclical")
def test_draws_are_those_that_sample(tmp_path):
    """Whatever is made of draws is made of these alone, in memory and in a store; all are at hand."""
    posterior, *_ = regression(temperature=[0.5, 1.0])
    options = {"num_samples": 14, "num_warmup": 6, "num_chains": 2, "store": tmp_path / "a"}
    draws = sample(posterior, EXPLORING, **options)
    for given in (draws, bp.Draws.open(tmp_path / "a"), draws.at_temperature(0.5)):
        every, kept = given.with_exploration(), torch.tensor([False, False, False, True, True, True] * 3)[:14]
        assert (given.num_draws, every.num_draws) == (6, 14)
        assert torch.equal(given.theta, every.theta[:, kept])
        assert torch.equal(given["weight"], every["weight"][:, kept])
        for name in ("potential", "configurational_temperature", "sampling"):
            if name in given.stats:
                assert torch.equal(given.stats[name], every.stats[name][:, kept])
        assert given.tensor_stats["configurational_temperature"].shape == (given.num_chains, 6, 1)
        assert given.stats["sampling"].all()
        assert "8 of exploration left out" in repr(given)
        assert "left out" not in repr(every)
    one, x = draws.at_temperature(0.5), posterior.data.x
    assert (one.predict(x).num_draws, one.with_exploration().predict(x).num_draws) == (12, 28)
    assert one.summary(x).figures["draws"] == 6
    assert one.to_arviz(num_prior=2)["posterior"].sizes["draw"] == 6
    follows = sample(posterior, SGLD(1e-9), num_samples=1, num_chains=2, init=draws)
    torch.testing.assert_close(follows.theta, draws.theta[:, -1:], atol=1e-6, rtol=0)
    assert not torch.equal(draws.theta[:, -1], draws.with_exploration().theta[:, -1])


@pytest.mark.filterwarnings("ignore:Cyclical")
def test_weights_of_many_chunks_without_a_first_that_samples():
    """The first 512 draws are one chunk of the store."""
    posterior, *_ = regression()
    sampler = Cyclical(SGLD(step_size=0.05), cycle_length=1100, exploration=0.5)
    draws = sample(posterior, sampler, num_samples=600, num_chains=2)
    assert draws.num_draws == 50
    torch.testing.assert_close(draws["weight"].flatten(2), draws.theta)
    assert torch.equal(draws.theta, draws.with_exploration().theta[:, 550:])


@pytest.mark.parametrize(
    ("lengths", "tunes", "count"),
    [
        ((4, 6, 6), False, 4),
        ((4, 6, 6), True, 4),
        ((4, 8, 6), False, 0),
        ((4, 8, 6), True, 4),
        ((12, 0, 1), False, 6),
        ((3, 0, 1), True, 0),
        ((8, 6, 3), False, 4),
    ],
)
def test_a_run_of_which_few_draws_sample(lengths, tunes, count):
    """Refused without any, with a warning where some do not, in silence where all do; and as many are there as said."""
    posterior, *_ = regression()
    samples, warmup, thin = lengths
    inner = HMC(0.1, 2) if tunes else SGLD(0.05)
    options = {"num_samples": samples, "num_warmup": warmup, "thin": thin, "num_chains": 2}
    sampler = Cyclical(inner, cycle_length=6, exploration=0.5)
    if count == 0:
        with pytest.raises(ValueError, match=rf"none of {samples} draws a chain .* thin=6 keep the last"):
            sample(posterior, sampler, **options)
        with pytest.raises(ValueError, match=f"none of {samples} draws"):
            bp.methods.MCMC(Layerwise(sampler), **options).check(posterior)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        draws = sample(posterior, sampler, **options)
    assert draws.num_draws == count
    words = [str(each.message) for each in said if "Cyclical" in str(each.message)]
    assert len(words) == (count < samples)
    assert all(f"{count} of {samples} draws a chain" in each for each in words)


def test_a_schedule_that_leaves_the_temperature_has_no_law():
    assert Cyclical(SGLD(), 10).has_law
    for options in ({"exploration": 0.1}, {"ramp": True}):
        assert not Cyclical(SGLD(), 10, **options).has_law
        with pytest.raises(ValueError, match="Check a Cyclical without exploration and ramp"):
            bp.checks.check_sampler(Cyclical(SGLD(), 10, **options))


def test_a_divergence_is_an_energy_far_off_and_without_temperature_one_that_is_no_number():
    """Above 1000 T; at T = 0, where an ascent is refused as it should be, not finite."""
    error = torch.tensor([-5.0, 1999.0, 2001.0, math.inf, math.nan, -math.inf], dtype=torch.float64)
    assert diverged(error, torch.full((6,), 2.0)).tolist() == [False, False, True, True, True, True]
    assert diverged(error, torch.full((6,), 0.0)).tolist() == [False, False, False, True, True, True]
    target = target_of(of_potential(lambda x: 0.5 * x**2), 50)
    sampler, streams = (
        Cyclical(GGMC(1.5, 1.0, steps_per_test=2), cycle_length=100, exploration=1.0),
        Pooled(0, 50),
    )
    state, refused = sampler.init(target, start(50), streams), 0
    for _ in range(20):
        state, info = sampler.step(target, state, streams)
        refused += int((info["energy_error"] > 0).sum())
        assert not info["divergent"].any()
    assert refused > 100


def test_steps_of_exploration_count_in_no_figure(tmp_path):
    """Acceptance and divergences of a draw are those of its sampling steps, each of which a run without thinning tells; also in a
    run that was stopped and continued."""
    posterior, *_ = regression(batch_size=5)
    sampler = Cyclical(GGMC(step_size=0.2, steps_per_test=2), cycle_length=6, exploration=0.5)
    options = {"num_warmup": 6, "num_chains": 3}
    draws = sample(posterior, sampler, num_samples=8, thin=6, **options)
    with pytest.warns(UserWarning, match="24 of 48 draws"):
        each = sample(posterior, sampler, num_samples=48, thin=1, **options)
    assert float(each.stats["acceptance"].mean()) < 0.9
    expected = each.stats["acceptance"].unflatten(1, (8, 3)).mean(2)
    torch.testing.assert_close(draws.stats["acceptance"], expected)
    assert not draws.stats["divergent"].any()
    sample(posterior, sampler, num_samples=3, thin=6, store=tmp_path / "a", **options)
    joined = sample(posterior, sampler, num_samples=8, thin=6, store=tmp_path / "a", resume=True, **options)
    assert torch.equal(joined.stats["acceptance"], draws.stats["acceptance"])
    with pytest.warns(UserWarning, match="8 of 16 draws"):
        half = sample(posterior, sampler, num_samples=16, thin=3, **options).with_exploration()
    none = ~half.stats["sampling"]
    assert half.stats["acceptance"][none].isnan().all()
    assert half.stats["acceptance"][~none].isfinite().all()
    assert not half.stats["divergent"].any()


def warmed_up(sampler, target, count):
    """The state after a warm-up, and the stream of random numbers where it is then."""
    streams = Pooled(0, len(target.temperature))
    state = sampler.init(target, start(len(target.temperature), 2), streams)
    for index in range(count):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, index, count)
    return state, streams


@pytest.mark.parametrize(
    "inner", [*TUNING, MCLMC(), PSGLD(), NUTS(max_tree_depth=3)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("multiplies", ["learning_rate", "step_size"])
def test_warm_up_is_that_without_a_schedule(inner, multiplies):
    """All that it tunes, bit for bit, the metric's windows among it; the schedule begins at the first step after it."""
    posterior, *_ = regression(temperature=0.5)
    target, count = target_of(posterior, 6), 24
    explores = 0.4 if inner.anneals else 0.0
    sampler = Cyclical(inner, 7, multiplies=multiplies, exploration=explores)
    alone, _ = warmed_up(inner, target, count)
    state, streams = warmed_up(sampler, target, count)
    for name, value in alone._asdict().items():
        assert torch.equal(getattr(state, name).nan_to_num(), value.nan_to_num()), name
    assert (state.iteration == 0).all()
    for index in range(9):
        h = state.step_size
        state, info = sampler.step(target, state, streams)
        assert bool(info["sampling"].all()) == ((index % 7) / 7 >= explores)
        assert torch.equal(state.step_size, h)
    assert (state.iteration == 9).all()


@pytest.mark.parametrize("inner", TUNING, ids=lambda s: type(s).__name__)
def test_a_tuned_sampler_has_its_acceptance_and_the_moments(inner):
    """At full steps the acceptance is that of the sampler alone, near its target, after a warm-up of what would be half descent;
    and over whole cycles without descent the moments are those of the conjugate posterior, each chain's start forgotten."""
    posterior, mean, precision = regression(temperature=0.5)
    target = target_of(posterior, 240)
    explores = 0.5 if inner.anneals else 0.0
    state, streams = warmed_up(Cyclical(inner, 20, exploration=explores), target, 150)
    sampler, seen, full, alone = Cyclical(inner, 5), [], [], []
    now = sampler.inner(state)
    for index in range(400):
        state, info = sampler.step(target, state, streams)
        if index >= 40:
            seen.append(state.theta)
            full += [info["acceptance"]] if index % 5 == 0 else []
        if index < 80:
            now, info = inner.step(target, now, streams)
            alone.append(info["acceptance"])
    found = float(torch.stack(full).mean())
    assert found == pytest.approx(float(torch.stack(alone).mean()), abs=0.05)
    if not isinstance(inner, ChEES):  # which aims at a harmonic mean, and may not reach it in two latents
        assert found == pytest.approx(getattr(inner, "sampler", inner).target_acceptance, abs=0.12)
    theta = torch.stack(seen)
    assert_mean(theta.mean(0), mean, resolution=0.03)
    white = (theta - mean) @ torch.linalg.cholesky(2 * precision)
    products = torch.einsum("sci,scj->cij", white, white) / len(theta)
    assert_mean(products.flatten(1), torch.eye(2, dtype=torch.float64).flatten(), resolution=0.1)


def test_trajectories_shorten_with_their_steps():
    """`ChEES` keeps the number of its steps: its cost does not grow at the end of a cycle, where C is small."""
    target = target_of(regression()[0], 6)
    sampler = Cyclical(ChEES(num_steps=8), cycle_length=50)
    state, streams = warmed_up(sampler, target, 60)
    longest = (state.trajectory_length / state.step_size).ceil()
    for _ in range(50):
        state, info = sampler.step(target, state, streams)
        assert (info["num_steps"] <= longest + 1).all()


def test_a_run_without_warm_up_begins_its_first_cycle_at_once():
    """The one step that may belong to a warm-up has the whole temperature; from the second on the descent is one."""
    target = target_of(of_potential(lambda x: 0.5 * x**2), 4)
    sampler, streams = Cyclical(HMC(0.3, 3), cycle_length=4, exploration=0.5), Pooled(0, 4)
    state = sampler.init(target, start(4), streams)
    moved = []
    for _ in range(6):
        state, info = sampler.step(target, state, streams)
        moved.append(
            (int(state.iteration[0]), bool(info["sampling"].all()), bool((state.momentum == 0).any()))
        )
    assert [place for place, *_ in moved] == [1, 2, 3, 4, 5, 6]
    assert [sampling for _, sampling, _ in moved] == [False, False, True, True, False, False]


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_what_is_refused():
    with pytest.raises(
        TypeError, match=r"expected a sampler with its settings, such as Cyclical\(bp\.samplers"
    ):
        Cyclical(SGLD)
    with pytest.raises(ValueError, match="one of them cannot be put inside"):
        Cyclical(Cyclical(SGLD()))
    for baseline in (MAP(), SWAG(), Layerwise(MAP())):
        with pytest.raises(
            ValueError, match=r"given, a baseline, .* expected a sampler, such as Cyclical\(bp"
        ):
            Cyclical(baseline)
    with pytest.raises(ValueError, match="cycle_length 0 given"):
        Cyclical(SGLD(), cycle_length=0)
    with pytest.raises(ValueError, match="exploration"):
        Cyclical(SGLD(), exploration=1.5)
    with pytest.raises(ValueError, match="'learning_rate' or 'step_size'"):
        Cyclical(SGLD(), multiplies="h")
    for inner in (NUTS(), MCLMC()):
        for options in ({"exploration": 0.5}, {"ramp": True}):
            with pytest.raises(ValueError, match="which cannot move at T = 0: leave them out"):
                Cyclical(inner, **options)
    walk = type("Walk", (Sampler,), {"state_type": type("State", (), {"_fields": ("theta",)})})
    with pytest.raises(ValueError, match="the state of Walk has no step_size"):
        Cyclical(walk())
