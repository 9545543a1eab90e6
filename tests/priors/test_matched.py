"""Families at equal variance, scale rules, bounded weights."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import scipy.stats
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
MATCHED = {
    "normal": (P.Normal, {}, scipy.stats.norm()),
    "laplace": (P.Laplace, {}, scipy.stats.laplace()),
    "logistic": (P.Logistic, {}, scipy.stats.logistic()),
    "student": (P.StudentT, {"df": 3.5}, scipy.stats.t(3.5)),
    "generalized_normal": (P.GeneralizedNormal, {"beta": 0.7}, scipy.stats.gennorm(0.7)),
}


@pytest.mark.parametrize("name", MATCHED)
def test_matched_families_have_the_scale_as_their_standard_deviation(name: str) -> None:
    make, extra, law = MATCHED[name]
    prior = make(loc=0.5, scale=0.8, matched="variance", **extra)
    spread = 0.8 / law.std()
    assert prior.variance() == pytest.approx(0.64)
    w = torch.linspace(-4, 4, 51, dtype=torch.float64)
    expected = torch.as_tensor(law.logpdf((w.numpy() - 0.5) / spread) - math.log(spread))
    torch.testing.assert_close(prior.log_prob(w), expected, rtol=1e-10, atol=1e-10)
    draws = prior.sample((20_000,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert scipy.stats.kstest((draws.numpy() - 0.5) / spread, law.cdf).pvalue > ALARM


def test_matched_families_with_learnt_parameters_keep_their_jacobian() -> None:
    prior = P.StudentT(5.0, 0.0, P.HalfNormal(1.0), matched="variance")
    inner = P.base.substitute(prior, {"centred": False})
    latents = {"w": torch.randn(4, 3, dtype=torch.float64), "w.scale": torch.tensor(0.3, dtype=torch.float64)}
    values: dict[str, torch.Tensor] = {}
    density = Site("w", inner, (4, 3)).evaluate(latents, values)
    outer = Site("w", prior, (4, 3)).evaluate(latents | {"w": values["w"]}, {})
    torch.testing.assert_close(density, outer + 12 * (0.3 + 0.5 * math.log(3 / 5)))
    beta = P.GeneralizedNormal(0.0, 1.0, P.Gamma(2.0, 1.0), matched="variance")
    site = Site("w", beta, (4, 3))
    assert bool(site.evaluate({"w": latents["w"], "w.beta": latents["w.scale"]}, {}).isfinite())


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.Cauchy(matched="variance"),
        lambda: P.StudentT(2.0, matched="variance"),
        lambda: P.StudentT(torch.tensor([3.0, 1.5]), matched="variance"),
        lambda: P.StudentT(P.Gamma(), matched="variance"),
    ],
)
def test_an_infinite_variance_cannot_be_matched(make: Any) -> None:
    with pytest.raises(ValueError, match=r"matched='variance' given.* variance is infinite"):
        make()


def test_only_the_variance_can_be_matched() -> None:
    with pytest.raises(ValueError, match="matched 'entropy' given, expected 'variance' or None"):
        P.Normal(matched="entropy")


def test_matched_tensors_are_evaluated_as_one() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    model = bp.attach(net, P.Laplace(0.0, 0.7, matched="variance"))
    posterior = bp.Posterior(model)
    assert len(posterior._runs) == 1
    torch.testing.assert_close(posterior.log_density(posterior.current()[None])[0], model.log_prior())


@pytest.mark.parametrize(
    ("rule", "shape", "number"),
    [
        (P.fan_out(), (3, 7), 1 / math.sqrt(3)),
        (P.fan_out(2.0), (6, 4, 3, 5), 2 / math.sqrt(6 * 15)),
        (P.fan_out(2.0, count="channels"), (6, 4, 3, 5), 2 / math.sqrt(6)),
        (P.mup("hidden", 2.0), (6, 4, 3, 3), 2 / math.sqrt(36)),
        (P.mup("output"), (3, 64), 1 / 64),
        (P.mup("output", 2.0, base=16), (3, 64), 2 * 4 / 64),
        (P.mup("output", 2.0, base=64), (3, 64), 2 / 8),
    ],
)
def test_scale_rules(rule: P.ScaleRule, shape: tuple[int, ...], number: float) -> None:
    assert rule(shape) == pytest.approx(number, rel=1e-15)
    assert Site("w", P.Laplace(0.0, rule), shape).prior.scale == pytest.approx(number)
    assert pickle.loads(pickle.dumps(rule)) == rule


def _harmonic(shape: tuple[int, ...]) -> float:
    return 1 / sum(shape)


def test_a_function_of_the_shape_is_a_rule() -> None:
    prior = P.Normal(0.0, P.HalfCauchy(_harmonic))
    site = Site("w", prior, (3, 7))
    assert site.prior.scale.scale == pytest.approx(0.1)
    assert pickle.loads(pickle.dumps(prior)).scale.scale == prior.scale.scale
    w = torch.ones(3, 7, dtype=torch.float64)
    torch.testing.assert_close(P.Normal(0.0, _harmonic).log_prob(w), P.Normal(0.0, 0.1).log_prob(w))
    with pytest.raises(ValueError, match=r"'wide' returned for shape \(3,\), expected a finite number"):
        Site("w", P.Normal(0.0, lambda shape: "wide"), (3,))


def test_rules_refuse_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match=r"fan_out has no meaning for a parameter of shape \(5,\)"):
        P.fan_out()((5,))
    with pytest.raises(ValueError, match="mup: role 'input' given, expected 'hidden'"):
        P.mup("input")
    with pytest.raises(ValueError, match="mup: base 0 given"):
        P.mup("output", base=0)


def test_a_bounded_weight_stays_inside_and_has_a_density_in_its_latent() -> None:
    model = bp.attach(
        nn.Linear(12, 5), {"weight": P.Uniform(high=P.fan_in(3**0.5)), "bias": P.Uniform(-1.0, 2.0)}
    )
    prior = model.named_priors()["weight"]
    assert prior.variance() == pytest.approx(1 / 12)
    model.set_latents_({name: 1e4 * torch.randn_like(u) for name, u in model.latents().items()})
    assert bool((model.weights()["weight"].abs() <= 0.5 + 1e-6).all())
    assert math.isfinite(P.Uniform(-3.0, 0.1).log_prob(torch.tensor(0.1)).item())
    site = Site("w", P.Uniform(-1.0, 2.0), ())
    grid = torch.linspace(-30, 30, 4001, dtype=torch.float64)
    density = torch.func.vmap(lambda u: site.evaluate({"w": u}, {}))(grid).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-6)
    assert P.Uniform(-1.0, 2.0).log_prob(torch.tensor([-1.1, 2.1])).tolist() == [-math.inf, -math.inf]


def test_a_uniform_hyperprior_on_a_scale() -> None:
    site = Site("w", P.Normal(0.0, P.Uniform(0.5, 2.0)), (3,))
    latents = {"w": torch.ones(3, dtype=torch.float64), "w.scale": torch.tensor(0.4, dtype=torch.float64)}
    s = 0.5 + 1.5 * scipy.stats.norm.cdf(0.4)
    expected = scipy.stats.norm(0, s).logpdf(1.0) * 3 + scipy.stats.norm.logpdf(0.4)
    assert site.evaluate(latents, {}).item() == pytest.approx(expected, abs=1e-10)
    Site("w", P.Normal(0.0, P.Uniform(0.0, P.fan_in())), (3, 4))
    with pytest.raises(ValueError, match="which allows negative values"):
        P.Normal(0.0, P.Uniform(-0.5, 2.0))


def test_bounds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low 2\.0 and high 1\.0 given, expected low below high"):
        P.Uniform(2.0, 1.0)
    with pytest.raises(TypeError, match="expected a number or a rule"):
        P.Uniform(0.0, torch.ones(3))
    with pytest.raises(ValueError, match="high inf given"):
        P.Uniform(0.0, math.inf)
    with pytest.raises(ValueError, match="attach the prior first"):
        P.Uniform(0.0, P.fan_in()).log_prob(torch.zeros(2, 2))
