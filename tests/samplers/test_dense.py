"""The dense metric: its algebra by hand, what warm-up makes of it, and that it pays where latents correlate."""

import math

import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors.cost import estimate
from bnnpriors.evaluation.chains import convergence
from bnnpriors.samplers import HMC
from bnnpriors.samplers.adaptation import Covariances
from bnnpriors.samplers.metric import DENSE_LIMIT
from bnnpriors.samplers.rungs import Rungs

from ..stored_runs import assert_same
from .targets import Accepting, Pooled, Refusing, assert_mean, of_potential, prior_alone, target_of

MIXED = torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0], dtype=torch.float64)
IN_ORDER = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(spread, seed=3):
    """A covariance with these standard deviations along random axes, and its inverse."""
    axes = torch.linalg.qr(normal(len(spread), len(spread), seed=seed))[0]
    return axes @ torch.diag(spread**2) @ axes.T, axes @ torch.diag(spread**-2) @ axes.T


def gaussian(spread, **options):
    _, stiffness = rotated(spread)
    return of_potential(lambda x: 0.5 * (x * (x @ stiffness)), dim=len(spread), **options)


@pytest.mark.parametrize("temperature", [MIXED, IN_ORDER], ids=["mixed", "in order"])
def test_shared_matrices(temperature):
    """They lie in shares of rows, and each row is multiplied and divided by the matrix of its rung."""
    rungs, dim = Rungs(temperature), 7
    lower = normal(2, dim, dim).tril() + 5 * torch.eye(dim)
    shares = rungs.deal(lower)
    assert shares.shape == (len(temperature), math.ceil(dim / 2), dim)
    assert torch.equal(rungs.gather(shares), lower)
    rows = normal(len(temperature), dim, seed=1)
    for rung, members in enumerate(rungs.members):
        torch.testing.assert_close(rungs.multiply(rows, lower)[members], rows[members] @ lower[rung])
    torch.testing.assert_close(rungs.multiply(rungs.divide(rows, lower), lower), rows)
    for members in rungs.members:
        torch.testing.assert_close(rungs.mean(rows)[members[0]], rows[members].mean(0))
        assert (rungs.mean(rows)[members] == rungs.mean(rows)[members[0]]).all()


def test_covariances_are_pooled_about_each_chains_mean():
    """M⁻¹ = (n/(n+5)) Cov/T + 10⁻³ (5/(n+5)) I with n = chains (draws − 1) and NumPy's Cov; offsets of chains do not count."""
    rungs, draws, dim = Rungs(MIXED), 40, 3
    theta = normal(draws, len(MIXED), dim) @ normal(dim, dim, seed=1) + 100 * normal(len(MIXED), 1, seed=2)
    moments = Covariances.start(theta[0], rungs)
    for draw in theta:
        moments = moments.update(draw, rungs)
    inverse, factor = moments.inverse_mass(MIXED, rungs)
    for rung, members in enumerate(rungs.members):
        covariance = np.mean([np.cov(theta[:, c].numpy().T) for c in members], axis=0)
        count = len(members) * (draws - 1)
        expected = covariance / float(MIXED[members[0]]) * count / (count + 5) + 5e-3 / (count + 5) * np.eye(
            dim
        )
        np.testing.assert_allclose(inverse[rung], expected, rtol=1e-8)
        np.testing.assert_allclose(factor[rung] @ factor[rung].T, expected, rtol=1e-8)


def test_few_draws_give_variances_alone():
    rungs = Rungs(MIXED)
    moments = Covariances.start(normal(5, 10), rungs)
    for seed in range(4):
        moments = moments.update(normal(5, 10, seed=seed), rungs)
    inverse, factor = moments.inverse_mass(MIXED, rungs)
    assert torch.equal(inverse, torch.diag_embed(inverse.diagonal(dim1=1, dim2=2)))
    torch.testing.assert_close(factor**2, inverse)


def test_step_by_hand():
    """Leapfrog with M⁻¹ of each chain's rung; the state keeps Cᵀp, negated on rejection."""
    spread, h = torch.tensor([1.0, 3.0], dtype=torch.float64), 0.3
    posterior = gaussian(spread, temperature=[1.0, 0.5])
    covariance, stiffness = rotated(spread)
    target, sampler = target_of(posterior, 4), HMC(step_size=h, num_steps=3, jitter=0.0, metric="dense")
    rungs = Rungs(target.temperature)
    inverse = torch.stack([covariance, torch.eye(2, dtype=torch.float64)])
    factor = torch.linalg.cholesky(inverse)
    state = sampler.init(target, normal(4, 2), Pooled(0, 4))
    state = state._replace(inverse=rungs.deal(inverse), factor=rungs.deal(factor))
    new, info = sampler.step(target, state, Accepting(1, 4))
    refused, _ = sampler.step(target, state, Refusing(1, 4))
    noise = Pooled(1, 4).normal(2)
    for chain in range(4):
        rung, temperature = chain // 2, float(target.temperature[chain])
        first = p = torch.linalg.solve(factor[rung].T, noise[chain] * temperature**0.5)
        theta = state.theta[chain]
        for _ in range(3):
            p = p - h / 2 * stiffness @ theta
            theta = theta + h * inverse[rung] @ p
            p = p - h / 2 * stiffness @ theta
        energy = [
            0.5 * x @ stiffness @ x + 0.5 * m @ inverse[rung] @ m
            for x, m in ((state.theta[chain], first), (theta, p))
        ]
        torch.testing.assert_close(new.theta[chain], theta)
        torch.testing.assert_close(new.momentum[chain], factor[rung].T @ p)
        torch.testing.assert_close(refused.momentum[chain], -noise[chain] * temperature**0.5)
        torch.testing.assert_close(info["energy_error"][chain], energy[1] - energy[0])


