"""ChEES-HMC: its slope and optimum in closed form, trajectories by hand, and that each rung adapts for itself."""

import math

import pytest
import torch

import bnnpriors as bp
from bnnpriors.evaluation.chains import convergence
from bnnpriors.samplers import HMC, ChEES
from bnnpriors.samplers.adaptation import DualAveraging
from bnnpriors.samplers.chees import _slope, halton
from bnnpriors.samplers.rungs import Rungs

from ..stored_runs import assert_same
from .targets import Accepting, Pooled, assert_mean, of_potential, prior_alone, target_of

OPTIMUM = 2.2467
"""τ of the first maximum of E sin²(uτ) = ½ (1 − sin 2τ/2τ), u uniform on [0, 1]: tan 2τ = 2τ."""


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(spread, **options):
    spread = torch.tensor(spread, dtype=torch.float64)
    return of_potential(lambda x: 0.5 * (x / spread) ** 2, dim=len(spread), **options)


def warmed(sampler, target, num_warmup, seed=0):
    """The state after a warm-up from N(0, 1)."""
    chains = len(target.temperature)
    streams = Pooled(seed, chains)
    state = sampler.init(target, normal(chains, target.dim, seed=seed + 1), streams)
    for iteration in range(num_warmup):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, iteration, num_warmup)
    return state


def test_halton():
    values = halton(torch.arange(7)).tolist()
    assert values == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    longer = halton(torch.arange(2**16 - 1))
    assert len(longer.unique()) == 2**16 - 1
    assert torch.equal(halton(torch.tensor([2**16 - 1])), longer[:1])


@pytest.mark.parametrize("time", [0.4, 1.2, 2.0])
def test_slope(time):
    """After a time t on N(0, I) the criterion is d sin² t, its slope d sin 2t; any metric with its own units gives the same."""
    chains, dim = 10_000, 3
    x, p = normal(chains, dim), normal(chains, dim, seed=1)
    end, ending = x * math.cos(time) + p * math.sin(time), p * math.cos(time) - x * math.sin(time)
    target = target_of(gaussian([1.0] * dim), chains)
    state = ChEES().init(target, x, Pooled(0, chains))
    scale = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    state = state._replace(
        before=5 + scale * x, proposal=5 + scale * end, ending=ending / scale, inverse_mass=(scale**2).expand(chains, dim),
        trajectories=state.trajectories + 3,
    )  # fmt: skip
    rungs, sure = Rungs(target.temperature), torch.ones(chains, dtype=torch.float64)
    slope = _slope(state, sure, rungs)
    assert (slope == slope[0]).all()
    each = ((end**2).sum(1) - (x**2).sum(1)) * (end * ending).sum(1)
    assert_mean(each, dim * math.sin(2 * time), resolution=0.6)
    assert float(slope[0]) / 0.75 == pytest.approx(float(each.mean()), abs=0.01)
    broken = state._replace(proposal=state.proposal.index_fill(0, torch.tensor([7]), math.nan))
    refused = sure.index_fill(0, torch.tensor([7]), 0.0)
    assert float(_slope(broken, refused, rungs)[0]) == pytest.approx(float(slope[0]), rel=0.01)


@pytest.mark.parametrize(
    ("sampler", "spread", "scale"),
    [
        (ChEES(num_steps=5, target_acceptance=0.95), [0.1] * 10 + [3.0] * 10, 1.0),
        (ChEES(num_steps=10, metric="identity"), [0.1] * 10 + [3.0] * 10, 3.0),
    ],
    ids=["diagonal", "identity"],
)
def test_the_length_is_near_the_optimum(sampler, spread, scale):
    """Of N(0, I) in the metric that is found; of the widest directions where M = I, which the fourth powers of widths favour.
    A step h of τ/10 makes trajectories, which are rounded up, longer by half of it."""
    state = warmed(sampler, target_of(gaussian(spread, temperature=0.3), 64), 300)
    length = state.trajectory_length + 0.5 * state.step_size
    assert (state.trajectory_length == state.trajectory_length[0]).all()
    assert float(length[0]) == pytest.approx(OPTIMUM * scale, rel=0.15)
    if sampler.metric == "diagonal":
        expected = torch.tensor(spread, dtype=torch.float64) ** 2
        assert ((state.inverse_mass / expected).log().abs() < 0.2).all()


def test_every_chain_takes_its_own_number_of_steps():
    """Each is the HMC of ⌈uτ/h⌉ steps, and no gradient is taken of a chain that is done."""
    posterior = gaussian([1.0, 2.0], temperature=[1.0, 0.5, 0.25])
    target, h = target_of(posterior, 6), 0.3
    sampler, streams = ChEES(step_size=h), Pooled(0, 6)
    state = sampler.init(target, normal(6, 2), streams)
    lengths = torch.tensor([0.5, 0.5, 4.0, 4.0, 2.0, 2.0], dtype=torch.float64)
    state = state._replace(trajectory_length=lengths, trajectories=state.trajectories + 1)
    calls, evaluate = [], type(target).value_and_gradient

    def counted(self, theta):
        calls.append(len(theta))
        return evaluate(self, theta)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(target), "value_and_gradient", counted)
        new, info = sampler.step(target, state, Accepting(1, 6))
    steps = [1, 1, 4, 4, 2, 2]  # ⌈u τ/h⌉ with u = ¼
    assert info["num_steps"].tolist() == steps
    assert calls == [6, 4, 2, 2]
    for chain in range(6):
        leapfrog = HMC(step_size=h, num_steps=steps[chain], jitter=0.0)
        alone, other = leapfrog.step(target, leapfrog.init(target, state.theta, streams), Accepting(1, 6))
        torch.testing.assert_close(new.theta[chain], alone.theta[chain])
        torch.testing.assert_close(new.momentum[chain], alone.momentum[chain])
        torch.testing.assert_close(new.potential[chain], alone.potential[chain])
        for figure in ("energy", "energy_error", "acceptance"):
            torch.testing.assert_close(info[figure][chain], other[figure][chain])


