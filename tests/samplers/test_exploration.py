"""Exploration of cyclical schedules: its steps are no draws, count in no figure, and a run of nothing else is refused."""

import math
import warnings

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import GGMC, HMC, SGLD, Cyclical, Layerwise
from bnnpriors.samplers.base import diverged

from ..conjugate import regression, sample
from .targets import Pooled, of_potential, target_of


def start(chains):
    return torch.randn(chains, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


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
