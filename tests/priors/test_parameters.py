"""How a prior's parameters are given: numbers, tensors, fan-in rules, other priors; and what is refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from bnnpriors import priors as P
from bnnpriors.checks import check_prior
from bnnpriors.priors.base import draw, resolve
from bnnpriors.priors.site import Site


@pytest.mark.parametrize(
    ("shape", "count", "inputs"),
    [
        (nn.Linear(7, 3).weight.shape, "all", 7),
        (nn.Linear(7, 3).weight.shape, "channels", 7),
        (nn.Conv2d(4, 6, 3).weight.shape, "all", 4 * 9),
        (nn.Conv2d(4, 6, 3).weight.shape, "channels", 4),
        (nn.Conv2d(4, 6, (3, 5), groups=2).weight.shape, "all", 2 * 15),
        (nn.Conv1d(4, 6, 5).weight.shape, "all", 4 * 5),
    ],
)
def test_fan_in_counts_taps_unless_asked_for_channels(shape: torch.Size, count: str, inputs: int) -> None:
    rule = P.fan_in(gain=2**0.5, count=count)
    assert rule(shape) == pytest.approx(math.sqrt(2 / inputs), rel=1e-15)
    prior = P.StudentT(3.0, 0.0, rule)
    w = torch.linspace(-1, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
    torch.testing.assert_close(prior.log_prob(w), P.StudentT(3.0, 0.0, rule(shape)).log_prob(w))


def test_fan_in_refuses_vectors_and_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match=r"fan_in has no meaning for a parameter of shape \(5,\).*number as its scale"
    ):
        P.fan_in()(torch.Size([5]))
    with pytest.raises(ValueError, match=r"gain 0.0 given, expected a positive number"):
        P.fan_in(0.0)
    with pytest.raises(ValueError, match="count 'taps' given, expected 'all' or 'channels'"):
        P.fan_in(count="taps")


def test_resolve_replaces_rules_at_every_depth_and_changes_nothing_in_place() -> None:
    rule = P.fan_in(2.0)
    prior = P.Normal(P.Normal(0.0, rule), P.HalfCauchy(P.HalfNormal(rule)))
    resolved = resolve(prior, (3, 16))
    assert resolved.loc.scale == 0.5
    assert resolved.scale.scale.scale == 0.5
    assert prior.loc.scale is rule
    assert prior.scale.scale.scale is rule
    plain = P.Normal(0.0, P.HalfCauchy(1.0))
    assert resolve(plain, (3, 16)) is plain
    assert pickle.loads(pickle.dumps(prior)).scale.scale.scale == rule


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: P.Normal(0.0, bad),
        lambda bad: P.Laplace(0.0, bad),
        lambda bad: P.StudentT(bad),
        lambda bad: P.StudentT(3.0, 0.0, bad),
        lambda bad: P.HalfNormal(bad),
        lambda bad: P.HalfCauchy(bad),
        lambda bad: P.Gamma(bad),
        lambda bad: P.Gamma(1.0, bad),
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, -1.0])])
def test_parameters_out_of_range_are_refused(make: Callable[[Any], P.Prior], bad: Any) -> None:
    with pytest.raises(ValueError, match="given, expected positive finite numbers"):
        make(bad)


def test_a_location_may_be_negative_but_not_infinite() -> None:
    P.Normal(-3.0, 1.0)
    with pytest.raises(ValueError, match=r"Laplace: loc inf given, expected finite numbers"):
        P.Laplace(math.inf, 1.0)


def test_a_hyperparameter_has_no_density_of_its_own_outside_a_model() -> None:
    with pytest.raises(TypeError, match=r"scale is itself a prior.*bp\.attach"):
        P.Normal(0.0, P.HalfCauchy(1.0)).log_prob(torch.zeros(3))


def test_a_torch_distribution_as_scale_becomes_a_hyperprior() -> None:
    prior = P.Normal(0.0, torch.distributions.Gamma(2.0, 1.0))
    assert isinstance(prior.hyperpriors()["scale"], P.Distribution)


def test_as_prior_takes_priors_and_distributions_only() -> None:
    normal = P.Normal()
    assert P.as_prior(normal) is normal
    assert isinstance(P.as_prior(torch.distributions.Normal(0.0, 1.0)), P.Distribution)
    for wrong in (1.0, "Normal", P.Normal):
        with pytest.raises(TypeError, match=r"expected a prior: bp\.priors\.Normal\(0, 1\) and its kin"):
            P.as_prior(wrong)


@pytest.mark.parametrize(
    ("prior", "name"),
    [
        (P.Normal(torch.zeros(4, 1), 1.0), "loc"),
        (P.Laplace(0.0, torch.ones(3)), "scale"),
        (P.StudentT(torch.ones(5, 4)), "df"),
        (P.HalfNormal(torch.ones(4, 1)), "scale"),
        (P.Gamma(1.0, torch.ones(3)), "rate"),
    ],
)
def test_tensors_that_would_broadcast_the_weight_are_refused(prior: P.Prior, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} of shape .* given, expected .* shape \(4,\)"):
        Site("w", prior, (4,))


def test_tensors_that_broadcast_to_the_weight_are_taken() -> None:
    for scale in (torch.ones(()), torch.ones(4), torch.ones(1, 4), torch.ones(3, 1), torch.ones(3, 4)):
        Site("w", P.Normal(0.0, scale), (3, 4))


class HyperbolicSecant(P.Prior):
    """The example of the base class: no dtype in `sample`."""

    def __init__(self, scale: Any) -> None:
        self.scale = scale

    def log_prob(self, w: torch.Tensor) -> torch.Tensor:
        x = math.pi * w / (2 * self.scale)
        return -torch.logaddexp(x, -x) - torch.as_tensor(self.scale).log()

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> torch.Tensor:
        u = torch.rand(shape, generator=generator)
        return 2 * self.scale / math.pi * torch.log(torch.tan(math.pi * u / 2))


def test_a_users_prior_needs_two_methods() -> None:
    like = torch.zeros(2, dtype=torch.float64)
    value = draw(HyperbolicSecant(2.0), (3, 5), like, torch.Generator().manual_seed(0))
    assert (value.shape, value.dtype) == ((3, 5), torch.float64)
    latents = {"w": value, "w.scale": torch.tensor(0.3, dtype=torch.float64)}
    density = Site("w", HyperbolicSecant(P.HalfNormal(1.0)), (3, 5)).evaluate(latents, {})
    expected = torch.tensor(stats.hypsecant(scale=2 * math.exp(0.3) / math.pi).logpdf(value.numpy()).sum())
    expected += P.HalfNormal(1.0).log_prob(torch.tensor(0.3, dtype=torch.float64).exp()) + 0.3
    torch.testing.assert_close(density, expected)
    check_prior(HyperbolicSecant(2.0)).raise_if_failed()


def test_what_a_users_prior_lacks_is_said() -> None:
    class Empty(P.Prior):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no log_prob\(w\)"):
        Empty().log_prob(torch.zeros(1))
    with pytest.raises(NotImplementedError, match="init='model'"):
        Empty().sample((1,))

    class Wrong(P.Normal):
        def sample(self, shape: tuple[int, ...], *, generator: Any = None) -> torch.Tensor:  # type: ignore[override]
            return torch.zeros(7)

    with pytest.raises(ValueError, match=r"sample\(shape=\(2,\)\) returned a tensor of shape \(7,\)"):
        draw(Wrong(), (2,), torch.zeros(1), None)