@pytest.mark.parametrize("exponent", [0, -3])
def test_warm_up_finds_the_covariance(exponent):
    """M⁻¹ is Cov θ / T at each temperature: whitened by the true covariance its eigenvalues are near 1."""
    spread = torch.logspace(-1, 1, 6, dtype=torch.float64)
    temperatures = [4.0**exponent, 2.0 * 4.0**exponent]
    target, chains = target_of(gaussian(spread, temperature=temperatures), 40), 40
    sampler, streams = HMC(step_size=0.05, num_steps=10, metric="dense"), Pooled(0, chains)
    state = sampler.init(target, normal(chains, 6), streams)
    for iteration in range(250):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, iteration, 250)
    inverse = Rungs(state.temperature).gather(state.inverse)
    for one in inverse:
        ratios = torch.linalg.eigvals(torch.linalg.solve(rotated(spread)[0], one)).real
        assert 0.7 < float(ratios.min()) <= float(ratios.max()) < 1.4
    squares = []
    for _ in range(30):
        state, info = sampler.step(target, state, streams)
        squares.append((state.momentum**2).mean(1) / state.temperature)
    assert 0.6 < float(info["acceptance"].mean()) < 0.97
    assert_mean(torch.stack(squares).mean(0), 1.0, resolution=0.2)


def test_it_wins_where_latents_correlate():
    """On a rotated Gaussian of condition number 10⁴: effective samples at equal numbers of gradients."""
    target = target_of(gaussian(torch.logspace(-1, 1, 10, dtype=torch.float64)), 8)
    worst = {}
    for metric in ("diagonal", "dense"):
        sampler, streams = HMC(step_size=0.05, num_steps=5, metric=metric), Pooled(0, 8)
        state, draws = sampler.init(target, normal(8, 10), streams), []
        for iteration in range(400):
            state, info = sampler.step(target, state, streams)
            if iteration < 200:
                state = sampler.adapt(state, info, iteration, 200)
            else:
                draws.append(state.theta)
        worst[metric] = float(convergence(torch.stack(draws, dim=1)).ess_bulk.min())
    assert worst["dense"] > 1000
    assert worst["dense"] > 10 * worst["diagonal"]


def test_a_ladder_resumes_bit_for_bit(tmp_path):
    scales = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    posterior = prior_alone(bp.priors.Normal(0.0, scales), dim=3, temperature=[0.5, 1.0])
    sampler = HMC(step_size=0.1, num_steps=3, metric="dense")
    options = {"num_warmup": 60, "num_chains": 3, "progress": False, "compile": False, "chunk_size": 6}
    whole = bp.sample(posterior, sampler, num_samples=20, **options)
    bp.sample(posterior, sampler, num_samples=5, store=tmp_path / "a", **options)
    assert_same(
        bp.sample(posterior, sampler, num_samples=20, store=tmp_path / "a", resume=True, **options), whole
    )
    assert float(whole.stats["kinetic_temperature"].mean()) == pytest.approx(0.75, rel=0.3)


def test_what_is_refused_and_what_it_costs():
    with pytest.raises(
        ValueError, match="HMC: metric 'full' given, expected 'diagonal', 'dense' or 'identity'"
    ):
        HMC(metric="full")
    large = prior_alone(bp.priors.Normal(), dim=DENSE_LIMIT + 1)
    with pytest.raises(
        ValueError,
        match=rf"'dense' given for {DENSE_LIMIT + 1} latents, expected.*0\.13 GiB.*metric='diagonal'",
    ):
        bp.sample(large, HMC(metric="dense"), num_samples=1, progress=False)
    ladder = prior_alone(bp.priors.Normal(), dim=1000, temperature=[0.5, 1.0])
    costs = [
        estimate(ladder, HMC(metric=metric), num_samples=1).memory_bytes for metric in ("diagonal", "dense")
    ]
    assert costs[1] - costs[0] == 2 * 1000**2 * (8 + 8 + 8) * 2
