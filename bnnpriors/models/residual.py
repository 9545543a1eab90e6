"""Residual networks without batch statistics."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FilterResponseNorm(nn.Module):
    """Filter response normalisation (Singh & Krishnan 1911.09737, eq. 1–3): y = max(γ x/√(ν² + ε) + β, τ), ν² = mean of x²
    over the image.

    Every example is normalised by itself, so outputs do not depend on the rest of the batch. γ, β and τ are `scale`, `shift` and
    `threshold`, one a channel.

    Args:
        channels: of the input. damping: ε.
    """

    def __init__(self, channels: int, *, damping: float = 1e-6) -> None:
        super().__init__()
        self.damping = damping
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """The normalised images."""
        scale, shift, threshold = (p[:, None, None] for p in (self.scale, self.shift, self.threshold))
        factor = torch.rsqrt((x * x).mean((-2, -1), keepdim=True) + self.damping)
        return torch.maximum(x * (factor * scale) + shift, threshold)


class Threshold(nn.Module):
    """max(x, τ) with one learnt τ a channel, `threshold`: the thresholded linear unit of Singh & Krishnan."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """max(x, τ)."""
        return torch.maximum(x, self.threshold[:, None, None])


class _Normalised(nn.Module):
    def __init__(self, channels_in: int, channels: int, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel_size, stride=stride, padding=kernel_size // 2)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = FilterResponseNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.first = _Normalised(channels_in, channels, stride=stride)
        self.activation = _activation(activation)
        self.second = _Normalised(channels, channels)
        self.shortcut: nn.Module = nn.Identity()
        if channels != channels_in:
            self.shortcut = _Normalised(channels_in, channels, kernel_size=1, stride=stride)
        self.output = Threshold(channels) if activation == "threshold" else _activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.shortcut(x) + self.second(self.activation(self.first(x))))


def resnet20(
    out_features: int = 10, *, channels: int = 16, activation: Literal["threshold", "relu", "silu"] = "threshold"
) -> nn.Sequential:  # fmt: skip
    """ResNet-20 with filter response normalisation in the place of batch normalisation, for 32 × 32 images.

    He et al. (1512.03385, §4.2): a 3 × 3 convolution and three stages of three blocks, of 16, 32 and 64 channels; global average
    pooling and a linear layer. Inputs [batch, 3, 32, 32], outputs [batch, out_features].

    `activation="threshold"` is the network of Wenzel et al. (2002.02405) in the code they published: ReLU within blocks and a
    learnt threshold after each sum, 274,378 parameters; "silu" and "relu" after both are those of Izmailov et al.
    (2104.14421), 274,042.

    Args:
        out_features: the number of classes.
        channels: of the first stage; the next have twice and four times as many.
        activation: see above.

    Raises:
        ValueError: a width below 1, or an activation that is not one of these.
    """
    if min(out_features, channels) < 1:
        raise ValueError(f"out_features {out_features}, channels {channels}: expected each to be at least 1")
    if activation not in ("threshold", "relu", "silu"):
        raise ValueError(f"activation {activation!r}: expected one of threshold, relu, silu")
    layers: list[nn.Module] = [_Normalised(3, channels), _activation(activation)]
    width_in = channels
    for stage in range(3):
        width = channels * 2**stage
        for block in range(3):
            layers.append(_Block(width_in, width, 2 if stage and not block else 1, activation))
            width_in = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * channels, out_features)
    )


def _activation(name: str) -> nn.Module:
    return nn.SiLU() if name == "silu" else nn.ReLU()
