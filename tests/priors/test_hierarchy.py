"""Hyperparameters per output, input, filter and weight, and shared by several tensors: shapes, densities, draws."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
CONV = (4, 3, 2, 5)
GRIDS = {"tensor": (), "output": (4, 1, 1, 1), "input": (1, 3, 1, 1), "filter": (4, 3, 1, 1), "weight": CONV}


def _latents(site: Site, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        part.name: torch.randn(part.latent_shape, generator=generator, dtype=torch.float64)
        for part in site.walk()
    }


@pytest.mark.parametrize("extent", GRIDS)
@pytest.mark.parametrize("centred", [True, False])
def test_a_scale_for_each_part(extent: str, centred: bool) -> None:
    site = Site("w", P.Normal(0.5, P.HalfCauchy(2.0).per(extent), centred=centred), CONV)
    latents = _latents(site)
    assert latents["w.scale"].shape == GRIDS[extent]
    values: dict[str, Tensor] = {}
    density = site.evaluate(latents, values).item()
    s = latents["w.scale"].exp()
    expected = scipy.stats.halfcauchy(scale=2.0).logpdf(s.numpy()).sum() + latents["w.scale"].sum().item()
    if centred:
        expected += scipy.stats.norm(0.5, s.expand(CONV).numpy()).logpdf(latents["w"].numpy()).sum()
    else:
        expected += scipy.stats.norm.logpdf(latents["w"].numpy()).sum()
        torch.testing.assert_close(values["w"], 0.5 + s * latents["w"])
    assert density == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("family", [P.HalfNormal, P.HalfCauchy])
def test_a_non_centred_positive_hyperprior_is_the_centred_one_in_other_latents(family: Any) -> None:
    """log s = log(parent) + u, a shift of unit Jacobian, so the densities are equal."""
    made = [
        Site("w", P.Normal(0.0, family(P.Gamma(2.0, 1.0), centred=c).per("input")), (3, 2))
        for c in (True, False)
    ]
    latents = _latents(made[1])
    values: dict[str, Tensor] = {}
    inner = made[1].evaluate(latents, values)
    outer = made[0].evaluate(latents | {"w.scale": values["w.scale"].log()}, {})
    torch.testing.assert_close(inner, outer)
    torch.testing.assert_close(values["w.scale"], latents["w.scale.scale"].exp() * latents["w.scale"].exp())


def test_three_levels_of_different_extent() -> None:
    prior = P.Laplace(0.0, P.HalfNormal(P.HalfCauchy(P.Gamma(2.0, 1.0)).per("input")).per("weight"))
    site = Site("w", prior, (3, 2))
    latents = _latents(site)
    assert {name: tuple(u.shape) for name, u in latents.items()} == {
        "w": (3, 2), "w.scale": (3, 2), "w.scale.scale": (1, 2), "w.scale.scale.scale": ()
    }  # fmt: skip
    s, t, v = (latents[f"w{'.scale' * depth}"].exp().numpy() for depth in (1, 2, 3))
    expected = (
        scipy.stats.laplace(0, s).logpdf(latents["w"].numpy()).sum()
        + scipy.stats.halfnorm(scale=t + 0 * s).logpdf(s).sum()
        + scipy.stats.halfcauchy(scale=v).logpdf(t).sum()
        + scipy.stats.gamma(2.0).logpdf(v)
        + sum(latents[f"w{'.scale' * depth}"].sum().item() for depth in (1, 2, 3))
    )
    assert site.evaluate(latents, {}).item() == pytest.approx(expected, abs=1e-9)


def test_extents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"per: 'column' given, expected one of 'tensor', 'output'"):
        P.HalfNormal().per("column")
    with pytest.raises(
        ValueError, match=r"\.per\('input'\) given for a tensor of shape \(4,\), expected \[out, in"
    ):
        Site("b", P.Normal(0.0, P.HalfNormal().per("input")), (4,))
    with pytest.raises(ValueError, match=r"\.per\('output'\) given for a tensor of shape \(\)"):
        bp.likelihoods.Gaussian(P.HalfNormal(P.HalfNormal().per("output")))
    finer = P.Normal(0.0, P.HalfNormal(P.HalfNormal().per("input")).per("output"))
    with pytest.raises(ValueError, match=r"w\.scale: scale has a prior \.per\('input'\), of shape \(1, 3\)"):
        Site("w", finer, (4, 3))
    for prior in (P.Normal().per("output"), P.Normal().shared("a")):
        with pytest.raises(ValueError, match=r"given as the prior of a tensor, but per\(\) and shared\(\)"):
            bp.attach(nn.Linear(3, 2), prior)
    with pytest.raises(ValueError, match="an empty name given"):
        P.HalfNormal().shared("")


def test_per_and_shared_are_told_and_change_nothing_in_place() -> None:
    plain = P.HalfCauchy(1.0)
    marked = plain.per("output").shared("unit")
    assert repr(marked) == "HalfCauchy(scale=1.0, centred=True).per('output').shared('unit')"
    assert (plain.extent, plain.shared_as) == ("tensor", None)
    assert repr(pickle.loads(pickle.dumps(marked))) == repr(marked)


def _shared_model(dtype: torch.dtype = torch.float64) -> bp.BayesianModule:
    """Unit scales of the hidden layer on its weights, its biases and its outgoing weights; one global scale for all."""
    unit = P.HalfCauchy(P.HalfCauchy(2.0).shared("tau"), centred=False)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    return bp.attach(
        net,
        {
            "0.*": P.Normal(0.0, unit.per("output").shared("unit")),
            "2.weight": P.Normal(0.0, unit.per("input").shared("unit"), centred=False),
            "2.bias": P.Laplace(0.0, P.HalfCauchy(2.0).shared("tau")),
        },
    )


def test_a_shared_hyperparameter_has_one_latent_and_is_counted_once() -> None:
    model = _shared_model()
    assert list(model.latents()) == ["0.weight", "0.bias", "2.weight", "2.bias", "shared.unit", "shared.tau"]
    assert model.layout.dim == 12 + 4 + 8 + 2 + 4 + 1
    generator = torch.Generator().manual_seed(0)
    latents = {
        name: torch.randn(u.shape, generator=generator, dtype=torch.float64)
        for name, u in model.latents().items()
    }
    tau, ratio = latents["shared.tau"].exp(), latents["shared.unit"].exp()
    s = (tau * ratio).numpy()
    expected = (
        scipy.stats.norm(0, s[:, None]).logpdf(latents["0.weight"].numpy()).sum()
        + scipy.stats.norm(0, s).logpdf(latents["0.bias"].numpy()).sum()
        + scipy.stats.norm.logpdf(latents["2.weight"].numpy()).sum()
        + scipy.stats.laplace(0, tau.item()).logpdf(latents["2.bias"].numpy()).sum()
        + scipy.stats.halfcauchy.logpdf(ratio.numpy()).sum() + latents["shared.unit"].sum().item()
        + scipy.stats.halfcauchy(scale=2.0).logpdf(tau.item()) + latents["shared.tau"].item()
    )  # fmt: skip
    assert model.log_prior(latents).item() == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(model.weights(latents)["2.weight"], torch.as_tensor(s) * latents["2.weight"])
    posterior = bp.Posterior(model)
    theta = posterior.layout.pack(latents)[None]
    assert posterior.log_density(theta).item() == pytest.approx(expected, abs=1e-9)


def test_shared_models_survive_state_dict_pickle_and_copy() -> None:
    model, x = _shared_model(), torch.ones(2, 3, dtype=torch.float64)
    model.sample_prior_(torch.Generator().manual_seed(1))
    other = _shared_model()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    assert {"hyper.shared/unit", "hyper.shared/tau"} <= set(model.state_dict())
    other.load_state_dict(torch.load(file))
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)
        torch.testing.assert_close(twin.log_prior(), model.log_prior(), rtol=0, atol=0)


def test_chains_of_a_shared_model_are_evaluated_together() -> None:
    posterior = bp.Posterior(_shared_model(torch.float32))
    theta = torch.stack([posterior.sample_prior(torch.Generator().manual_seed(seed)) for seed in range(3)])
    each = torch.cat([posterior.log_density(row[None]) for row in theta])
    torch.testing.assert_close(posterior.log_density(theta), each)
    draws = bp.sample(
        posterior,
        bp.samplers.HMC(step_size=0.05, num_steps=3),
        num_samples=4,
        num_warmup=0,
        num_chains=2,
        seed=0,
    )
    assert draws["shared.unit"].shape == (2, 4, 4)
    assert draws["2.weight"].shape == (2, 4, 2, 4)


def test_draws_of_shared_hyperparameters_come_from_the_joint() -> None:
    """1000 draws: the ratios to the levels above them have their standard laws. Shared latents are drawn once."""
    model = _shared_model()
    generator = torch.Generator().manual_seed(0)
    ratios, taus, first, second, bias = [], [], [], [], []
    for _ in range(1000):
        values, _ = model.values(model.sample_prior(generator))
        tau, unit = values["shared.tau"], values["shared.unit"]
        ratios.append(unit / tau)
        taus.append(tau)
        first.append((values["0.weight"] / unit[:, None]).flatten())
        second.append((values["2.weight"] / unit).flatten())
        bias.append(values["2.bias"] / tau)
    for sample, law in (
        (torch.cat(ratios), scipy.stats.halfcauchy),
        (torch.stack(taus), scipy.stats.halfcauchy(scale=2.0)),
        (torch.cat(first), scipy.stats.norm),
        (torch.cat(second), scipy.stats.norm),
        (torch.cat(bias), scipy.stats.laplace),
    ):
        assert scipy.stats.kstest(sample.numpy(), law.cdf).pvalue > ALARM


def test_sharing_that_does_not_fit_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"shared\.s has shape \(2,\) here and \(4,\) in another prior"):
        bp.attach(net, P.Normal(0.0, P.HalfNormal().per("output").shared("s")))
    priors = {
        "0.*": P.Normal(0.0, P.HalfNormal().shared("s")),
        "1.*": P.Normal(0.0, P.HalfCauchy().shared("s")),
    }
    with pytest.raises(ValueError, match=r"prior HalfCauchy.* here and HalfNormal.* in another prior"):
        bp.attach(net, priors)
    with pytest.raises(ValueError, match="a rule such as fan_in gives each tensor its own number"):
        bp.attach(net, {"*.weight": P.Normal(0.0, P.HalfNormal(P.fan_in()).shared("s")), "*": P.Normal()})


def test_attaching_a_shared_prior_keeps_the_network() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        net[2].weight.neg_()
    x = torch.ones(2, 3)
    expected = net(x)
    model = bp.attach(net, P.StudentT(3.0, 0.0, P.HalfNormal().shared("s"), centred=False))
    torch.testing.assert_close(model(x), expected)
    assert math.isfinite(model.log_prior().item())


@pytest.mark.parametrize(
    ("prior", "mean", "variance"),
    [
        (P.Normal(0.5, P.Gamma(2.0, 4.0)), 0.5, 2 / 16 + 0.25),
        (P.Laplace(P.Normal(1.0, 3.0), P.HalfNormal(2.0)), 1.0, 2 * 4 + 9),
        (P.Laplace(0.0, P.HalfNormal(2.0), matched="variance"), 0.0, 4.0),
        (P.Normal(0.0, P.HalfCauchy(1.0)), 0.0, math.inf),
        (P.StudentT(P.Gamma(), 0.0, 1.0), math.nan, math.inf),
        (P.Normal(0.0, P.InverseGamma(3.0, 2.0)), 0.0, 1.0 + 1.0),
        (P.Normal(0.0, P.LogNormal(0.0, 0.5)), 0.0, math.exp(2 * 0.25)),
        (P.HalfNormal(P.Uniform(0.0, 3.0)), 1.5 * math.sqrt(2 / math.pi), 3 - 2.25 * 2 / math.pi),
    ],
)
def test_moments_integrate_the_hyperparameters_out(prior: P.Prior, mean: float, variance: float) -> None:
    assert prior.mean() == pytest.approx(mean, nan_ok=True)
    assert float(prior.variance()) == pytest.approx(variance)


def test_moments_that_are_not_known_say_so() -> None:
    with pytest.raises(NotImplementedError, match="under a prior on rate; estimate it from draws"):
        P.Gamma(2.0, P.Gamma()).variance()
    with pytest.raises(ValueError, match=r"scale is a rule, whose number depends on the tensor; attach"):
        P.Normal(0.0, P.fan_in()).variance()
    model = bp.attach(nn.Linear(4, 2), {"weight": P.Laplace(0.0, P.fan_in()), "bias": P.Normal()})
    assert model.named_priors()["weight"].variance() == pytest.approx(2 / 4)
