"""What flows through a network, layer by layer: the mean square of each leaf module's output and its share between inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Layer:
    """One leaf module in the order of the forward pass, or the inputs.

    Attributes:
        name: its place in the network; a second call has `(2)` behind it. kind: the class's name.
        variance: v = (1/(B n)) Σ_{b,i} h_{bi}², the mean square over B inputs and n units of its output, for each draw. Its
            expectation is the variance of a unit that has mean zero under the prior, as every pre-activation has where the
            weights do (q of Poole et al. 1606.05340, equation 3).
        between_inputs: (1/n) Σ_i Var_b(h_{bi}) / v, the share of v that differs from input to input, for each draw: 0
            where a draw is constant, as far as the given inputs show.
        has_weights: whether the module has parameters of its own: its output is a pre-activation.
    """

    name: str
    kind: str
    variance: Float64[Tensor, " draws"]
    between_inputs: Float64[Tensor, " draws"]
    has_weights: bool

    def quantiles(self) -> Float64[Tensor, " levels"]:
        """The 5, 25, 50, 75 and 95 % quantiles of `variance` over draws; an overflow counts as infinite."""
        return torch.stack([quantile_of(self.variance, level) for level in LEVELS])


Record = tuple[str, str, bool, Tensor, Tensor]
"""Name, kind, whether it has weights, v, and the share of v between inputs."""


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Record]]:
    """Figures of each leaf module's output, call by call until cleared."""
    record: list[Record] = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                calls = sum(known == name or known.startswith(f"{name} (") for known, *_ in record)
                called = f"{name} ({calls + 1})" if calls else name
                weighted = next(module.parameters(), None) is not None
                record.append((called, type(module).__name__, weighted, *_moments(output)))

        return hook

    leaves = [(name or type(m).__name__, m) for name, m in net.named_modules() if not list(m.children())]
    handles = [module.register_forward_hook(hook_for(name)) for name, module in leaves]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def layers_of(x: Tensor, traces: list[list[Record]]) -> tuple[Layer, ...]:
    """The inputs and the layers, from the records of all draws."""
    layers = []
    if x.is_floating_point():
        variance, share = (value.expand(len(traces)) for value in _moments(x))
        layers.append(Layer("x", "inputs", variance, share, False))
    for calls in zip(*traces, strict=True):
        name, kind, weighted, *_ = calls[0]
        variance, share = (torch.stack([call[place] for call in calls]) for place in (3, 4))
        layers.append(Layer(name, kind, variance, share, weighted))
    return tuple(layers)


def quantile_of(values: Tensor, level: float) -> Tensor:
    """The value of this rank: no interpolation, so that infinite values do no harm."""
    return values.nan_to_num(nan=torch.inf).sort().values[round(level * (len(values) - 1))]


def _moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """v, and the share of it between inputs."""
    units = h.double().flatten(1) if h.ndim > 1 else h.double()[:, None]
    variance = units.square().mean()
    return variance, units.var(0, correction=0).mean() / variance
