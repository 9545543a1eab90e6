"""Funnels: where one is possible, what a run that met one looks like, and that the non-centred form has none."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.evaluation import Diagnostics, convergence, summary
from bnnpriors.evaluation.funnels import energy_information
from bnnpriors.priors.funnel import possible_funnels, remedy

from .fakes import normal_tensor

ALARM = 1e-6
CHAINS, DRAWS = 4, 500
NEAL = 1.5  # Neal's funnel: nine weights of variance e^v, v ~ N(0, 3²), so log s = v/2 ~ N(0, 1.5²)


class Weights(nn.Module):
    """A module of nine weights."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(9, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w[:, None]


def neal(centred: bool, seed: int = 0) -> bp.Draws:
    """Draws of Neal's funnel by HMC, the budget the same for both forms."""
    model = bp.attach(Weights(), P.Normal(0.0, P.LogNormal(0.0, NEAL), centred=centred))
    sampler = bp.samplers.HMC(step_size=0.1, num_steps=3, jitter=0.5, target_acceptance=0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bp.FunnelWarning)
        return bp.sample(
            bp.Posterior(model), sampler, num_samples=400, num_warmup=200, num_chains=8, seed=seed,
            progress=False, compile=False,
        )  # fmt: skip


def said(report: Diagnostics) -> list[str]:
    return [warning for warning in report.warnings if warning.startswith("A funnel")]


def test_neals_funnel_is_sampled_in_the_non_centred_form_and_named_in_the_centred_one() -> None:
    """Over seeds 0 to 4 R̂ of log s was at most 1.004 non-centred and at least 1.45 centred, E-BFMI at least 0.86 and at
    most 0.14. The Kolmogorov-Smirnov tests have alarm 1e-6.
    """
    good, bad = neal(False), neal(True)
    figures = convergence(good["w.scale"].log())
    assert figures.rhat[0] < 1.01
    assert convergence(bad["w.scale"].log()).rhat[0] > 1.1
    healthy, report = good.summary(), bad.summary()
    assert healthy.funnels == []
    assert not said(healthy)
    assert report.funnels == ["w.scale"]
    assert report.figures["bfmi"] < 0.3 < healthy.figures["bfmi"]
    (warning,) = said(report)
    assert "the centred weights w are too narrow" in warning
    assert "w.scale (over a factor of" in warning
    assert "give the prior of w centred=False" in warning
    thinned = good["w.scale"].log()[:, ::5].flatten().numpy()
    assert stats.kstest(thinned, stats.norm(0.0, NEAL).cdf).pvalue > ALARM
    thinned = (good["w"] / good["w.scale"][..., None])[:, ::5].flatten().numpy()
    assert stats.kstest(thinned, stats.norm.cdf).pvalue > ALARM


def _network_report(centred: bool, seed: int = 0) -> Diagnostics:
    """Five data under noise of scale 1, and one scale for the 20 weights of the last layer."""
    net = bp.models.mlp(1, 1, hidden=(20,), activation="tanh").double()
    last = P.Normal(0.0, P.HalfNormal(0.5), centred=centred)
    model = bp.attach(net, {"2.weight": last, "*": P.Normal(0.0, 1.0)})
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    y = 0.5 * torch.sin(2 * x) + 0.2 * normal_tensor(5, 1)
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(1.0), x, y)
    sampler = bp.samplers.HMC(step_size=0.05, num_steps=8, jitter=0.5, target_acceptance=0.9)
    draws = bp.sample(
        posterior, sampler, num_samples=1000, num_warmup=400, num_chains=8, seed=seed, progress=False, compile=False
    )  # fmt: skip
    report = draws.summary(torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None])
    report.figures["rhat_scale"] = float(convergence(draws["2.weight.scale"].log()).rhat[0])
    return report


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bnnpriors.FunnelWarning")
def test_a_network_with_few_data_converges_in_the_non_centred_form_alone() -> None:
    """Over seeds 0 to 2 R̂ of the scale was at most 1.004 non-centred and at least 1.22 centred, that of the predictions at most
    1.003 non-centred; centred it is about 1.01, since the data pin the predictions down.
    """
    good, bad = _network_report(False), _network_report(True)
    assert good.figures["rhat_scale"] < 1.01 < 1.1 < bad.figures["rhat_scale"]
    assert good.figures["rhat_predictions"] < 1.01
    assert (good.funnels, bad.funnels) == ([], ["2.weight.scale"])
    assert not said(good)
    assert "give the prior of 2.weight centred=False" in said(bad)[0]


def fake_funnel(log_scale: Tensor, dtype: torch.dtype = torch.float64, **figures: Tensor) -> Any:
    """Draws [chains, draws] of log s, with weights under it."""
    model = bp.attach(Weights(dtype), P.Normal(0.0, P.HalfNormal()))
    weights = log_scale.exp()[..., None] * normal_tensor(*log_scale.shape, 9, seed=9)
    return SimpleNamespace(
        theta=torch.cat([weights, log_scale[..., None]], -1).to(dtype), stats=figures, layout=model.layout,
        temperatures=torch.ones(len(log_scale)), sites=model.sites,
    )  # fmt: skip


