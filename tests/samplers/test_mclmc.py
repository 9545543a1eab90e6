"""MCLMC: its turns by hand and by their differential equation, what it counts as energy, its tuning, and planted faults."""

import math

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import HMC, MCLMC, Cyclical, mclmc
from bnnpriors.samplers.mclmc import _turned

from ..stored_runs import assert_same
from .targets import (
    Accepting,
    Pooled,
    Refusing,
    assert_mean,
    of_potential,
    prior_alone,
    quartic,
    run,
    target_of,
)

QUARTIC_MEANS = torch.tensor([-0.45696, 1.05264], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quartics(temperature=1.0, chains=1000):
    """Two independent quartics, which no rotation mixes."""
    return target_of(of_potential(quartic, dim=2, temperature=temperature), chains)


def test_a_turn_is_the_flow_on_the_sphere():
    """du/dt = −(g − u (u·g))/(d − 1) for a time turn · (d − 1), by many small steps; ‖m‖ stays; the logarithm is ∫ −u·g dt."""
    momentum, slope = normal(20, 5), 3 * normal(20, 5, seed=1)
    turn = torch.full((20,), 0.3, dtype=torch.float64)
    turned, change = _turned(momentum, slope, turn)
    u, steps, total = torch.nn.functional.normalize(momentum, dim=1), 2000, torch.zeros(20).double()
    for _ in range(steps):
        inner = (u * slope).sum(1, keepdim=True)
        total = total - inner[:, 0] * 0.3 / steps
        u = u - 0.3 / steps * (slope - inner * u)
    torch.testing.assert_close(turned, momentum.norm(dim=1, keepdim=True) * u, rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(change, 4 * total, rtol=5e-3, atol=5e-3)


def test_a_turn_counts_its_change_of_volume():
    """exp of what it returns is one over the determinant of the map of directions, in an orthonormal basis of the tangents."""
    dim, slope = 4, 2 * normal(1, 4, seed=1)
    turn = torch.tensor([0.4], dtype=torch.float64)
    for seed in range(5):
        u = torch.nn.functional.normalize(normal(1, dim, seed=seed), dim=1)
        jacobian = torch.autograd.functional.jacobian(lambda m: _turned(m, slope, turn)[0][0], u)[:, 0]
        there = _turned(u, slope, turn)[0]
        before, after = (torch.linalg.svd(v)[2][1:] for v in (u, there))
        volume = torch.linalg.det(after @ jacobian @ before.T).abs()
        torch.testing.assert_close(_turned(u, slope, turn)[1][0].exp(), 1 / volume)


def test_extreme_turns():
    """No slope leaves the direction; a huge one turns it downhill, from straight uphill too; a turn and its reverse cancel."""
    m = normal(3, 4)
    turn = torch.ones(3, dtype=torch.float64)
    same, change = _turned(m, torch.zeros_like(m), turn)
    assert torch.equal(same, m)
    assert (change < 1e-300).all()
    for dtype in (torch.float32, torch.float64):
        down, change = _turned(m.to(dtype), 1e20 * normal(3, 4, seed=1).to(dtype), turn)
        torch.testing.assert_close(down.norm(dim=1), m.to(dtype).norm(dim=1))
        assert change.isfinite().all()
        straight, change = _turned(m.to(dtype), m.to(dtype), turn)
        assert straight.isfinite().all()
        assert change.isfinite().all()
    slope = normal(3, 4, seed=2)
    there, change = _turned(m, slope, turn)
    back, undone = _turned(-there, slope, turn)
    torch.testing.assert_close(back, -m)
    torch.testing.assert_close(undone, -change)


@pytest.mark.parametrize(("tested", "length"), [(True, 2.0), (True, None), (False, 2.0), (False, None)])
def test_steps_by_hand(tested, length):
    """O B A B with the sinh and cosh of the docstring, at a temperature and in a metric; ΔE of the steps."""
    dim, h, temperature = 3, 0.3, 0.7
    stiffness = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
    spread = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    target = target_of(of_potential(lambda x: 0.5 * stiffness * x**2, dim=dim, temperature=temperature), 5)
    steps = 3 if tested else 1
    sampler = MCLMC(step_size=h, decoherence_length=length, steps_per_test=3 if tested else None, jitter=0.0)
    state = sampler.init(target, normal(5, dim), Pooled(0, 5))._replace(spread=spread.expand(5, dim))
    new, info = sampler.step(target, state, Accepting(1, 5))
    draws, a = Pooled(1, 5), math.exp(-h / (length or (math.inf if tested else 1.0)))
    noise = [draws.normal(dim) for _ in range(1 if a == 1 else steps)] * 3
    for chain, chain_error in enumerate(info["energy_error"]):
        theta, m, error = state.theta[chain], state.momentum[chain], 0.0
        for index in range(steps):
            decay = 0.0 if tested and index == 0 else a
            m = decay * m + ((1 - decay**2) * temperature) ** 0.5 * noise[index][chain]
            before = 0.5 * (stiffness * theta**2).sum()
            for half in (0, 1):
                force = -spread * stiffness * theta
                delta = h / 2 * (dim / temperature) ** 0.5 * force.norm() / (dim - 1)
                e, u = force / force.norm(), m / m.norm()
                scale = torch.cosh(delta) + (e @ u) * torch.sinh(delta)
                m = m.norm() * (u + e * (torch.sinh(delta) + (e @ u) * (torch.cosh(delta) - 1))) / scale
                error += temperature * (dim - 1) * float(scale.log())
                if half == 0:
                    theta = theta + h * (dim * temperature) ** 0.5 * spread * m / m.norm()
            error += float(0.5 * (stiffness * theta**2).sum() - before)
        torch.testing.assert_close(new.theta[chain], theta)
        torch.testing.assert_close(new.momentum[chain], m)
        assert float(chain_error) == pytest.approx(error, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(new.potential, 0.5 * (stiffness * new.theta**2).sum(1))
    torch.testing.assert_close(new.gradient, stiffness * new.theta)


def test_a_rejected_trajectory_is_not_taken():
    target = quartics(chains=20)
    sampler = MCLMC(step_size=0.5, steps_per_test=3)
    state = sampler.init(target, normal(20, 2), Pooled(0, 20))
    new, info = sampler.step(target, state, Refusing(1, 20))
    assert not info["accepted"].any()
    for name in ("theta", "potential", "gradient"):
        assert torch.equal(getattr(new, name), getattr(state, name))


def powers(theta):
    """Means over the steps and both latents of θ and θ², [chains, 2]."""
    return torch.stack([theta.mean((0, 2)), (theta**2).mean((0, 2))], dim=1)


SAMPLER = MCLMC(step_size=0.5, steps_per_test=4, decoherence_length=2.0)


@pytest.mark.parametrize("sampler", [SAMPLER, MCLMC(0.5, math.inf, 4)], ids=["partial refreshment", "none"])
def test_quartic(sampler):
    target = quartics()
    theta, figures = run(sampler, target, normal(1000, 2), Pooled(0, 1000), steps=100, skip=20)
    assert 0.5 < float(figures["acceptance"].mean()) < 0.95
    assert_mean(powers(theta), QUARTIC_MEANS, resolution=0.08)


FAULTS = {
    "the change of volume is not counted": lambda m, change: (m, 0.0 * change),
    "it is counted with the wrong sign": lambda m, change: (m, -change),
    "d in the place of d − 1": lambda m, change: (m, change * 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault, monkeypatch):
    honest = mclmc._turned
    monkeypatch.setattr(mclmc, "_turned", lambda *args: FAULTS[fault](*honest(*args)))
    theta, _ = run(SAMPLER, quartics(), normal(1000, 2), Pooled(0, 1000), steps=100, skip=20)
    with pytest.raises(AssertionError, match="expected"):
        assert_mean(powers(theta), QUARTIC_MEANS, resolution=0.2)


def test_always_accepting_is_seen():
    theta, _ = run(SAMPLER, quartics(), normal(1000, 2), Accepting(0, 1000), steps=100, skip=20)
    with pytest.raises(AssertionError, match="expected"):
        assert_mean(powers(theta), QUARTIC_MEANS, resolution=0.2)


@pytest.mark.parametrize("steps_per_test", [None, 4])
def test_settings_mean_the_same_at_every_temperature(steps_per_test):
    """At T = 4ᵏ a quadratic potential from 2ᵏ θ₀ gives 2ᵏ θ, and the same h and M⁻¹: powers of two scale exactly."""
    stiffness, found = torch.tensor([1e4, 1.0, 1e-2], dtype=torch.float64), []
    for scale in (1.0, 8.0):
        posterior = of_potential(lambda x: 0.5 * stiffness * x**2, dim=3, temperature=scale**2)
        target, streams = target_of(posterior, 10), Pooled(0, 10)
        sampler = MCLMC(step_size=0.005, steps_per_test=steps_per_test)
        state = sampler.init(target, scale * normal(10, 3), streams)
        for iteration in range(60):
            state, info = sampler.step(target, state, streams)
            state = sampler.adapt(state, info, iteration, 60)
        found.append((state.theta / scale, state.step_size, state.spread, state.momentum / scale))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def warmed(sampler, dim, num_warmup, chains=50):
    spread = torch.logspace(-1, 1, dim, dtype=torch.float64)
    target = target_of(of_potential(lambda x: 0.5 * (x / spread) ** 2, dim=dim, temperature=0.5), chains)
    streams = Pooled(0, chains)
    state, infos = sampler.init(target, normal(chains, dim) * spread, streams), []
    for iteration in range(num_warmup + 50):
        state, info = sampler.step(target, state, streams)
        if iteration < num_warmup:
            state = sampler.adapt(state, info, iteration, num_warmup)
        else:
            infos.append(info)
    return state, infos, spread


@pytest.mark.parametrize("step_size", [1e-3, 1.0])
def test_warm_up_reaches_the_energy_variance(step_size):
    """E ΔE²/(d T²) of the steps after it, with the variances as metric; h stays where it is not tuned."""
    state, infos, spread = warmed(MCLMC(step_size=step_size), 30, 400)
    variance = torch.stack([info["energy_error"] for info in infos]).div(0.5).square().mean() / 30
    assert 2e-4 < float(variance) < 1.2e-3
    assert ((state.spread / spread).log().mean(0)[:15].abs() < 0.3).all()
    kept = warmed(MCLMC(step_size=0.1, energy_variance=None, metric="identity"), 30, 30)[0]
    assert (kept.step_size == 0.1).all()
    assert (kept.spread == 1).all()


def test_warm_up_reaches_the_acceptance():
    """Above what is asked for, as an average of log steps does with dual averaging: 0.80 for 0.7 over eight seeds."""
    state, infos, _ = warmed(MCLMC(step_size=0.01, steps_per_test=5, target_acceptance=0.7), 30, 150)
    assert 0.65 < float(torch.stack([info["acceptance"] for info in infos]).mean()) < 0.85
    assert float((state.momentum**2).mean()) == pytest.approx(0.5, rel=0.15)


def test_a_step_that_diverges_is_told_and_halves_the_next():
    """The velocity is bounded, so that not even such a step leaves the finite numbers."""
    target = target_of(of_potential(lambda x: x**4, dim=2), 10)
    sampler = MCLMC(step_size=30.0)
    state = sampler.init(target, normal(10, 2), Pooled(0, 10))
    new, info = sampler.step(target, state, Pooled(0, 10))
    assert info["divergent"].all()
    assert new.theta.isfinite().all()
    assert ((new.theta - state.theta).norm(dim=1) < 30 * 2**0.5 * 1.001).all()
    assert (sampler.adapt(new, info, 0, 100).step_size == 15.0).all()


@pytest.mark.parametrize("steps_per_test", [None, 3])
def test_a_ladder_resumes_bit_for_bit(tmp_path, steps_per_test):
    scales = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    posterior = prior_alone(bp.priors.Normal(0.0, scales), dim=3, temperature=[0.5, 1.0])
    options = {"num_warmup": 40, "num_chains": 2, "progress": False, "compile": False, "chunk_size": 4}
    sampler = MCLMC(step_size=0.1, steps_per_test=steps_per_test)
    whole = bp.sample(posterior, sampler, num_samples=10, **options)
    bp.sample(posterior, sampler, num_samples=3, store=tmp_path / "a", **options)
    assert_same(
        bp.sample(posterior, sampler, num_samples=10, store=tmp_path / "a", resume=True, **options), whole
    )


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"MCLMC: one latent given, expected two or more.*Use HMC"):
        bp.sample(prior_alone(bp.priors.Normal()), MCLMC(), num_samples=1, progress=False)
    with pytest.raises(
        ValueError, match=r"Cyclical: exploration or ramp given for MCLMC, which cannot move at T = 0"
    ):
        Cyclical(MCLMC(), exploration=0.5)
    assert Cyclical(MCLMC()).anneals is False
    assert Cyclical(HMC(), exploration=0.5).preserves_volume
    for options, word in (
        ({"step_size": 0.0}, "step_size"),
        (
            {"decoherence_length": 0.0},
            r"decoherence_length 0\.0 given, expected a positive number or infinity",
        ),
        ({"steps_per_test": 0}, "steps_per_test"),
        ({"jitter": 1.0}, "jitter"),
        ({"target_acceptance": 1.0}, r"MCLMC: target_acceptance 1\.0 given, expected a number in \(0, 1\)"),
        ({"target_acceptance": 0}, "target_acceptance 0 given"),
        ({"energy_variance": 0.0}, "energy_variance"),
        ({"metric": "dense"}, "metric 'dense' given, expected 'diagonal' or 'identity'"),
    ):
        with pytest.raises(ValueError, match=word):
            MCLMC(**options)
