"""Convolutional networks with priors whose Gaussian processes are published, with the published hyperparameters.

Each function gives a `BayesianModule`: `bp.infinite.kernel` takes it to its limit, and with `channels` it is a finite network
to sample. Weight variances "per tap" are the variance of one weight times the number of input channels; ReLU has no √2.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from .. import priors
from ..models.convolutional import conv_relu, myrtle_body
from ..module import BayesianModule, attach

Readout = Literal["independent", "mean"] | float
Shape = tuple[int, int, int]


def convnet_gp(num_outputs: int = 10, *, channels: int = 1, shape: Shape = (1, 28, 28)) -> BayesianModule:
    """The ConvNet GP of Garriga-Alonso et al. 2019 (1808.05587): seven convolutions 7 × 7 with ReLU, then a dense layer.

    σ_b² = 7.86 and a weight variance of 2.79 per tap, in every layer. Published error on MNIST: 1.03 %.

    Args:
        num_outputs: outputs of the network; they play no part in the kernel. channels: width of the hidden layers, nor do they.
        shape: of one image, (channels, height, width).

    Raises:
        ValueError: a size below 1.
    """
    _check(num_outputs, channels, *shape)
    widths = [shape[0]] + 7 * [channels]
    layers = [
        layer
        for before, after in pairwise(widths)
        for layer in (nn.Conv2d(before, after, 7, padding=3), nn.ReLU())
    ]
    return _per_tap(nn.Sequential(*layers, *_dense(channels, shape[1:], num_outputs)), 2.79, 7.86)


def residual_cnn_gp(num_outputs: int = 10, *, shape: Shape = (1, 28, 28)) -> BayesianModule:
    """The Residual CNN GP of 1808.05587: eight times x + ReLU(convolution 4 × 4 of x), a convolution with ReLU, a dense layer.

    σ_b² = 4.69 and a weight variance of 7.27 per tap, in every layer. Published error on MNIST: 0.96 %. The published kernel adds
    the kernels of the sums' terms, which have means, and so is no network's: take `bp.infinite.kernel(model, mean_terms=False)`.

    Args:
        num_outputs, shape: as for `convnet_gp`. The hidden layers are as wide as the input, to which they are added.

    Raises:
        ValueError: a size below 1.
    """
    _check(num_outputs, *shape)
    width = shape[0]
    blocks = [_Added(width) for _ in range(8)]
    last = nn.Conv2d(width, width, 4, padding="same")
    net = nn.Sequential(*blocks, last, nn.ReLU(), *_dense(width, shape[1:], num_outputs))
    return _per_tap(net, 7.27, 4.69)


def resnet32_gp(num_outputs: int = 10, *, channels: int = 1, shape: Shape = (1, 28, 28)) -> BayesianModule:
    """The ResNet-32 GP of 1808.05587: a convolution, three groups of five residual blocks with strides 1, 2, 2, a convolution
    over all that is left, ReLU, a dense layer. σ_w² = 1, no biases. Published error on MNIST: 0.84 %.

    Args:
        num_outputs, shape: as for `convnet_gp`. channels: width of the first group; the others have twice and four times as many.

    Raises:
        ValueError: a size below 1.
    """
    _check(num_outputs, channels, *shape)
    width, blocks = channels, []
    for group, stride in enumerate((1, 2, 2)):
        after = channels * 2**group
        for number in range(5):
            blocks.append(_Block(width, after, stride if number == 0 else 1, is_first=number == 0))
            width = after
    left = tuple(-(-side // 4) for side in shape[1:])
    first = nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)
    last = nn.Conv2d(width, width, (left[0], left[1]), bias=False)
    head = (nn.ReLU(), nn.Flatten(), nn.Linear(width, num_outputs, bias=False))
    return attach(nn.Sequential(first, *blocks, last, *head), priors.Normal(0.0, priors.fan_in()))


def cnn_gp_14(
    num_outputs: int = 10, *, channels: int = 1, shape: Shape = (3, 32, 32), readout: Readout = "mean"
) -> BayesianModule:
    """The CNN-GP-14 of Garriga-Alonso & van der Wilk 2021 (2101.04097): fourteen convolutions 3 × 3 with ReLU, then a readout.

    σ_w² = 2 in the convolutions, no biases. Published accuracy on CIFAR-10 with 10,240 images: .563 independent, .697 with the
    best correlation, .684 with mean pooling.

    Args:
        num_outputs, channels, shape: as for `convnet_gp`.
        readout: "independent" weights for all positions, "mean" for pooling all positions, or a number: weights with a Matérn-3/2
            correlation between positions, of this lengthscale in positions.

    Raises:
        ValueError: a size or a lengthscale that is not positive, or another word.
    """
    _check(num_outputs, channels, *shape)
    body = conv_relu(14, shape[0], channels)
    return _read_out(body, channels, shape[1:], num_outputs, readout)


def myrtle10(
    num_outputs: int = 10, *, channels: int = 1, shape: Shape = (3, 32, 32), readout: Readout = "mean"
) -> BayesianModule:
    """Myrtle10 (Shankar et al. 2020, 2003.02237): three times three convolutions 3 × 3 with ReLU, 2 × 2 average pooling between
    them, and a readout.

    σ_w² = 2 in the convolutions, no biases. Published accuracy on CIFAR-10 with 5,120 images (2101.04097): .586 independent, .632
    with the best correlation, .626 with mean pooling.

    Args:
        num_outputs, channels, shape: as for `convnet_gp`; height and width are multiples of four.
        readout: as for `cnn_gp_14`.

    Raises:
        ValueError: sizes that are not multiples of four; and as for `cnn_gp_14`.
    """
    _check(num_outputs, channels, *shape)
    body = myrtle_body(10, channels, shape)
    return _read_out(body, channels, (shape[1] // 4, shape[2] // 4), num_outputs, readout)


class _Added(nn.Module):
    """x + ReLU(convolution(x)); x is a tensor, or a proxy where the network is traced."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 4, padding="same")

    def forward(self, x: Any) -> Any:
        return x + torch.relu(self.conv(x))


