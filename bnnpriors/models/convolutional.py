"""Convolutional networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

Pooling = Literal["max", "average"]
_MYRTLE_STAGES = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}


def mnist_cnn(out_features: int = 10, *, channels: int = 64, pooling: Pooling = "max") -> nn.Sequential:
    """The MNIST convnet of Fortuin et al. (2102.06571), as in the code they published: 68,938 parameters.

    Twice a 3 × 3 convolution that keeps the image's size, ReLU and 2 × 2 max pooling, then a linear layer.
    Inputs [batch, 1, 28, 28] (load the data with `flatten=False`), outputs [batch, out_features].

    Args:
        out_features: the number of classes.
        channels: the width of both convolutions.
        pooling: "max" as published; with "average" there is an infinitely wide limit in closed form.

    Raises:
        ValueError: a width below 1, or another pooling.
    """
    if min(out_features, channels) < 1:
        raise ValueError(f"out_features {out_features}, channels {channels}: expected each to be at least 1")
    pool = _pooling(pooling)
    return nn.Sequential(
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(channels * 7 * 7, out_features),
    )


def lenet5(
    out_features: int = 10,
    *,
    shape: Sequence[int] = (1, 28, 28),
    activation: Literal["relu", "tanh"] = "relu",
    pooling: Pooling = "max",
) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998, §II.B) in its usual modern form: 61,706 parameters on MNIST, 62,006 on CIFAR-10.

    Convolutions 5 × 5 with 6 and 16 channels, 2 × 2 pooling after each, then layers of 120, 84 and out_features units. Of the
    original it lacks the trainable pooling, the sparse connections of the second convolution and the radial basis functions at
    the end. Images of 28 × 28 pixels are padded to the 32 × 32 of the paper. Outputs [batch, out_features].

    Args:
        out_features: the number of classes.
        shape: of one image, (channels, height, width), the last two 28 or 32.
        activation: "relu", or "tanh" as in the paper.
        pooling: "max", or "average" as in the paper.

    Raises:
        ValueError: a size below 1, images of another size, another activation or pooling.
    """
    if len(shape) != 3 or min(out_features, shape[0]) < 1 or tuple(shape[1:]) not in ((28, 28), (32, 32)):
        raise ValueError(
            f"out_features {out_features}, shape {tuple(shape)}: expected at least one class, and (channels, 28, 28) or "
            "(channels, 32, 32) — load images with flatten=False"
        )
    if activation not in ("relu", "tanh"):
        raise ValueError(f"activation {activation!r}: expected one of relu, tanh")
    unit = nn.ReLU if activation == "relu" else nn.Tanh
    pool = _pooling(pooling)
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, kernel_size=5, padding=(32 - shape[1]) // 2),
        unit(),
        pool(2),
        nn.Conv2d(6, 16, kernel_size=5),
        unit(),
        pool(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        unit(),
        nn.Linear(120, 84),
        unit(),
        nn.Linear(84, out_features),
    )


def myrtle(
    out_features: int = 10,
    *,
    depth: Literal[5, 7, 10] = 10,
    channels: int = 64,
    shape: Sequence[int] = (3, 32, 32),
) -> nn.Sequential:
    """The Myrtle networks of Shankar et al. (2020, 2003.02237): three stages of 3 × 3 convolutions with ReLU, 2 × 2 average
    pooling between them, the mean over what is left, and a linear layer; no biases.

    Myrtle-5 has 2, 1 and 1 convolutions in its stages, Myrtle-7 has 2 in each and Myrtle-10 has 3. At any width it is the network
    of `infinite.zoo.myrtle10`, whose limit it has. Outputs [batch, out_features].

    Args:
        out_features: the number of classes.
        depth: 5, 7 or 10 layers with weights.
        channels: the width of all convolutions. The kernels of the paper have none; 64 makes 297,280 parameters at depth 10.
        shape: of one image, (channels, height, width), the last two multiples of four.

    Raises:
        ValueError: a size below 1, another depth, or a height and a width that are not multiples of four.
    """
    body = myrtle_body(depth, channels, shape)
    if out_features < 1:
        raise ValueError(f"out_features {out_features}: expected at least 1")
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, out_features, bias=False))
    return nn.Sequential(OrderedDict(body=nn.Sequential(*body), readout=nn.Sequential(*head)))


def myrtle_body(depth: int, channels: int, shape: Sequence[int]) -> list[nn.Module]:
    """The convolutions, nonlinearities and poolings of `myrtle`, without what reads them out."""
    if depth not in _MYRTLE_STAGES:
        raise ValueError(f"depth {depth}: expected one of {', '.join(map(str, _MYRTLE_STAGES))}")
    if len(shape) != 3 or min(channels, *shape) < 1:
        raise ValueError(
            f"channels {channels}, shape {tuple(shape)}: expected each to be at least 1, and (channels, height, width)"
        )
    if shape[1] % 4 or shape[2] % 4:
        raise ValueError(
            f"shape {tuple(shape)} given, expected a height and a width that are multiples of four"
        )
    layers: list[nn.Module] = []
    before = shape[0]
    for stage, count in enumerate(_MYRTLE_STAGES[depth]):
        if stage:
            layers.append(nn.AvgPool2d(2))
        layers += conv_relu(count, before, channels)
        before = channels
    return layers


def conv_relu(count: int, before: int, channels: int) -> list[nn.Module]:
    """`count` times a 3 × 3 convolution without bias that keeps the image's size, and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.ReLU()]
        before = channels
    return layers


def _pooling(name: str) -> type[nn.MaxPool2d] | type[nn.AvgPool2d]:
    if name not in ("max", "average"):
        raise ValueError(f"pooling {name!r}: expected one of max, average")
    return nn.MaxPool2d if name == "max" else nn.AvgPool2d
