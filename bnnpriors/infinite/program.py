"""The layer program: what a network of infinite width does to covariances, as data that any backend can interpret.

A node's value is a field over positions (none after a dense layer) with infinitely many exchangeable channels; a program says how
the covariance of the field between two inputs follows from those before it. Positions q, taps p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from ..priors.taps import Kernel, tap_covariance
from .nonlinearities import Nonlinearity

Positions = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Where the taps of a convolution lie: tap p of output q is at q · stride + p · dilation − low of the zero-padded input.

    Attributes:
        size, stride, dilation: for each axis. padding: (low, high) for each axis.
    """

    size: Positions
    stride: Positions
    dilation: Positions
    padding: tuple[tuple[int, int], ...]

    def output(self, positions: Positions) -> Positions:
        """The number of output positions on each axis; below 1 where the window does not fit."""
        axes = zip(positions, self.size, self.stride, self.dilation, self.padding, strict=True)
        return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, d, pad in axes)

    @property
    def flat_padding(self) -> list[int]:
        """The padding as `torch.nn.functional.pad` takes it, last axis first."""
        return [length for pair in reversed(self.padding) for length in pair]


@dataclass(frozen=True)
class Taps:
    """The covariance of the taps of one filter up to a factor: R_pp' of `CorrelatedNormal` times s_p s_p'.

    Attributes:
        kernel: as for `CorrelatedNormal`; None for independent taps. lengthscale: ℓ in taps.
        scales: s_p, [taps] float64, where taps have scales of their own.
    """

    kernel: Kernel | None = None
    lengthscale: float = 1.0
    scales: Tensor | None = None

    @property
    def is_correlated(self) -> bool:
        """Whether two taps of a filter are correlated."""
        return self.kernel is not None

    @property
    def has_lengthscale(self) -> bool:
        """Whether there is a lengthscale to learn."""
        return self.kernel is not None and not isinstance(self.kernel, Tensor)

    def shape(self, size: Positions, lengthscale: float | Tensor) -> Float64[Tensor, "taps taps"]:
        """Σ/tr Σ for a filter of this size."""
        count = math.prod(size)
        matrix = torch.eye(count, dtype=torch.float64)
        if self.kernel is not None:
            device = lengthscale.device if isinstance(lengthscale, Tensor) else None
            matrix = tap_covariance(self.kernel, lengthscale, size, device)
        if self.scales is not None:
            scales = self.scales.to(matrix)
            matrix = scales[:, None] * matrix * scales
        return matrix / matrix.diagonal().sum()


@dataclass(frozen=True)
class Layer:
    """The prior of a linear or convolutional layer.

    Attributes:
        weight_variance: σ_w², the variance of one weight times the fan-in (input channels times taps).
        bias_variance: σ_b². taps: how the taps share σ_w²; None for one that shares it equally, or a dense layer.
    """

    name: str
    weight_variance: float
    bias_variance: float
    taps: Taps | None = None


@dataclass(frozen=True)
class Node:
    """One operation on one or two earlier nodes, given by their numbers."""

    name: str
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Input(Node):
    """K⁰_qq' = (1/C) Σ_c x_cq x'_cq'."""


@dataclass(frozen=True)
class Convolution(Node):
    """K ← σ_b² + Σ_pp' Σ_pp' V_{q+p, q'+p'}, with Σ of trace σ_w²."""

    layer: int
    window: Window
    channels: tuple[int, int]


@dataclass(frozen=True)
class Dense(Node):
    """K ← σ_b² + σ_w² · mean_q V_qq, over the positions that were flattened."""

    layer: int
    features: tuple[int, int]


@dataclass(frozen=True)
class Activation(Node):
    """V ← E[φ(u) φ(u')] for (u, u') ~ N(0, K)."""

    function: Nonlinearity


@dataclass(frozen=True)
class PositionMap(Node):
    """A linear map of positions that is the same for all channels, such as average pooling: V ← A V Aᵀ.

    Attributes:
        apply: [batch, channels, *positions] -> [batch, channels, *positions].
        axes: the number of axes that it works on.
        is_local: whether an output position depends on one input position alone (padding).
        flattens: whether no axis of positions is left (a mean over them).
    """

    apply: Callable[[Tensor], Tensor]
    axes: int
    is_local: bool = False
    flattens: bool = False


@dataclass(frozen=True)
class Flatten(Node):
    """Positions become features; nothing happens to covariances until a dense layer averages over them."""


@dataclass(frozen=True)
class Scale(Node):
    """V ← factor² V."""

    factor: float


@dataclass(frozen=True)
class Sum(Node):
    """V ← V_a + V_b, plus the products of their means where both have one."""


@dataclass(frozen=True)
class Program:
    """Nodes in an order in which each follows its sources; the last is the output.

    Attributes:
        layers: the priors of the layers, which `Convolution` and `Dense` refer to by number.
        mean_terms: whether sums include the products of means.
    """

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    mean_terms: bool = True
    has_mean: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        known: list[bool] = []
        for node in self.nodes:
            known.append(_has_mean(node, known))
        object.__setattr__(self, "has_mean", tuple(known))

    def crosses_means(self, node: Node) -> bool:
        """Whether the value of a node holds products of the means of its sources."""
        return self.mean_terms and isinstance(node, Sum) and all(self.has_mean[i] for i in node.sources)

    @property
    def needs_means(self) -> bool:
        """Whether any node holds products of means."""
        return any(self.crosses_means(node) for node in self.nodes)

    @property
    def has_positions(self) -> bool:
        """Whether any node works on positions, so that inputs cannot be flat rows."""
        return any(isinstance(node, (Convolution, PositionMap)) for node in self.nodes)

    def __str__(self) -> str:
        """One line a node."""
        return "\n".join(
            f"{number:>3}  {type(node).__name__:<12} {node.name:<20} {', '.join(map(str, node.sources))}"
            for number, node in enumerate(self.nodes)
        )


def _has_mean(node: Node, earlier: list[bool]) -> bool:
    """Whether a channel's mean may differ from zero."""
    if isinstance(node, (Input, Convolution, Dense)):
        return False
    if isinstance(node, Activation):
        return not node.function.is_odd
    return any(earlier[source] for source in node.sources)
