"""Normalisation without batch statistics, so that every example's output is its own and there is a likelihood."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


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


@torch.no_grad()
def freeze_statistics(net: Net, x: Float[Tensor, "points ..."]) -> Net:
    """Give every batch normalisation the statistics of `x` under the present weights, and freeze them there.

    Batch normalisation with constants μ and σ² in the place of a batch's own (Ioffe & Szegedy 1502.03167, algorithm 2),
    y = γ (x − μ)/√(σ² + ε) + β, is a layer like any other: outputs do not depend on the rest of the batch, so a prior can be
    attached and chains can be vectorised. The constants are part of the model: with other ones the posterior is another. Load a
    checkpoint's weights first, where there is one.

    Args:
        net: the network, changed in place; in evaluation mode afterwards.
        x: inputs, all in one batch: some hundred training inputs.

    Returns:
        the same network.

    Raises:
        ValueError: fewer than two inputs, or no batch normalisation with running statistics in `net`.
    """
    layers = _batch_norms(net)
    if len(x) < 2 or not layers:
        raise ValueError(
            f"freeze_statistics: {len(x)} inputs and {len(layers)} batch normalisations with running statistics given, expected "
            "two inputs or more and one such layer at least"
        )
    net.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over batches, of which there is one
        layer.train()
    try:
        net(x)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
    return net


def has_initial_statistics(net: nn.Module) -> bool:
    """Whether a batch normalisation of `net` still has the statistics it was made with, mean 0 and variance 1."""
    return any(int(layer.num_batches_tracked or 0) == 0 for layer in _batch_norms(net))


def _batch_norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [
        layer
        for layer in net.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats
    ]
