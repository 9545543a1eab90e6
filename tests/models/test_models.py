"""The ready-made networks: their layers, and that they run under vmap with stacked parameters."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

import bnnpriors as bp
from bnnpriors.models import FilterResponseNorm, mlp, mnist_cnn, resnet20

CASES = [
    pytest.param(mlp(5, 3, hidden=(7, 4), activation="tanh"), (5,), 3, id="mlp"),
    pytest.param(mlp(5, 3, hidden=()), (5,), 3, id="linear"),
    pytest.param(mnist_cnn(10, channels=2), (1, 28, 28), 10, id="mnist_cnn"),
    pytest.param(resnet20(10, channels=2), (3, 32, 32), 10, id="resnet20"),
    pytest.param(resnet20(3, channels=2, activation="silu"), (3, 32, 32), 3, id="resnet20_silu"),
]


@pytest.mark.parametrize(("net", "shape", "out_features"), CASES)
def test_a_vmapped_network_agrees_with_a_loop(net: nn.Module, shape: tuple, out_features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    chains = 3
    parameters = {
        name: torch.randn(chains, *value.shape, generator=generator) for name, value in net.named_parameters()
    }
    x = torch.randn(6, *shape, generator=generator)
    outputs = vmap(lambda values: functional_call(net, values, (x,)))(parameters)
    assert outputs.shape == (chains, 6, out_features)
    for chain in range(chains):
        values = {name: value[chain] for name, value in parameters.items()}
        torch.testing.assert_close(outputs[chain], functional_call(net, values, (x,)), rtol=1e-4, atol=1e-4)


def test_the_default_mlp_is_named_by_layer() -> None:
    shapes = {name: tuple(value.shape) for name, value in mlp(784, 10).named_parameters()}
    assert shapes == {
        "0.weight": (100, 784),
        "0.bias": (100,),
        "2.weight": (100, 100),
        "2.bias": (100,),
        "4.weight": (10, 100),
        "4.bias": (10,),
    }


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", torch.relu),
        ("tanh", torch.tanh),
        ("gelu", nn.functional.gelu),
        ("leaky_relu", nn.functional.leaky_relu),
    ],
)
def test_the_formula(activation, function) -> None:
    net = mlp(2, 1, hidden=(3,), activation=activation)
    x = torch.linspace(-2, 2, 8).reshape(4, 2)
    first, last = net[0], net[-1]
    hidden = function(x @ first.weight.T + first.bias)
    torch.testing.assert_close(net(x), hidden @ last.weight.T + last.bias)


def test_the_convnet_has_three_weight_layers() -> None:
    weights = [tuple(p.shape) for name, p in mnist_cnn().named_parameters() if name.endswith("weight")]
    assert weights == [(64, 1, 3, 3), (64, 64, 3, 3), (10, 64 * 7 * 7)]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer widths \[2, 0, 1\]"):
        mlp(2, 1, hidden=(0,))
    with pytest.raises(ValueError, match="activation 'swish': expected one of relu, tanh"):
        inspect.unwrap(mlp)(2, 1, activation="swish")  # as users call it: without the tests' type checks
    with pytest.raises(ValueError, match="channels 0"):
        mnist_cnn(channels=0)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_the_residual_networks_have_the_parameters_of_the_papers() -> None:
    """Convolutions and dense layer 270,906; on 784 normalised channels a bias, γ, β and τ; after sums 336 thresholds."""
    for activation, count in (("threshold", 270_906 + 4 * 784 + 336), ("silu", 274_042), ("relu", 274_042)):
        net = resnet20(activation=activation)
        assert sum(p.numel() for p in net.parameters()) == count
    with pytest.raises(ValueError, match="activation 'tanh': expected one of threshold, relu, silu"):
        resnet20(activation="tanh")
    with pytest.raises(ValueError, match="channels 0"):
        resnet20(channels=0)


def test_filter_response_normalisation_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    layer, x = FilterResponseNorm(3), torch.randn(2, 3, 4, 5, generator=generator)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    outputs = layer(x)
    for example in range(2):
        for channel in range(3):
            image = x[example, channel]
            y = layer.scale[channel] * image / (image.square().mean() + 1e-6).sqrt() + layer.shift[channel]
            expected = y.clamp(min=float(layer.threshold[channel].detach()))
            torch.testing.assert_close(outputs[example, channel], expected)


def test_priors_attach_to_a_residual_network() -> None:
    """Its outputs are those of each example alone, so that it has a likelihood."""
    priors = {
        "*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(2**0.5)),
        "*.scale": bp.priors.Normal(1.0, 1.0),
        "*": bp.priors.Normal(),
    }
    model = bp.attach(resnet20(3, channels=2), priors)
    x, y = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0])
    likelihood = bp.likelihoods.Categorical()
    posterior = bp.Posterior(model, likelihood, x, y)
    expected = model.log_prior() + likelihood.log_prob(model.net(x), y).sum()
    torch.testing.assert_close(
        posterior.log_density(posterior.current()[None])[0].float(), expected, rtol=1e-4, atol=1e-2
    )
