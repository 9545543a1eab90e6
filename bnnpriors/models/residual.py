"""Residual networks without batch statistics."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .normalisation import FilterResponseNorm, Threshold

Norm = Literal["filter_response", "batch"]
Activation = Literal["threshold", "relu", "silu"]


class _Normalised(nn.Module):
    def __init__(
        self, channels_in: int, channels: int, kernel_size: int, stride: int, norm: str, bias: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
        )
        _he_normal(self.conv)
        self.norm: nn.Module = (
            FilterResponseNorm(channels) if norm == "filter_response" else nn.BatchNorm2d(channels).eval()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class _Block(nn.Module):
    def __init__(
        self, channels_in: int, channels: int, stride: int, activation: str, norm: str, bias: bool
    ) -> None:
        super().__init__()
        self.first = _Normalised(channels_in, channels, 3, stride, norm, bias)
        self.activation = _activation(activation)
        self.second = _Normalised(channels, channels, 3, 1, norm, bias)
        self.shortcut: nn.Module = nn.Identity()
        if channels != channels_in:
            self.shortcut = _Normalised(channels_in, channels, 1, stride, norm, bias)
        self.output = Threshold(channels) if activation == "threshold" else _activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.shortcut(x) + self.second(self.activation(self.first(x))))


def resnet20(
    out_features: int = 10, *, channels: int = 16, activation: Activation = "threshold", norm: Norm = "filter_response",
    bias: bool = True,
) -> nn.Sequential:  # fmt: skip
    """ResNet-20 without batch statistics, for 32 × 32 images.

    He et al. (1512.03385, §4.2): a 3 × 3 convolution and three stages of three blocks, of 16, 32 and 64 channels; global average
    pooling and a linear layer; 1 × 1 convolutions as shortcuts where the width changes. Weights are initialised as there and in
    the published code of Wenzel et al.: Normal with variance 2/fan-in, biases zero. Inputs [batch, 3, 32, 32], outputs
    [batch, out_features].

    - The default is the network of Wenzel et al. (2002.02405) in the code they published, with filter response normalisation:
      ReLU within blocks and a learnt threshold after each sum, 274,378 parameters. With `activation="silu"` or "relu" it is
      that of Izmailov et al. (2104.14421), 274,042.
    - `norm="batch", activation="relu"` is the same code's network with batch normalisation, 273,258 parameters; and with no
      biases but the last layer's, `bias=False`, the "Google ResNet" of Fortuin et al. (2102.06571), 272,474.

    Batch normalisation is in evaluation mode, that is with constants for statistics: 0 and 1 until `freeze_statistics` sets them.
    The command line sets them from the first thousand training inputs.

    Args:
        out_features: the number of classes.
        channels: of the first stage; the next have twice and four times as many.
        activation: see above; "threshold" is for filter response normalisation.
        norm: "filter_response" or "batch".
        bias: whether the convolutions have biases.

    Raises:
        ValueError: a width below 1, an activation or a norm that is not one of these, or "threshold" with "batch".
    """
    if min(out_features, channels) < 1:
        raise ValueError(f"out_features {out_features}, channels {channels}: expected each to be at least 1")
    if activation not in ("threshold", "relu", "silu"):
        raise ValueError(f"activation {activation!r}: expected one of threshold, relu, silu")
    if norm not in ("filter_response", "batch"):
        raise ValueError(f"norm {norm!r}: expected one of filter_response, batch")
    if norm == "batch" and activation == "threshold":
        raise ValueError(
            "activation 'threshold' with norm 'batch': it is the unit of filter response normalisation; "
            "give activation='relu'"
        )
    layers: list[nn.Module] = [_Normalised(3, channels, 3, 1, norm, bias), _activation(activation)]
    width_in = channels
    for stage in range(3):
        width = channels * 2**stage
        for block in range(3):
            stride = 2 if stage and not block else 1
            layers.append(_Block(width_in, width, stride, activation, norm, bias))
            width_in = width
    last = nn.Linear(4 * channels, out_features)
    _he_normal(last)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def _he_normal(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _activation(name: str) -> nn.Module:
    return nn.SiLU() if name == "silu" else nn.ReLU()
