"""Cyclical schedules: what is multiplied where in a cycle, temperatures of its phases, and any sampler inside."""

import math

import pytest
import torch

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
    for baseline in (MAP(), SWAG()):
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