def test_a_scale_that_is_pinned_down_or_well_sampled_is_no_funnel() -> None:
    assert summary(fake_funnel(normal_tensor(CHAINS, DRAWS))).funnels == []
    shifted = 0.2 * normal_tensor(CHAINS, DRAWS) + 0.2 * torch.arange(CHAINS)[:, None]
    report = summary(fake_funnel(shifted))
    assert report.figures["rhat_weights"] > 1.1
    assert report.funnels == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_sign_of_a_funnel(dtype: torch.dtype) -> None:
    log_scale = normal_tensor(CHAINS, DRAWS)
    slow = summary(fake_funnel(5 * log_scale + torch.arange(CHAINS)[:, None] * 5, dtype))
    assert "R̂ " in said(slow)[0]
    flat = summary(fake_funnel(log_scale, dtype, energy=normal_tensor(CHAINS, DRAWS, seed=1).cumsum(1)))
    assert "missing information is 0.0" in said(flat)[0]
    in_neck = summary(fake_funnel(log_scale, dtype, divergent=log_scale < -2))
    assert "divergent where it is small" in said(in_neck)[0]
    anywhere = normal_tensor(CHAINS, DRAWS, seed=2) < -2
    assert summary(fake_funnel(log_scale, dtype, divergent=anywhere)).funnels == []
    few = torch.zeros(CHAINS, DRAWS, dtype=torch.bool)
    few[0, log_scale[0].argmin()] = True
    assert summary(fake_funnel(log_scale, dtype, divergent=few)).funnels == []
    one = summary(fake_funnel(log_scale[:1].cumsum(1), dtype))
    assert "ESS" in said(one)[0]
    assert "R̂" not in said(one)[0]


def test_scales_that_underflow_and_mixed_temperatures() -> None:
    log_scale = 5 * normal_tensor(CHAINS, DRAWS)
    log_scale[0, :100] = -1000.0
    assert summary(fake_funnel(log_scale)).funnels in ([], ["w.scale"])
    draws = fake_funnel(normal_tensor(CHAINS, DRAWS).cumsum(1))
    assert summary(draws).funnels == ["w.scale"]
    draws.temperatures = torch.tensor([0.1, 0.1, 1.0, 1.0])
    assert summary(draws).funnels == []


def test_energy_information_is_that_of_its_formula() -> None:
    """White noise has 2, up to 5 standard errors of about √(8/n); a random walk has nearly none."""
    energy = normal_tensor(CHAINS, 4000).numpy()
    steps = np.diff(energy, axis=1)
    expected = (steps**2).sum(1) / ((energy - energy.mean(1, keepdims=True)) ** 2).sum(1)
    np.testing.assert_allclose(energy_information(energy), expected, rtol=1e-3)
    np.testing.assert_allclose(expected, 2.0, atol=5 * math.sqrt(8 / 4000))
    assert (energy_information(energy.cumsum(1)) < 0.02).all()
    assert np.isnan(energy_information(energy[:, :3])).all()
    assert np.isnan(energy_information(np.ones((2, 9)))).all()


class Width(P.Prior):
    """A user's prior, whose parameter of another name is its scale."""

    widths = ("spread",)

    def __init__(self, spread: object) -> None:
        self.spread = spread

    def log_prob(self, w: Tensor) -> Tensor:
        return -0.5 * (w / self.spread) ** 2 - torch.as_tensor(self.spread).log()


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (P.Normal(0.0, P.HalfCauchy()), ["w.scale"]),
        (P.Normal(0.0, P.HalfCauchy(), centred=False), []),
        (P.Normal(P.Normal(0.0, P.HalfNormal()), 1.0), ["w.loc.scale"]),
        (P.StudentT(P.Gamma(), 0.0, 1.0), []),
        (P.Laplace(0.0, P.HalfNormal(P.HalfCauchy()), centred=False), []),
        (P.Normal(0.0, P.LogNormal(0.0, P.HalfNormal()), centred=False), ["w.scale.scale"]),
        (P.Horseshoe(), []),
        (P.Horseshoe(centred=True), ["w.scale"]),
        (P.RegularizedHorseshoe(centred=True), ["w.local", "w.slab"]),
        (P.ScaleMixture((0.1, 1.0), P.Dirichlet(1.0)), []),
        (P.Mixture([P.Normal(), P.StudentT(P.Gamma(), 0.0, P.HalfNormal())]), ["w.components.1.scale"]),
        (Width(P.HalfNormal()), ["w.spread"]),
    ],
)
def test_where_a_funnel_is_possible(prior: P.Prior, expected: list[str]) -> None:
    found = possible_funnels(bp.attach(Weights(), {"w": prior}).sites)
    assert [funnel.scale.name for funnel in found] == expected
    for funnel in found:
        centred_only = isinstance(prior, (P.Mixture, Width))
        assert funnel.can_change is not centred_only
        assert ("centred=False" in remedy([funnel])) is not centred_only
        assert ("LogNormal" in remedy([funnel])) is centred_only


def test_a_shared_scale_is_one_funnel_with_all_its_tensors() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    (funnel,) = possible_funnels(bp.attach(net, P.Normal(0.0, P.HalfNormal().shared("s"))).sites)
    assert (funnel.scale.name, funnel.num_weights) == ("shared.s", 12)
    assert funnel.tensors == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_sampling_hints_at_a_funnel_where_data_are_few() -> None:
    def sampled(num_data: int, centred: bool) -> list[str]:
        x = torch.ones(num_data, 9, dtype=torch.float64)
        model = bp.attach(Weights(), P.Normal(0.0, P.HalfNormal(), centred=centred))
        posterior = bp.Posterior(model, bp.likelihoods.Gaussian(1.0), x, x[:, :1])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            draws = bp.sample(
                posterior, bp.samplers.HMC(0.01, 1), num_samples=1, num_chains=1, progress=False
            )
        assert [site.name for site in draws.sites] == ["w"]
        return [str(w.message) for w in caught if issubclass(w.category, bp.FunnelWarning)]

    (hint,) = sampled(8, centred=True)
    assert "w.scale: a prior on the scale of centred weights" in hint
    assert "more than data (8)" in hint
    assert "give the prior of w centred=False" in hint
    assert sampled(9, centred=True) == sampled(8, centred=False) == []