class _Block(nn.Module):
    """Nonlinearities first: x, or in the first of a group a convolution of ReLU(x), plus two convolutions; x as for `_Added`."""

    def __init__(self, before: int, after: int, stride: int, *, is_first: bool) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.two = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.short = nn.Conv2d(before, after, 1, stride, bias=False) if is_first else None

    def forward(self, x: Any) -> Any:
        h = torch.relu(x)
        return (x if self.short is None else self.short(h)) + self.two(torch.relu(self.one(h)))


def _check(*sizes: int) -> None:
    if min(sizes) < 1:
        raise ValueError(f"sizes {sizes} given (outputs, channels, shape), expected each to be at least 1")


def _dense(channels: int, positions: tuple[int, ...], num_outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Flatten(), nn.Linear(channels * positions[0] * positions[1], num_outputs)


def _per_tap(net: nn.Module, weight: float, bias: float) -> BayesianModule:
    scale = priors.fan_in(weight**0.5, count="channels")
    return attach(net, {"*.weight": priors.Normal(0.0, scale), "*.bias": priors.Normal(0.0, bias**0.5)})


def _read_out(
    body: list[nn.Module], channels: int, positions: tuple[int, ...], num_outputs: int, readout: Readout
) -> BayesianModule:
    prior: priors.Prior = priors.Normal(0.0, priors.fan_in())
    if readout == "independent":
        head: list[nn.Module] = [
            nn.Flatten(),
            nn.Linear(channels * positions[0] * positions[1], num_outputs, bias=False),
        ]
    elif readout == "mean":
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_outputs, bias=False)]
    elif isinstance(readout, (int, float)):
        head = [nn.Conv2d(channels, num_outputs, (positions[0], positions[1]), bias=False), nn.Flatten()]
        prior = priors.CorrelatedNormal(priors.fan_in(), "matern32", readout)
    else:
        raise ValueError(f"readout {readout!r} given, expected 'independent', 'mean' or a lengthscale")
    net = nn.Sequential(OrderedDict(body=nn.Sequential(*body), readout=nn.Sequential(*head)))
    return attach(net, {"readout.*": prior, "*": priors.Normal(0.0, priors.fan_in(2**0.5))})
