"""Mixtures: one component per weight, scale mixtures, learnt weights, and one component per tensor."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
W = torch.linspace(-6, 6, 24, dtype=torch.float64).reshape(2, 3, 4)
PI = (0.2, 0.5, 0.3)
PARTS = (scipy.stats.norm(0.1, 0.5), scipy.stats.laplace(0.0, 1.0), scipy.stats.t(3.0, 1.0, 2.0))


def _mixture(**options: str) -> P.Mixture:
    return P.Mixture([P.Normal(0.1, 0.5), P.Laplace(), P.StudentT(3.0, 1.0, 2.0)], PI, **options)


def _logpdf(w: Tensor, weights: np.ndarray | tuple[float, ...] = PI) -> np.ndarray:
    each = np.stack([part.logpdf(w.numpy()) for part in PARTS], -1)
    return scipy.special.logsumexp(each + np.log(weights), axis=-1)


def test_each_weight_has_the_mixture_density() -> None:
    log_prob = _mixture().log_prob(W)
    torch.testing.assert_close(log_prob, torch.as_tensor(_logpdf(W)), rtol=1e-10, atol=1e-10)
    total, _ = scipy.integrate.quad(
        lambda w: float(_mixture().log_prob(torch.tensor(w).double()).exp()), -np.inf, np.inf, limit=200
    )
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_density_far_in_the_tail_has_its_gradient() -> None:
    w = torch.tensor([200.0, -300.0], dtype=torch.float64, requires_grad=True)
    P.ScaleMixture((0.1, 1.0)).log_prob(w).sum().backward()
    torch.testing.assert_close(w.grad, torch.tensor([-200.0, 300.0], dtype=torch.float64))


def test_gradients_equal_finite_differences() -> None:
    scale = torch.tensor([0.5, 1.0, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(PI, dtype=torch.float64, requires_grad=True)

    def log_prob(w: Tensor, scale: Tensor, weights: Tensor) -> Tensor:
        mixture = P.Mixture([P.Normal(0.1, scale), P.Laplace(), P.StudentT(3.0, 1.0, 2.0)])
        return P.base.substitute(mixture, {"weights": weights}).log_prob(w)

    assert torch.autograd.gradcheck(log_prob, (W.clone().requires_grad_(), scale, weights))


def test_draws_choose_a_component_for_each_weight() -> None:
    draws = _mixture().sample((200, 150), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def cdf(w: np.ndarray) -> np.ndarray:
        return sum(p * part.cdf(w) for p, part in zip(PI, PARTS, strict=True))

    assert scipy.stats.kstest(draws.flatten().numpy(), cdf).pvalue > ALARM
    assert scipy.stats.kstest(draws.flatten().numpy(), PARTS[1].cdf).pvalue < ALARM


def test_weights_for_each_output() -> None:
    """Weights [2, 1, 1, K]: the two outputs are of different components."""
    weights = torch.tensor([[0.999, 0.001], [0.001, 0.999]]).reshape(2, 1, 1, 2)
    mixture = P.Mixture([P.Normal(-100.0, 1.0), P.Normal(100.0, 1.0)], weights)
    draws = mixture.sample((2, 3, 4), generator=torch.Generator().manual_seed(0))
    assert (draws[0] < 0).all()
    assert (draws[1] > 0).all()
    assert bool(mixture.log_prob(draws).isfinite().all())


def test_moments() -> None:
    expected = sum(p * (part.var() + part.mean() ** 2) for p, part in zip(PI, PARTS, strict=True))
    mean = sum(p * part.mean() for p, part in zip(PI, PARTS, strict=True))
    assert _mixture().mean() == pytest.approx(mean)
    assert _mixture().variance() == pytest.approx(expected - mean**2)
    assert P.ScaleMixture((0.1, 2.0), P.Dirichlet(1.0)).variance() == pytest.approx((0.01 + 4) / 2)
    learnt = P.ScaleMixture((0.1, 2.0), P.Dirichlet(torch.tensor([3.0, 1.0])))
    assert learnt.variance() == pytest.approx(0.75 * 0.01 + 0.25 * 4)
    assert P.Mixture([P.Normal(), P.Cauchy()]).variance() == float("inf")


def test_a_spike_and_slab() -> None:
    prior = P.ScaleMixture((0.01, 1.0), (0.9, 0.1))
    expected = np.log(0.9 * scipy.stats.norm(0, 0.01).pdf(W.numpy()) + 0.1 * scipy.stats.norm.pdf(W.numpy()))
    torch.testing.assert_close(prior.log_prob(W), torch.as_tensor(expected), rtol=1e-10, atol=1e-10)
    twin = pickle.loads(pickle.dumps(prior))
    torch.testing.assert_close(twin.log_prob(W), prior.log_prob(W), rtol=0, atol=0)


@pytest.mark.parametrize("extent", ["tensor", "output"])
def test_learnt_weights_and_learnt_scales(extent: str) -> None:
    alpha = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    prior = P.Mixture(
        [P.Normal(0.1, 0.5), P.Laplace(), P.StudentT(3.0, 1.0, P.HalfNormal(1.0).per("input"))],
        P.Dirichlet(alpha).per(extent),
    )
    site = Site("w", prior, (2, 3, 4))
    shapes = {part.name: part.latent_shape for part in site.walk()}
    lead = () if extent == "tensor" else (2, 1, 1)
    assert shapes == {"w": (2, 3, 4), "w.components.2.scale": (1, 3, 1), "w.weights": (*lead, 2)}
    generator = torch.Generator().manual_seed(0)
    latents = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    values: dict[str, Tensor] = {}
    density = site.evaluate(latents, values).item()
    pi = values["w.weights"].numpy()
    assert pi.sum(-1) == pytest.approx(1.0)
    s = latents["w.components.2.scale"].exp().numpy()
    parts = (PARTS[0], PARTS[1], scipy.stats.t(3.0, 1.0, s))
    each = np.stack([part.logpdf(latents["w"].numpy()) for part in parts], -1)
    expected = scipy.special.logsumexp(each + np.log(pi), axis=-1).sum()
    expected += scipy.stats.halfnorm.logpdf(s).sum() + np.log(s).sum()
    stick = torch.distributions.StickBreakingTransform()
    for row, u in zip(pi.reshape(-1, 3), latents["w.weights"].reshape(-1, 2), strict=True):
        expected += scipy.stats.dirichlet(alpha.numpy()).logpdf(row)
        jacobian = torch.autograd.functional.jacobian(lambda v: stick(v)[:-1], u)
        expected += torch.linalg.slogdet(jacobian)[1].item()
    assert density == pytest.approx(expected, abs=1e-9)
    back = {name: u for name, u in latents.items()}
    torch.testing.assert_close(
        site.children["weights"].latent_of(values["w.weights"], back), latents["w.weights"]
    )


def test_learnt_weights_live_in_a_model() -> None:
    prior = P.Mixture([P.Normal(0.0, 0.1), P.Normal(0.0, P.HalfCauchy(1.0).shared("slab"))], P.Dirichlet(1.0))
    model = bp.attach(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), {"*.weight": prior, "*": P.Normal()})
    assert model.layout.dim == 6 + 3 + 3 + 1 + 1 + 1 + 1
    posterior = bp.Posterior(model)
    theta = torch.stack([posterior.sample_prior(torch.Generator().manual_seed(seed)) for seed in range(3)])
    each = torch.cat([posterior.log_density(row[None]) for row in theta])
    torch.testing.assert_close(posterior.log_density(theta), each)
    fixed = bp.attach(nn.Linear(2, 3), {"*": prior})
    assert len(fixed.latents()) == 2 + 3


def test_one_component_for_the_whole_tensor() -> None:
    each = np.stack([part.logpdf(W.numpy()).sum() for part in PARTS], -1)
    expected = scipy.special.logsumexp(each + np.log(PI))
    assert _mixture(selection="tensor").log_prob(W).item() == pytest.approx(expected, abs=1e-10)
    mixture = P.Mixture([P.Normal(-50.0, 1.0), P.Normal(50.0, 1.0)], selection="tensor")
    generator = torch.Generator().manual_seed(0)
    signs = torch.stack([mixture.sample((5,), generator=generator).sign() for _ in range(200)])
    assert (signs == signs[:, :1]).all()
    # a binomial count of 200 fair choices is outside 60 to 140 with probability below 1e-7
    assert 60 <= int((signs[:, 0] > 0).sum()) <= 140


def test_what_does_not_fit_is_refused() -> None:
    normals = [P.Normal(), P.Normal(0.0, 2.0)]
    with pytest.raises(ValueError, match="1 components given, expected two or more"):
        P.Mixture([P.Normal()])
    with pytest.raises(ValueError, match=r"weights of shape \(3,\) given for 2 components"):
        P.Mixture(normals, (0.2, 0.2, 0.6))
    with pytest.raises(
        ValueError, match=r"weights \(0\.2, 0\.2\) given, expected positive numbers that sum to one"
    ):
        P.Mixture(normals, (0.2, 0.2))
    with pytest.raises(ValueError, match=r"weights have the prior Gamma.*such as Dirichlet"):
        P.Mixture(normals, P.Gamma())
    with pytest.raises(ValueError, match="is non-centred, but a mixed weight"):
        P.Mixture([P.Normal(), P.Normal(centred=False)])
    with pytest.raises(ValueError, match="different supports given"):
        P.Mixture([P.Normal(), P.HalfNormal()])
    with pytest.raises(ValueError, match="selection 'layer' given"):
        P.Mixture(normals, selection="layer")
    with pytest.raises(ValueError, match=r"expected weights for the whole tensor"):
        Site("w", P.Mixture(normals, P.Dirichlet().per("output"), selection="tensor"), (3, 2))
    with pytest.raises(ValueError, match="expected elementwise ones"):
        P.Mixture([P.Normal(), P.CorrelatedNormal()]).log_prob(torch.zeros(2, 2, 3, 3))
    with pytest.raises(ValueError, match=r"weights of shape \(5, 1, 2\) given, expected one set"):
        Site("w", P.Mixture(normals, torch.full((5, 1, 2), 0.5)), (3, 2))
    with pytest.raises(TypeError, match="weights have a prior"):
        P.Mixture(normals, P.Dirichlet()).log_prob(W)


def test_a_scale_mixture_has_a_non_centred_form() -> None:
    """The latent is w over the largest scale; the density of the latent is that of the weight times the scale."""
    prior = P.ScaleMixture((P.fan_in(0.5), P.fan_in(2.0)), (0.8, 0.2), centred=False)
    net = nn.Linear(16, 3, bias=False).double()
    weight = net.weight.detach().clone()
    model = bp.attach(net, prior)
    (latent,) = model.latents().values()
    torch.testing.assert_close(latent, weight / 0.5)
    torch.testing.assert_close(model.weights()["weight"], weight)
    expected = P.ScaleMixture((0.125, 0.5), (0.8, 0.2)).log_prob(weight).sum() + weight.numel() * math.log(
        0.5
    )
    torch.testing.assert_close(model.log_prior(), expected)
    with pytest.raises(ValueError, match="expected numbers or rules"):
        P.ScaleMixture((0.1, P.HalfNormal(1.0)), centred=False)
