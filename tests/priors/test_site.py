"""Joint densities of a tensor and the hyperparameters above it, in the space of the unconstrained latents."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from scipy.stats import gamma, halfcauchy, halfnorm, norm
from torch import Tensor

from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
W = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]], dtype=torch.float64)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _evaluate(prior: P.Prior, **latents: float | Tensor) -> tuple[float, dict[str, Tensor]]:
    """The density at latents named `w`, `w_scale` for `w.scale` and so on; the values with it."""
    site = Site("w", prior, (2, 3))
    given = {
        name.replace("_", "."): value if isinstance(value, Tensor) else _number(value)
        for name, value in latents.items()
    }
    assert {part.name for part in site.walk()} == set(given)
    values: dict[str, Tensor] = {}
    density = site.evaluate(given, values)
    assert (density.dtype, density.shape) == (torch.float64, ())
    assert set(values) == set(given)
    return density.item(), values


def test_centred_scale() -> None:
    u = 0.4
    density, values = _evaluate(P.Normal(0.5, P.HalfCauchy(2.0)), w=W, w_scale=u)
    s = math.exp(u)
    expected = norm(0.5, s).logpdf(W.numpy()).sum() + halfcauchy(scale=2.0).logpdf(s) + u
    assert density == pytest.approx(expected, abs=1e-10)
    assert torch.equal(values["w"], W)
    assert values["w.scale"].item() == pytest.approx(s)


def test_non_centred_scale() -> None:
    u = 0.4
    density, values = _evaluate(P.Normal(0.5, P.HalfCauchy(2.0), centred=False), w=W, w_scale=u)
    s = math.exp(u)
    expected = norm.logpdf(W.numpy()).sum() + halfcauchy(scale=2.0).logpdf(s) + u
    assert density == pytest.approx(expected, abs=1e-10)
    torch.testing.assert_close(values["w"], 0.5 + s * W)


@pytest.mark.parametrize("family", [P.Normal, P.Laplace, P.StudentT])
def test_centred_and_non_centred_forms_differ_by_their_jacobian(family: type[P.LocationScale]) -> None:
    hyper = {"loc": P.Normal(0.0, 2.0), "scale": P.Gamma(2.0, 1.0)}
    u, loc = -0.7, 0.25
    latents = {"w_scale": u, "w_loc": loc}
    inner, values = _evaluate(family(**hyper, centred=False), w=W, **latents)
    outer, _ = _evaluate(family(**hyper), w=values["w"], **latents)
    assert inner == pytest.approx(outer + W.numel() * u, abs=1e-10)


def test_every_parameter_may_have_a_prior() -> None:
    prior = P.StudentT(P.Gamma(2.0, 0.5), P.Normal(0.0, 3.0), P.HalfNormal(1.5))
    df, loc, scale = 1.1, -0.3, -0.6
    density, _ = _evaluate(prior, w=W, w_df=df, w_loc=loc, w_scale=scale)
    expected = (
        scipy.stats.t(math.exp(df), loc, math.exp(scale)).logpdf(W.numpy()).sum()
        + gamma(2.0, scale=2.0).logpdf(math.exp(df)) + df
        + norm(0.0, 3.0).logpdf(loc)
        + halfnorm(scale=1.5).logpdf(math.exp(scale)) + scale
    )  # fmt: skip
    assert density == pytest.approx(expected, abs=1e-10)


def test_priors_above_priors() -> None:
    prior = P.Laplace(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0)))
    u, v = 0.2, -0.5
    density, values = _evaluate(prior, w=W, w_scale=u, w_scale_scale=v)
    expected = (
        scipy.stats.laplace(0, math.exp(u)).logpdf(W.numpy()).sum()
        + halfcauchy(scale=math.exp(v)).logpdf(math.exp(u)) + u
        + gamma(2.0).logpdf(math.exp(v)) + v
    )  # fmt: skip
    assert density == pytest.approx(expected, abs=1e-10)
    assert values["w.scale.scale"].item() == pytest.approx(math.exp(v))


def test_a_non_centred_hyperprior() -> None:
    prior = P.Normal(P.Normal(1.0, P.HalfNormal(1.0), centred=False), 0.5)
    z, u = 0.8, 0.3
    density, values = _evaluate(prior, w=W, w_loc=z, w_loc_scale=u)
    loc = 1.0 + math.exp(u) * z
    expected = norm(loc, 0.5).logpdf(W.numpy()).sum() + norm.logpdf(z) + halfnorm.logpdf(math.exp(u)) + u
    assert density == pytest.approx(expected, abs=1e-10)
    assert values["w.loc"].item() == pytest.approx(loc)


def test_a_constrained_weight_with_a_hyperprior() -> None:
    density, values = _evaluate(P.HalfCauchy(P.Gamma(2.0, 1.0)), w=W, w_scale=-0.2)
    s = math.exp(-0.2)
    expected = halfcauchy(scale=s).logpdf(W.exp().numpy()).sum() + W.sum().item() + gamma(2.0).logpdf(s) - 0.2
    assert density == pytest.approx(expected, abs=1e-10)
    torch.testing.assert_close(values["w"], W.exp())


class Above(P.Prior):
    """exp(−(w − 1)) for w > 1: a user's own support."""

    support = torch.distributions.constraints.greater_than(1.0)

    def log_prob(self, w: Tensor) -> Tensor:
        return -(w - 1.0)


