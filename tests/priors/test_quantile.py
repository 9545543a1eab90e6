"""Families sampled through a standard normal latent: the same prior, as SciPy has it, behind a smooth map."""

import math

import pytest
import torch
from scipy import stats

import bnnpriors as bp
from bnnpriors import priors as P

FAMILIES = {
    "Laplace": (P.Laplace(0.5, 2.0, normal_latent=True), stats.laplace(0.5, 2.0)),
    "Logistic": (P.Logistic(0.5, 2.0, normal_latent=True), stats.logistic(0.5, 2.0)),
    "Laplace, matched": (
        P.Laplace(0.0, 3.0, matched="variance", normal_latent=True),
        stats.laplace(0.0, 3.0 / math.sqrt(2)),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_map_is_the_quantile_function(name):
    prior, reference = FAMILIES[name]
    u = torch.linspace(-7.9, 7.9, 159, dtype=torch.float64)  # SciPy's cdf is 1 beyond 8.3
    lower = reference.ppf(stats.norm.cdf(u.numpy()))
    upper = reference.isf(stats.norm.sf(u.numpy()))
    expected = torch.where(u < 0, torch.as_tensor(lower), torch.as_tensor(upper))
    w = prior.from_standard(u)
    torch.testing.assert_close(w, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(prior.to_standard(w), u, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prior.from_standard(u.float()).double(), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_slope_at_the_middle(name):
    """dw/du = φ(0)/p(loc): at a latent of exactly zero, too, where |u| alone would give none."""
    prior, reference = FAMILIES[name]
    u = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(prior.from_standard(u).sum(), u)
    torch.testing.assert_close(
        slope, torch.full_like(u, stats.norm.pdf(0) / reference.pdf(reference.median()))
    )


def test_latent_is_standard_normal_under_a_hyperprior():
    prior = P.Laplace(0.0, P.HalfCauchy(1.0), normal_latent=True)
    posterior = bp.Posterior(bp.attach(torch.nn.Linear(3, 2), {"weight": prior, "bias": P.Fixed()}))
    theta = torch.randn(posterior.dim, generator=torch.Generator().manual_seed(0))
    latents = posterior.layout.unpack(theta)
    weights, log_prior = posterior.weights(theta)
    assert sorted(latents) == ["weight", "weight.scale"]
    u, scale = latents["weight"], latents["weight.scale"].exp()
    expected = stats.norm.logpdf(u.numpy()).sum() + stats.halfcauchy.logpdf(float(scale)) + scale.log()
    torch.testing.assert_close(log_prior, expected, check_dtype=False)
    own = P.Laplace(0.0, float(scale), normal_latent=True)
    torch.testing.assert_close(weights["weight"], own.from_standard(u))


def test_chain_starts_at_the_modules_weights():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    weight = net.weight.detach().clone()
    prior = P.Laplace(0.0, 0.1, normal_latent=True)
    posterior = bp.Posterior(bp.attach(net, {"*": prior}))
    hmc = bp.samplers.HMC(step_size=1e-6, num_steps=1)
    draws = bp.sample(posterior, hmc, num_samples=1, num_warmup=0, num_chains=1, init="model")
    torch.testing.assert_close(draws["weight"][0, 0], weight, rtol=1e-3, atol=1e-4)
