"""A small run with a store, and what it means that two runs are the same."""

import torch

import bnnpriors as bp
from bnnpriors.samplers import HMC


def posterior(scale=1.0, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(15, 2, generator=generator)
    model = bp.attach(torch.nn.Linear(2, 1), bp.priors.Normal(0.0, scale))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True), **options)


def sample(path, sampler=None, given=None, **options):
    """A short HMC run with warm-up and thinning."""
    options = {"num_samples": 20, "num_warmup": 10, "num_chains": 2, "thin": 2} | options
    sampler = sampler or HMC(step_size=0.05, num_steps=2)
    return bp.sample(given or posterior(), sampler, store=path, progress=False, **options)


def assert_same(ours, theirs):
    assert torch.equal(ours.theta, theirs.theta)
    assert set(ours.stats) == set(theirs.stats)
    for name in ours.stats:
        assert torch.equal(ours.stats[name], theirs.stats[name]), name
    for name in ours.tensor_stats:
        assert torch.equal(ours.tensor_stats[name], theirs.tensor_stats[name]), name
