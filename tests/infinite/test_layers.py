"""From priors to σ_w² and σ_b², and the priors that have none."""

import math
import warnings

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite.trace import trace

P = bp.priors


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 5, (2, 3)), nn.ReLU(), nn.Conv2d(5, 3, (2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)
    )


def _second_layer(prior: object, bias: object = None) -> infinite.layers.Layer:
    body = {"2.weight": prior, "2.bias": bias or P.Normal(0.0, 0.5), "*": P.Normal(0.0, 0.5)}
    return trace(bp.attach(_net(), body)).layers[1]


@pytest.mark.parametrize(
    ("prior", "variance"),
    [
        (P.Normal(0.0, P.fan_in(1.5)), 2.25),
        (P.Normal(0.0, 0.1), 0.01 * 30),
        (P.StudentT(3.0, 0.0, P.fan_in(1.0)), 3.0),
        (P.Laplace(0.0, P.fan_in(1.0)), 2.0),
        (P.Uniform(-1.0, 1.0), 30 / 3),
        (P.ScaleMixture((0.1, 0.2), (0.75, 0.25)), 30 * (0.75 * 0.01 + 0.25 * 0.04)),
        (P.Normal(0.0, P.HalfNormal(0.1).per("weight")), 30 * 0.01),
        (torch.distributions.Normal(0.0, 0.1), 0.01 * 30),
        (P.CorrelatedNormal(0.1, "rbf", 2.0), 0.01 * 30),
        (P.CorrelatedStudentT(4.0, 0.1, "rbf", 2.0), 0.02 * 30),
    ],
)
def test_variances(prior: object, variance: float) -> None:
    layer = _second_layer(prior)
    assert layer.weight_variance == pytest.approx(variance, rel=1e-6)
    assert layer.bias_variance == pytest.approx(0.25)
    assert (layer.taps is not None) == isinstance(prior, P.CorrelatedNormal)


def test_taps_of_different_variance() -> None:
    scale = torch.tensor([[1.0, 2.0, 1.0], [0.5, 1.0, 0.5]], dtype=torch.float64)
    for prior in (P.Normal(0.0, scale), P.CorrelatedNormal(scale, torch.eye(6, dtype=torch.float64))):
        layer = _second_layer(prior)
        assert layer.taps is not None
        assert layer.weight_variance == pytest.approx(5 * float(scale.square().sum()), rel=1e-6)
        shape = layer.taps.shape((2, 3), layer.taps.lengthscale)
        torch.testing.assert_close(shape, (scale.square() / scale.square().sum()).flatten().diag())


def test_no_bias_and_a_bias_that_is_zero() -> None:
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1))
    net[2].bias.requires_grad_(False).zero_()
    layers = trace(bp.attach(net, P.Normal(0.0, 1.0))).layers
    assert [layer.bias_variance for layer in layers] == [0.0, 0.0]


class Undescribed(P.Prior):
    """Without moments."""

    def log_prob(self, w: torch.Tensor) -> torch.Tensor:
        return -w.abs()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (P.Cauchy(0.0, 1.0), "2.weight: .*infinite variance"),
        (P.StudentT(2.0), "infinite variance"),
        (P.Horseshoe(), "infinite variance|many weights share"),
        (P.Improper(), "infinite variance"),
        (P.CorrelatedStudentT(2.0, 0.1), "infinite variance"),
        (P.Normal(0.1, 1.0), "a mean other than zero"),
        (P.Normal(0.0, P.HalfCauchy(1.0)), "scale has the prior .*mixture of Gaussian processes"),
        (P.Normal(0.0, P.HalfNormal(1.0).per("output")), "many weights share"),
        (P.Normal(0.0, P.HalfNormal(P.HalfNormal(1.0)).per("weight")), "scale.scale has the prior"),
        (P.CorrelatedNormal(0.1, "rbf", P.HalfNormal(1.0)), "lengthscale has the prior"),
        (P.Normal(0.0, torch.linspace(1, 2, 5)[None, :, None, None]), "differ between channels"),
        (P.CorrelatedNormal(torch.linspace(1, 2, 5)[None, :, None, None]), "differs between filters"),
        (P.MatrixNormal(1.0, torch.eye(30)), "not elementwise"),
        (P.Mixture([P.Normal(0.0, 1.0), P.Normal(0.0, 2.0)], selection="tensor"), "not elementwise"),
        (Undescribed(), r"no variance in closed form; define variance\(\)"),
        (P.Fixed(), "2.weight has no prior"),
    ],
)
def test_refused_weights(prior: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _second_layer(prior)


def test_refused_biases_and_joint_priors() -> None:
    with pytest.raises(ValueError, match=r"2\.bias is fixed at a value that is not zero"):
        _second_layer(P.Normal(0.0, 1.0), P.Fixed())
    model = bp.attach(_net(), {("0.weight", "2.weight"): P.Normal(0.0, 1.0), "*": P.Normal(0.0, 1.0)})
    with pytest.raises(ValueError, match="shares the joint prior"):
        trace(model)


def test_where_no_central_limit_theorem_holds_there_is_a_warning() -> None:
    heavy = P.StudentT(3.0, 0.0, 0.5)
    with pytest.warns(infinite.ApproximateKernelWarning, match=r"0\.weight.*fan-in does not grow"):
        trace(bp.attach(_net(), {"0.weight": heavy, "*": P.Normal(0.0, 0.5)}))
    with pytest.warns(infinite.ApproximateKernelWarning, match=r"2\.bias.*each unit has one bias"):
        _second_layer(P.Normal(0.0, 1.0), heavy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _second_layer(heavy)


def test_the_prior_of_the_first_layer_matters_as_the_warning_says() -> None:
    """One input, one ReLU layer: E[φ(w)φ(−w)] = 0 whatever the prior, but E[erf(w)²] is not a function of the variance alone."""
    generator = torch.Generator().manual_seed(0)
    erf_square = {}
    for prior in (P.Normal(0.0, 1.0), P.Laplace(0.0, 1.0, matched="variance")):
        draws = prior.sample((200_000,), generator=generator)
        erf_square[type(prior)] = float(torch.erf(draws).square().mean())
    assert erf_square[P.Normal] == pytest.approx(2 / math.pi * math.asin(2 / 3), abs=0.005)
    assert erf_square[P.Laplace] < erf_square[P.Normal] - 0.03
