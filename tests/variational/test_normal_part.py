"""The closed form of E_q[−log p]: for which latents, what it is, and what it does to the noise of a fit."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as D
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import FullRank, LowRank, MeanField
from bnnpriors.variational.normal_part import normal_part


def prior_only(priors) -> bp.Posterior:
    return bp.Posterior(bp.attach(nn.Linear(3, 2).double(), priors))


NORMAL = {"weight": P.Normal(0.5, P.fan_in(2.0)), "bias": P.Normal(-1.0, 3.0)}


@pytest.mark.parametrize("make", [MeanField, FullRank, lambda post: LowRank(post, rank=2)])
def test_with_normal_priors_it_is_the_divergence(make) -> None:
    """Less the constants of log p, it is torch's KL(q‖p); and the bound, which is −KL for a prior alone, has no noise."""
    fit = make(prior_only(NORMAL))
    with torch.no_grad():
        for parameter in fit.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    loc = torch.tensor([0.5] * 6 + [-1.0] * 2).double()
    scale = torch.tensor([2 / 3**0.5] * 6 + [3.0] * 2).double()
    q = fit.law()
    if isinstance(fit, MeanField):
        expected = D.kl_divergence(q.base_dist, D.Normal(loc, scale)).sum()
    else:
        q = D.MultivariateNormal(q.mean, q.covariance_matrix)
        expected = D.kl_divergence(q, D.MultivariateNormal(loc, scale.square().diag()))
    bound = fit.bound(num_draws=10)
    assert -bound.value == pytest.approx(float(expected.detach()), rel=1e-7)
    assert bound.error < 1e-9


def test_draws_with_it_are_as_good_as_none() -> None:
    """Steps on a prior alone do not depend on the seed, and end at the prior; with a Laplace prior they do."""
    one, other = (
        MeanField(prior_only(NORMAL)).fit(
            num_steps=400, learning_rate=0.1, num_draws=1, seed=s, progress=False
        )
        for s in (0, 1)
    )
    torch.testing.assert_close(one.loc, other.loc)
    expected = torch.tensor([2 / 3**0.5] * 6 + [3.0] * 2).double()
    torch.testing.assert_close(one.law().stddev.detach(), expected, rtol=0.01, atol=0.0)
    laplace = [
        MeanField(prior_only(P.Laplace(0.0, 1.0)), scale=2.0)
        .fit(num_steps=20, num_draws=1, seed=s, progress=False)
        .loc
        for s in (0, 1)
    ]
    assert not torch.equal(*laplace)


def test_it_is_chosen_for_the_latents_that_have_it() -> None:
    cases = [
        ({"weight": P.Laplace(0.0, 1.0), "bias": P.Normal(0.0, 2.0)}, [6, 7], 2.0),
        ({"weight": P.StudentT(3.0), "bias": P.Normal(0.0, P.HalfNormal(1.0))}, None, None),
        (
            {"weight": P.Normal(0.0, P.HalfNormal(1.0), centred=False), "bias": P.Laplace()},
            list(range(6)),
            1.0,
        ),
    ]
    for priors, places, scale in cases:
        found = normal_part(prior_only(priors))
        if places is None:
            assert found is None
        else:
            assert found.places.tolist() == places
            assert found.scale.tolist() == [scale] * len(places)


def test_gradient_and_expectation_are_those_of_the_energy() -> None:
    """50,000 draws: the mean energy to 6 standard errors."""
    post = prior_only(NORMAL)
    part, fit = normal_part(post), FullRank(post, scale=0.5)
    theta = fit.sample(50_000)
    energy = part.energy(theta)
    gradient = torch.func.vmap(torch.func.grad(lambda t: part.energy(t[None])[0]))(theta[:5])
    torch.testing.assert_close(part.gradient(theta[:5]), gradient)
    with torch.no_grad():
        expected = part.expected(fit.loc, fit.law().variance)
    assert abs(energy.mean() - expected) < 6 * energy.std() / 50_000**0.5
