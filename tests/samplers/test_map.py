"""MAP: torch's own Adam, the maximum of a conjugate posterior, and a deep ensemble through `bp.sample`."""

import math

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import MAP

from ..conjugate import regression, sample
from .targets import Pooled, of_potential, quartic, target_of


def test_steps_are_those_of_torch():
    """`torch.optim.Adam` with a cosine schedule, each chain by itself."""
    chains, count = 4, 30
    target = target_of(of_potential(quartic, dim=2), chains)
    theta = torch.randn(chains, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampler, streams = MAP(step_size=0.05, gradient_decay=0.8, square_decay=0.95), Pooled(0, chains)
    state = sampler.init(target, theta, streams)
    weight = torch.nn.Parameter(theta.clone())
    optimizer = torch.optim.Adam([weight], lr=0.05, betas=(0.8, 0.95), eps=1e-8)
    for index in range(count):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, index, count)
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * index / count))
        optimizer.zero_grad()
        quartic(weight).sum().backward()
        optimizer.step()
        torch.testing.assert_close(state.theta, weight.detach())
    assert (state.rate == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_the_maximum_of_a_conjugate_posterior(temperature):
    """Its mean, at every temperature, by every chain; and the chains stand still after warm-up."""
    posterior, mean, _ = regression(temperature=temperature)
    draws = sample(posterior, MAP(step_size=0.1), num_samples=3, num_warmup=400, num_chains=3)
    torch.testing.assert_close(draws.theta, mean.expand(3, 3, 2), atol=1e-6, rtol=0)
    assert torch.equal(draws.theta[:, 0], draws.theta[:, 2])


def test_a_deep_ensemble():
    """Members start at draws from the prior and see their own minibatches: they differ, and together predict better than one."""
    data = bp.datasets.diabetes(seed=0)
    model = bp.attach(bp.models.mlp(10, 1, hidden=(20,), activation="tanh"), bp.priors.Normal(0.0, 0.5))
    posterior = bp.Posterior(
        model, bp.likelihoods.Gaussian(scale=0.7), data.x_train, data.y_train, batch_size=64
    )
    draws = sample(posterior, MAP(step_size=0.01), num_samples=1, num_warmup=300, num_chains=6)
    outputs = draws.predict(data.x_test).outputs_by_chain()[:, 0]
    assert float(outputs.std(0).mean()) > 0.02
    each = ((outputs - data.y_test) ** 2).mean((1, 2))
    together = float(((outputs.mean(0) - data.y_test) ** 2).mean())
    assert together < float(each.mean())
    assert together < 0.7 * float(data.y_test.var())


def test_without_warm_up_it_is_refused():
    """It would be the start after one step of Adam."""
    posterior, *_ = regression()
    with pytest.raises(
        ValueError, match=r"MAP: num_warmup 0 given.*warm-up is the training.*num_warmup=2000"
    ):
        sample(posterior, MAP(), num_samples=1)
    with pytest.raises(ValueError, match="num_warmup 0 given"):
        bp.methods.DeepEnsemble(num_members=2, num_steps=0).fit(posterior, seed=0, store=None)
    with pytest.raises(ValueError, match="num_warmup 0 given"):
        bp.methods.MCMC(MAP(), num_warmup=0).check(posterior)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"damping": -1.0}, "damping"),
        ({"gradient_decay": 1.0}, r"gradient_decay 1\.0 given, expected less than 1"),
        ({"square_decay": 1.5}, "square_decay"),
    ],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        MAP(**options)
