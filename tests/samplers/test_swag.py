"""SWAG: the path of torch's own SGD, the fitted law, and predictions of real data."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import SWAG

from ..conjugate import regression, sample
from .targets import LIMIT, Pooled, of_potential, quartic, target_of


def _fitted(sampler, count, chains=3, dim=2):
    target = target_of(of_potential(quartic, dim=dim), chains)
    theta = torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    streams = Pooled(0, chains)
    state = sampler.init(target, theta, streams)
    path = []
    for index in range(count):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, index, count)
        path.append(state.theta)
    return target, state, theta, torch.stack(path)


def test_the_path_is_that_of_torch():
    sampler, count = SWAG(step_size=0.05, momentum_decay=0.8), 30
    _, _, theta, path = _fitted(sampler, count)
    weight = torch.nn.Parameter(theta.clone())
    optimizer = torch.optim.SGD([weight], lr=0.05, momentum=0.8)
    for index in range(count):
        optimizer.zero_grad()
        quartic(weight).sum().backward()
        optimizer.step()
        torch.testing.assert_close(path[index], weight.detach())


@pytest.mark.parametrize("rank", [3, 20])
def test_the_law_is_that_of_the_collected_points(rank):
    """Half of 41 steps, one in four: the last, and five before it. Mean, and ½ (Σ_diag + D Dᵀ/(K − 1)) by 40,000 draws of a
    chain, at 5.2 standard errors."""
    sampler = SWAG(step_size=0.05, share=0.5, every=4, rank=rank)
    target, state, _, path = _fitted(sampler, 41)
    points = path[20::4]
    assert state.seen.tolist() == [6, 6, 6]
    mean = points.mean(0)
    running = [points[: k + 1].mean(0) for k in range(6)]
    deviations = torch.stack([p - m for p, m in zip(points, running, strict=True)])[-rank:]
    diagonal = (points**2).mean(0) - mean**2
    covariance = torch.einsum("rci,rcj->cij", deviations, deviations) / (len(deviations) - 1)
    covariance = 0.5 * (torch.diag_embed(diagonal) + covariance)
    assert (covariance[0].diagonal() > 1e-6).all()

    count = 40_000
    one = type(state)(*(value[:1].expand(count, *value.shape[1:]) for value in state))
    drawn, _ = sampler.step(target, one, Pooled(5, count))
    centred = (drawn.theta - mean[0]) / covariance[0].diagonal().sqrt()
    assert (centred.mean(0).abs() * count**0.5 < LIMIT).all()
    products = torch.einsum("ni,nj->nij", centred, centred)
    scale = covariance[0].diagonal().sqrt()
    expected = covariance[0] / (scale[:, None] * scale)
    error = products.std(0) / count**0.5
    assert ((products.mean(0) - expected).abs() < LIMIT * error).all()


def test_swag_of_several_chains_predicts():
    """MultiSWAG from trained networks: its draws differ, and together predict better than one."""
    data = bp.datasets.diabetes(seed=0)
    model = bp.attach(bp.models.mlp(10, 1, hidden=(20,), activation="tanh"), bp.priors.Normal(0.0, 0.5))
    posterior = bp.Posterior(
        model, bp.likelihoods.Gaussian(scale=0.7), data.x_train, data.y_train, batch_size=64
    )
    draws = sample(posterior, SWAG(step_size=0.02), num_samples=10, num_warmup=600, num_chains=3)
    outputs = draws.predict(data.x_test).outputs_by_chain()
    assert float(outputs.std(1).mean()) > 0.01
    each = ((outputs - data.y_test) ** 2).mean((2, 3))
    together = float(((outputs.mean((0, 1)) - data.y_test) ** 2).mean())
    assert together < float(each.mean())
    assert together < 0.85 * float(data.y_test.var())  # 0.70 to 0.75 over six seeds
    assert not set(draws.stats) & {"kinetic_temperature", "configurational_temperature"}


def test_without_enough_warm_up_it_says_so():
    posterior, _, _ = regression()
    for count in (1, 3):
        with pytest.raises(ValueError, match="num_warmup 0 given, expected some thousand steps"):
            sample(posterior, SWAG(), num_samples=count)
    with pytest.raises(ValueError, match=r"a warm-up of 12 steps given.*1 in all, expected two or more"):
        sample(posterior, SWAG(every=10), num_samples=3, num_warmup=12)
    draws = sample(posterior, SWAG(every=10), num_samples=3, num_warmup=22)
    assert draws.theta.isfinite().all()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, r"share 1\.5 given, expected a number in \[0, 1\]"),
        ({"every": 0}, "every"),
        ({"rank": 1}, "rank 1 given"),
        ({"momentum_decay": 1.0}, "expected less than 1"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        SWAG(**options)
