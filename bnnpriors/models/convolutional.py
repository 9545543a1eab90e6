"""Convolutional networks."""

from __future__ import annotations

from torch import nn


def mnist_cnn(out_features: int = 10, *, channels: int = 64) -> nn.Sequential:
    """The MNIST convnet of Fortuin et al. (2102.06571), as in the code they published.

    Twice a 3 × 3 convolution that keeps the image's size, ReLU and 2 × 2 max pooling, then a linear layer.
    Inputs [batch, 1, 28, 28] (load the data with `flatten=False`), outputs [batch, out_features].

    Args:
        out_features: the number of classes.
        channels: the width of both convolutions.

    Raises:
        ValueError: a width below 1.
    """
    if min(out_features, channels) < 1:
        raise ValueError(f"out_features {out_features}, channels {channels}: expected each to be at least 1")
    return nn.Sequential(
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * 7 * 7, out_features),
    )
