"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}


def mlp(
    in_features: int,
    out_features: int,
    *,
    hidden: Sequence[int] = (100, 100),
    activation: Literal["relu", "tanh", "gelu", "leaky_relu"] = "relu",
) -> nn.Sequential:
    """A fully connected network: h ← φ(W h + b) for each hidden layer, then W h + b.

    Parameters are named by layer: `0.weight`, `0.bias`, `2.weight`, … Inputs [batch, in_features], outputs
    [batch, out_features].

    Args:
        in_features: the number of input features.
        out_features: the number of targets or classes (`Dataset.num_outputs`).
        hidden: the width of each hidden layer; empty for a linear model.
        activation: φ.

    Raises:
        ValueError: a width below 1, or an activation that is not one of these.
    """
    widths = [in_features, *hidden, out_features]
    if min(widths) < 1:
        raise ValueError(f"layer widths {widths}: expected each to be at least 1")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation {activation!r}: expected one of {', '.join(_ACTIVATIONS)}")
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for width_in, width_out in pairwise(widths[1:]):
        layers += [_ACTIVATIONS[activation](), nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)
