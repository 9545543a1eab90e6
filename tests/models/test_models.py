"""The ready-made networks: their layers, and that they run under vmap with stacked parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

import bnnpriors as bp
from bnnpriors.models import FilterResponseNorm, freeze_statistics, lenet5, mlp, mnist_cnn, myrtle, resnet20


def google_resnet(out_features: int = 10, **arguments: Any) -> nn.Sequential:
    return resnet20(out_features, norm="batch", activation="relu", bias=False, **arguments)


CASES = [
    pytest.param(mlp(5, 3, hidden=(7, 4), activation="tanh"), (5,), 3, id="mlp"),
    pytest.param(mlp(5, 3, hidden=()), (5,), 3, id="linear"),
    pytest.param(mnist_cnn(10, channels=2), (1, 28, 28), 10, id="mnist_cnn"),
    pytest.param(resnet20(10, channels=2), (3, 32, 32), 10, id="resnet20"),
    pytest.param(resnet20(3, channels=2, activation="silu"), (3, 32, 32), 3, id="resnet20_silu"),
    pytest.param(google_resnet(3, channels=2), (3, 32, 32), 3, id="resnet20_batch"),
    pytest.param(lenet5(4), (1, 28, 28), 4, id="lenet5"),
    pytest.param(
        lenet5(4, shape=(3, 32, 32), activation="tanh", pooling="average"), (3, 32, 32), 4, id="lenet5_1998"
    ),
    pytest.param(myrtle(4, depth=7, channels=3, shape=(3, 8, 8)), (3, 8, 8), 4, id="myrtle"),
]


@pytest.mark.parametrize(("net", "shape", "out_features"), CASES)
def test_a_vmapped_network_agrees_with_a_loop(net: nn.Module, shape: tuple, out_features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    chains, net = 3, net.double()
    parameters = {
        name: torch.randn(chains, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in net.named_parameters()
    }
    x = torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    outputs = vmap(lambda values: functional_call(net, values, (x,)))(parameters)
    assert outputs.shape == (chains, 6, out_features)
    for chain in range(chains):
        values = {name: value[chain] for name, value in parameters.items()}
        torch.testing.assert_close(outputs[chain], functional_call(net, values, (x,)), rtol=1e-9, atol=1e-9)


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


COUNTS = [
    (mlp, {"in_features": 784, "out_features": 10}, 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10),
    (mnist_cnn, {}, (9 + 1) * 64 + (9 * 64 + 1) * 64 + (49 * 64 + 1) * 10),
    (
        lenet5,
        {},
        61_706,
    ),  # as LeNet-5 is counted without its sparse connections: 156 + 2,416 + 48,120 + 10,164 + 850
    (lenet5, {"shape": (3, 32, 32)}, 61_706 + 2 * 25 * 6),
    (myrtle, {"depth": 5}, 9 * 64 * (3 + 3 * 64) + 640),
    (myrtle, {"depth": 7}, 9 * 64 * (3 + 5 * 64) + 640),
    (myrtle, {"depth": 10}, 9 * 64 * (3 + 8 * 64) + 640),
    # ResNet-20: convolutions and dense layer 270,906; on 784 normalised channels a bias, γ, β and τ; after sums 336 thresholds
    (resnet20, {}, 270_906 + 4 * 784 + 336),
    (resnet20, {"activation": "silu"}, 274_042),
    (resnet20, {"norm": "batch", "activation": "relu"}, 270_906 + 3 * 784),
    (google_resnet, {}, 272_474),
]


@pytest.mark.parametrize(("make", "arguments", "count"), COUNTS)
def test_the_networks_have_the_parameters_of_the_papers(
    make: Callable[..., nn.Module], arguments: dict[str, Any], count: int
) -> None:
    assert sum(parameter.numel() for parameter in make(**arguments).parameters()) == count


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_wrong_arguments_of_the_vision_models_are_refused() -> None:
    for call, message in (
        (lambda: resnet20(activation="tanh"), "activation 'tanh': expected one of threshold, relu, silu"),
        (lambda: resnet20(channels=0), "channels 0"),
        (lambda: resnet20(norm="layer"), "norm 'layer': expected one of filter_response, batch"),
        (lambda: resnet20(norm="batch"), "'threshold' with norm 'batch'.*give activation='relu'"),
        (lambda: mnist_cnn(pooling="sum"), "pooling 'sum': expected one of max, average"),
        (lambda: lenet5(shape=(784,)), r"shape \(784,\).*flatten=False"),
        (lambda: lenet5(shape=(1, 30, 30)), r"expected .*\(channels, 28, 28\)"),
        (lambda: lenet5(activation="gelu"), "activation 'gelu': expected one of relu, tanh"),
        (lambda: myrtle(depth=6), "depth 6: expected one of 5, 7, 10"),
        (lambda: myrtle(shape=(3, 30, 32)), "multiples of four"),
        (lambda: myrtle(0), "out_features 0"),
        (lambda: myrtle(channels=0), "channels 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("net", [resnet20(), google_resnet()], ids=["filter_response", "batch"])
def test_residual_weights_have_variance_two_over_fan_in(net: nn.Module) -> None:
    """He et al.: the sum of w² fan-in/2 over n weights is χ² with n degrees; twelve standard deviations of it."""
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 22
    for layer in layers:
        ratio = layer.weight.square().mean() * layer.weight[0].numel() / 2
        assert abs(ratio - 1) < 12 * (2 / layer.weight.numel()) ** 0.5
        assert layer.bias is None or not layer.bias.any()


def test_average_pooling_has_an_infinitely_wide_limit() -> None:
    """The same module at any width has one kernel, and the kernel sees that images differ; `myrtle` is tested with the zoo."""
    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    priors = {"*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(2**0.5)), "*.bias": bp.priors.Normal()}
    narrow, wide = (
        bp.infinite.kernel(bp.attach(mnist_cnn(width, channels=width, pooling="average"), priors)).gram(x)
        for width in (2, 5)
    )
    torch.testing.assert_close(narrow, wide, rtol=1e-12, atol=0)
    assert narrow[0, 1] < narrow[0, 0]


def test_myrtle_is_the_network_of_the_kernels_zoo() -> None:
    theirs = bp.infinite.zoo.myrtle10(4, channels=3, shape=(3, 8, 8))
    ours = myrtle(4, channels=3, shape=(3, 8, 8))
    ours.load_state_dict(theirs.net.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_frozen_statistics_are_those_of_the_inputs() -> None:
    """By hand, y = γ (x − μ)/√(σ² + ε) + β with μ and σ² of what each layer receives; the variance has n − 1, as PyTorch's."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=0.3)).double()
    x = 2 + 3 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    net[0].weight.data.normal_(generator=generator)
    net[0].bias.data.normal_(generator=generator)
    assert freeze_statistics(net, x) is net
    hidden = net[0].weight * (x - x.mean(0)) / (x.var(0, correction=0) + net[0].eps).sqrt() + net[0].bias
    inner = net[1](hidden)
    torch.testing.assert_close(net[0].running_mean, x.mean(0))
    torch.testing.assert_close(net[0].running_var, x.var(0))
    torch.testing.assert_close(net[2].running_mean, inner.mean(0))
    torch.testing.assert_close(net[2].running_var, inner.var(0))
    assert (net[2].momentum, net.training) == (0.3, False)
    first = net(x[:1])
    torch.testing.assert_close(net(x)[:1], first, msg="an output depends on the rest of the batch")
    expected = (inner[:1] - inner.mean(0)) / (inner.var(0) + net[2].eps).sqrt()
    torch.testing.assert_close(first, expected, rtol=0.2, atol=0.1)


def test_freezing_needs_data_and_a_layer() -> None:
    with pytest.raises(ValueError, match="1 inputs and 1 batch normalisations"):
        freeze_statistics(nn.Sequential(nn.BatchNorm1d(3)), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="0 batch normalisations"):
        freeze_statistics(mlp(3, 1), torch.zeros(4, 3))


def test_a_frozen_residual_network_is_sampled_in_chains() -> None:
    """Attach, train() and all: the statistics stay, and the batched density is that of each chain alone."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 32, 32, generator=generator), torch.randint(0, 3, (6,), generator=generator)
    net = freeze_statistics(google_resnet(3, channels=2), x)
    before = {name: value.clone() for name, value in net.named_buffers()}
    model = bp.attach(
        net, {"*conv.weight": bp.priors.Normal(0.0, bp.priors.fan_in(2**0.5)), "*": bp.priors.Normal()}
    )
    model.train()
    post = bp.Posterior(model, bp.likelihoods.Categorical(), x, y)
    theta = post.current() + 0.1 * torch.randn(2, post.dim, generator=generator)
    together = post.log_density(theta)
    alone = torch.cat([post.log_density(theta[:1]), post.log_density(theta[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-3)
    for name, value in model.net.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


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
