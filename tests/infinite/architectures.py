"""Random small networks of every kind of layer, as a hypothesis strategy."""

from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import bnnpriors as bp

from .networks import Erf, Sin, Skip

P = bp.priors
WIDTH = 2
NONLINEARITIES = (nn.ReLU, lambda: nn.LeakyReLU(0.2), nn.GELU, nn.Tanh, Erf, Sin)


@dataclass
class Architecture:
    """A network, the shape of its inputs, and its priors by parameter name."""

    shape: tuple[int, ...]
    body: list[nn.Module] = field(default_factory=list)
    priors: dict[str, P.Prior] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{nn.Sequential(*self.body)} for inputs {self.shape} with {self.priors}"

    def model(self) -> bp.BayesianModule:
        """The module with its priors."""
        others = {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.3)}
        return bp.attach(nn.Sequential(*self.body).double(), self.priors | others)

    def inputs(self, count: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(
            count, *self.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Convolutions of one or two axes, or none, with strides, dilation, any padding, correlated filters, pooling, sums of
    branches; in the end a mean, a dense layer over all positions, or one convolution over them.
    """
    axes = draw(st.integers(0, 2))
    positions = tuple(draw(st.integers(3, 5)) for _ in range(axes))
    net = Architecture((draw(st.integers(1, 2)), *positions))
    channels = net.shape[0]
    for _ in range(draw(st.integers(1, 2))):
        if not axes:
            net.body += [
                nn.Linear(channels, WIDTH, bias=draw(st.booleans())),
                draw(st.sampled_from(NONLINEARITIES))(),
            ]
        else:
            layer, positions = _convolution(draw, channels, positions)
            _correlate(draw, net, f"{len(net.body)}.weight")
            net.body += [layer, draw(st.sampled_from(NONLINEARITIES))()]
        channels = WIDTH
        if draw(st.booleans()):
            branch = nn.Linear(WIDTH, WIDTH) if not axes else _conv(axes)(WIDTH, WIDTH, 2, padding="same")
            net.body.append(Skip(nn.Sequential(branch, draw(st.sampled_from(NONLINEARITIES))())))
        if axes and min(positions) > 1 and draw(st.booleans()):
            net.body.append((nn.AvgPool1d, nn.AvgPool2d)[axes - 1](2, stride=1))
            positions = tuple(n - 1 for n in positions)
    head = draw(st.sampled_from(("mean", "dense", "convolution"))) if axes else "dense"
    if head == "convolution":
        _correlate(draw, net, f"{len(net.body)}.weight")
        net.body += [_conv(axes)(WIDTH, 1, positions), nn.Flatten()]
        return net
    if head == "mean":
        net.body.append((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[axes - 1](1))
        positions = ()
    net.body += [nn.Flatten(), nn.Linear(WIDTH * int(torch.tensor(positions).prod()), 1)]
    return net


def _convolution(
    draw: st.DrawFn, channels: int, positions: tuple[int, ...]
) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution that fits, and the positions after it."""
    size = tuple(draw(st.integers(1, 3)) for _ in positions)
    dilation = tuple(draw(st.integers(1, 2)) for _ in positions)
    convolution, bias = _conv(len(positions)), draw(st.booleans())
    if draw(st.booleans()):
        return convolution(channels, WIDTH, size, padding="same", dilation=dilation, bias=bias), positions
    stride = tuple(draw(st.integers(1, 2)) for _ in positions)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    needed = [max(0, -(-(r - n) // 2)) for r, n in zip(reach, positions, strict=True)]
    padding = tuple(draw(st.integers(least, 2)) for least in needed)
    after = tuple(
        (n + 2 * p - r) // s + 1 for n, p, r, s in zip(positions, padding, reach, stride, strict=True)
    )
    return convolution(channels, WIDTH, size, stride, padding, dilation, bias=bias), after


def _correlate(draw: st.DrawFn, net: Architecture, name: str) -> None:
    if draw(st.booleans()):
        shape = draw(st.sampled_from(("matern12", "matern32", "rbf")))
        net.priors[name] = P.CorrelatedNormal(P.fan_in(1.3), shape, 1.5)


def _conv(axes: int) -> type[nn.Conv1d] | type[nn.Conv2d]:
    return (nn.Conv1d, nn.Conv2d)[axes - 1]  # type: ignore[return-value]