def test_step_size_follows_the_harmonic_mean():
    """Of acceptances ½ and 1 that is 2/3; a chain that accepts nothing makes it 0."""
    target = target_of(gaussian([1.0], temperature=[1.0, 0.5]), 4)
    sampler = ChEES()
    state = sampler.init(target, normal(4, 1), Pooled(0, 4))
    acceptance = torch.tensor([0.5, 1.0, 0.0, 1.0], dtype=torch.float64)
    new = sampler.adapt(state, {"acceptance": acceptance}, 0, 10)
    expected = DualAveraging(*state.averaging.unbind(1)).update(
        torch.tensor([2 / 3, 2 / 3, 0.0, 0.0], dtype=torch.float64), 0.651
    )
    torch.testing.assert_close(new.step_size, expected.log_step.exp())
    torch.testing.assert_close(new.trajectory_length, 20 * new.step_size)


def test_a_rung_of_a_ladder_adapts_for_itself():
    """The first rung is the run at its temperature alone."""
    options = {"num_samples": 20, "num_warmup": 60, "num_chains": 4, "progress": False, "compile": False}
    scales = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)

    def draws(temperature):
        posterior = prior_alone(bp.priors.Normal(0.0, scales), dim=3, temperature=temperature)
        return bp.sample(posterior, ChEES(step_size=0.05), chunk_size=8, **options)

    ladder, alone = draws([0.25, 4.0]), draws([0.25])
    torch.testing.assert_close(ladder.theta[:4], alone.theta, rtol=1e-6, atol=1e-8)
    lengths = ladder.stats["trajectory_length"]
    assert (lengths == lengths[:, :1]).all()
    assert lengths[0, 0] != lengths[4, 0]


def test_a_ladder_resumes_bit_for_bit(tmp_path):
    scales = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    posterior = prior_alone(bp.priors.Normal(0.0, scales), dim=3, temperature=[0.5, 1.0])
    options = {"num_warmup": 60, "num_chains": 3, "progress": False, "compile": False, "chunk_size": 6}
    sampler = ChEES(step_size=0.1, num_steps=4)
    whole = bp.sample(posterior, sampler, num_samples=20, **options)
    bp.sample(posterior, sampler, num_samples=5, store=tmp_path / "a", **options)
    assert_same(
        bp.sample(posterior, sampler, num_samples=20, store=tmp_path / "a", resume=True, **options), whole
    )


def test_it_needs_no_length_from_the_user():
    """Effective samples a gradient on correlated latents, beside HMC with a guess, as if latents were independent: 7 to 19 times
    as many over eight seeds.
    """
    axes = torch.linalg.qr(normal(10, 10))[0]
    stiffness = axes @ torch.diag(torch.logspace(-1.5, 1.5, 10, dtype=torch.float64)) @ axes.T
    target = target_of(of_potential(lambda x: 0.5 * (x * (x @ stiffness)), dim=10), 8)
    found = {}
    for sampler in (ChEES(), HMC(num_steps=5)):
        state, streams, draws, gradients = warmed(sampler, target, 400), Pooled(9, 8), [], 0.0
        for _ in range(400):
            state, info = sampler.step(target, state, streams)
            draws.append(state.theta)
            gradients += float(info["num_steps"].mean()) if "num_steps" in info else sampler.num_steps
        found[sampler] = float(convergence(torch.stack(draws, dim=1)).ess_bulk.min()) / gradients
    tuned, guessed = found.values()
    assert tuned > 2.5 * guessed


@pytest.mark.parametrize("num_warmup", [0, 1, 10, 25])
def test_short_warm_ups(num_warmup):
    target = target_of(gaussian([1.0, 2.0], temperature=[1.0, 2.0]), 8)
    state = warmed(ChEES(step_size=0.2, num_steps=5), target, num_warmup)
    assert (state.step_size > 0.1 * 0.48**num_warmup).all()
    assert state.trajectory_length.isfinite().all()
    if num_warmup < 20:
        torch.testing.assert_close(state.trajectory_length, 5 * state.step_size)


def test_a_trajectory_is_no_longer_than_it_may_be():
    target = target_of(gaussian([1.0]), 4)
    sampler = ChEES(step_size=0.01, num_steps=3, max_steps=5)
    state = sampler.init(target, normal(4, 1), Pooled(0, 4))
    state = state._replace(trajectory_length=1e6 * state.step_size)
    _, info = sampler.step(target, state, Pooled(0, 4))
    assert (info["num_steps"] == 5).all()
    state = warmed(sampler, target, 100)
    assert (state.trajectory_length <= 5 * state.step_size).all()


def test_what_is_refused():
    posterior = prior_alone(bp.priors.Normal(), temperature=[0.5, 1.0])
    with pytest.raises(
        ValueError, match=r"1 chain a temperature given, expected at least 2.*raise num_chains, or use HMC"
    ):
        bp.sample(posterior, ChEES(), num_samples=1, num_chains=1, progress=False)
    for options, word in (
        ({"step_size": 0.0}, "step_size"),
        ({"num_steps": 0}, "num_steps"),
        ({"max_steps": 0}, "max_steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"target_acceptance": 1.0}, "target_acceptance"),
        ({"metric": "dense"}, "metric 'dense' given, expected 'diagonal' or 'identity'"),
    ):
        with pytest.raises(ValueError, match=word):
            ChEES(**options)