def test_a_users_own_support() -> None:
    density, values = _evaluate(Above(), w=W)
    torch.testing.assert_close(values["w"], 1 + W.exp())
    assert density == pytest.approx((W - W.exp()).sum().item(), abs=1e-10)


@pytest.mark.parametrize(
    "prior",
    [
        P.Normal(0.5, P.HalfCauchy(P.Gamma(2.0, 1.0))),
        P.StudentT(P.Gamma(), P.Normal(), P.HalfNormal(), centred=False),
        P.HalfCauchy(P.Gamma()),
    ],
)
def test_gradients_equal_finite_differences(prior: P.Prior) -> None:
    site = Site("w", prior, (2, 3))
    names = [part.name for part in site.walk()]
    latents = [W.clone().requires_grad_(), *(_number(0.3).requires_grad_() for _ in names[1:])]
    assert torch.autograd.gradcheck(
        lambda *given: site.evaluate(dict(zip(names, given, strict=True)), {}), tuple(latents)
    )


@pytest.mark.parametrize("centred", [True, False])
def test_draws_come_from_the_joint(centred: bool) -> None:
    """log-scale latents and standardised weights against their exact laws; n = 1000 scales, 1000 × 8 weights."""
    site = Site("w", P.Laplace(1.0, P.Gamma(2.0, 3.0), centred=centred), (8,))
    generator = torch.Generator().manual_seed(0)
    scales, weights = [], []
    for _ in range(1000):
        latents: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        site.sample(_number(0.0), generator, latents)
        site.evaluate(latents, values)
        scales.append(values["w.scale"].item())
        weights += ((values["w"] - 1.0) / values["w.scale"]).tolist()
    assert scipy.stats.kstest(scales, gamma(2.0, scale=1 / 3).cdf).pvalue > ALARM
    assert scipy.stats.kstest(weights, scipy.stats.laplace().cdf).pvalue > ALARM


def test_the_gamma_latent_has_mean_two() -> None:
    """The density of u integrates exp(u) to the Gamma(2, 1) mean 2; without the Jacobian it would be 1."""
    site = Site("w", P.Gamma(2.0, 1.0), ())
    grid = torch.linspace(-20, 6, 5001, dtype=torch.float64)
    density = torch.func.vmap(lambda u: site.evaluate({"w": u}, {}))(grid).exp()
    assert torch.trapezoid(density * grid.exp(), grid).item() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize(
    "prior",
    [P.Normal(0.5, P.HalfNormal()), P.Normal(0.5, P.HalfNormal(), centred=False), P.HalfNormal(), Above()],
)
def test_latent_of_is_the_inverse(prior: P.Prior) -> None:
    site = Site("w", prior, (2, 3))
    given = {part.name: W if part.name == "w" else _number(0.6) for part in site.walk()}
    values: dict[str, Tensor] = {}
    site.evaluate(given, values)
    latent = site.latent_of(values["w"], given)
    assert latent is not None
    torch.testing.assert_close(latent, W)


def test_values_outside_the_support_have_no_latent() -> None:
    assert Site("w", P.HalfNormal(), (2, 3)).latent_of(W, {"w": W}) is None
    assert Site("w", P.Gamma(), (2,)).latent_of(torch.tensor([0.0, 1.0]), {}) is None


def test_an_improper_prior_keeps_its_latent() -> None:
    latents = {"w": W}
    site = Site("w", P.Improper(), (2, 3))
    site.sample(W, None, latents)
    assert latents["w"] is W
    assert site.evaluate(latents, {}).item() == 0.0
