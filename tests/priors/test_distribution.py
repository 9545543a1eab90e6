"""torch and Pyro distributions as priors: event dimensions, dtype, generators."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch import distributions as D

from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
COVARIANCE = torch.tensor([[1.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 0.7]])
FACTOR = torch.linalg.cholesky(COVARIANCE)


def _density(prior: P.Prior, latent: Tensor) -> tuple[Tensor, Tensor]:
    values: dict[str, Tensor] = {}
    density = Site("w", prior, tuple(latent.shape)).evaluate({"w": latent}, values)
    return density, values["w"]


def _latent(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        (D.Gamma(2.0, 1.0), scipy.stats.gamma(2.0)),
        (D.LogNormal(-1.0, 0.2), scipy.stats.lognorm(0.2, scale=np.exp(np.float32(-1.0)))),
        (D.InverseGamma(3.0, 2.0), scipy.stats.invgamma(3.0, scale=2.0)),
        (D.HalfCauchy(1.5), scipy.stats.halfcauchy(scale=1.5)),
        (D.Exponential(2.0), scipy.stats.expon(scale=0.5)),
        (pyro.distributions.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0)),
    ],
    ids=["gamma", "lognormal", "inverse-gamma", "half-cauchy", "exponential", "half-normal"],
)
def test_a_positive_distribution_carries_the_jacobian_of_exp(distribution, reference) -> None:
    u = _latent(3, 4)
    density, value = _density(P.Distribution(distribution), u)
    torch.testing.assert_close(value, u.exp())
    expected = reference.logpdf(u.exp().numpy()).sum() + u.sum().item()
    assert density.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "distribution", [D.Uniform(-2.0, 3.0), D.Beta(2.0, 1.5), D.LogNormal(0.0, 1.0)], ids=str
)
def test_the_density_of_a_bounded_or_positive_latent_integrates_to_one(distribution) -> None:
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    site = Site("w", P.Distribution(distribution), ())
    each = torch.func.vmap(lambda u: site.evaluate({"w": u}, {}))(grid)
    assert torch.trapezoid(each.exp(), grid).item() == pytest.approx(1.0, abs=1e-5)


def test_event_dimensions_count_the_log_determinant_once() -> None:
    u = _latent(4, 3)
    lead = scipy.stats.lognorm(0.5).logpdf(u.exp().numpy()).sum() + u.sum().item()
    independent = D.Independent(D.LogNormal(torch.zeros(3), 0.5), 1)
    assert _density(P.Distribution(independent), u)[0].item() == pytest.approx(lead, rel=1e-6)
    whole = D.Independent(D.LogNormal(torch.zeros(4, 3), 0.5), 2)
    assert _density(P.Distribution(whole), u)[0].item() == pytest.approx(lead, rel=1e-6)


def test_a_fixed_covariance_is_scipys_by_either_construction() -> None:
    w = _latent(5, 3)
    expected = (
        scipy.stats.multivariate_normal(np.zeros(3), COVARIANCE.double().numpy()).logpdf(w.numpy()).sum()
    )
    affine = pyro.distributions.transforms.LowerCholeskyAffine(torch.zeros(3), FACTOR)
    mapped = D.TransformedDistribution(D.Independent(D.Normal(torch.zeros(3), 1.0), 1), affine)
    for distribution in (
        D.MultivariateNormal(torch.zeros(3), COVARIANCE),
        pyro.distributions.MultivariateNormal(torch.zeros(3), scale_tril=FACTOR),
        mapped,
    ):
        density, value = _density(P.Distribution(distribution), w)
        assert torch.equal(value, w)
        assert density.item() == pytest.approx(expected, rel=1e-6)


def test_a_scalar_distribution_applies_to_every_element() -> None:
    w = _latent(2, 5)
    expected = scipy.stats.norm(1.0, 2.0).logpdf(w.numpy()).sum()
    assert _density(P.Distribution(D.Normal(1.0, 2.0)), w)[0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "parameter"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_dtype_follows_the_parameter(own: torch.dtype, parameter: torch.dtype) -> None:
    for distribution in (
        D.Normal(torch.zeros(3, dtype=own), torch.ones(3, dtype=own)),
        D.Uniform(torch.zeros(3, dtype=own), torch.ones(3, dtype=own)),
        D.MultivariateNormal(torch.zeros(3, dtype=own), torch.eye(3, dtype=own)),
    ):
        site = Site("w", P.Distribution(distribution), (2, 3))
        latents: dict[str, Tensor] = {}
        site.sample(torch.zeros((), dtype=parameter), torch.Generator().manual_seed(0), latents)
        values: dict[str, Tensor] = {}
        site.evaluate(latents, values)
        assert latents["w"].dtype == values["w"].dtype == parameter
        assert P.Distribution(distribution).log_prob(values["w"]).dtype == parameter


@pytest.mark.parametrize(
    ("distribution", "shape"),
    [
        (D.Normal(torch.zeros(4), 1.0), (4, 3)),
        (D.MultivariateNormal(torch.zeros(3), COVARIANCE), (3,)),
        (D.MultivariateNormal(torch.zeros(3), COVARIANCE), (2, 3)),
    ],
)
def test_shapes_must_fit(distribution: D.Distribution, shape: tuple[int, ...]) -> None:
    prior = P.Distribution(distribution)
    own = tuple(distribution.batch_shape + distribution.event_shape)
    if shape[-len(own) :] == own:
        assert prior.sample(shape, generator=torch.Generator().manual_seed(0)).shape == shape
    else:
        with pytest.raises(ValueError, match=r"batch and event shape \(4,\) given.*\(4, 3\)"):
            Site("w", prior, shape)


@pytest.mark.parametrize(
    "distribution", [D.Bernoulli(0.5), D.Poisson(2.0), D.Categorical(torch.ones(3))], ids=str
)
def test_discrete_distributions_are_refused(distribution: D.Distribution) -> None:
    with pytest.raises(ValueError, match="is discrete, expected a distribution with a density"):
        Site("w", P.Distribution(distribution), (3,))


def test_draws_follow_the_generator_and_leave_the_global_one_alone() -> None:
    prior = P.Distribution(D.Gamma(2.0, 3.0))
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    first, second = (prior.sample((20_000,), generator=generator) for _ in range(2))
    again = prior.sample((20_000,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert scipy.stats.kstest(first.numpy(), scipy.stats.gamma(2.0, scale=1 / 3).cdf).pvalue > ALARM


def test_without_a_generator_draws_come_from_the_global_one_and_differ() -> None:
    prior = P.Distribution(D.Normal(0.0, 1.0))
    assert not torch.equal(prior.sample((5,)), prior.sample((5,)))


def test_pickle_and_copy_keep_the_density() -> None:
    prior = P.Distribution(D.MultivariateNormal(torch.zeros(3), COVARIANCE))
    w = _latent(2, 3)
    for twin in (pickle.loads(pickle.dumps(prior)), copy.deepcopy(prior)):
        assert torch.equal(twin.log_prob(w), prior.log_prob(w))
