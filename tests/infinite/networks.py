"""Small networks that between them use every kind of layer, as (body, head): the head is the last Linear."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import bnnpriors as bp

P = bp.priors
fan_in = P.fan_in


class Erf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x)


class Sin(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


class Skip(nn.Module):
    """x + branch(x), in as many ways as there are to write it."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x / 2 + self.branch(x)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def dense(width: int) -> tuple[nn.Module, dict[str, object]]:
    body = nn.Sequential(
        nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), Erf(), nn.Linear(width, width), nn.GELU()
    )
    priors = {
        "0.weight": P.Normal(0.0, fan_in(1.3)),
        "2.weight": P.StudentT(5.0, 0.0, fan_in(1.5), matched="variance"),
        "4.weight": P.Laplace(0.0, fan_in(1.0)),
        "*.bias": P.Normal(0.0, 0.3),
    }
    return body, priors


def strided(width: int) -> tuple[nn.Module, dict[str, object]]:
    body = nn.Sequential(
        nn.Conv2d(2, width, (2, 3), padding="same"),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, stride=(1, 2), padding=(1, 2), dilation=(1, 2)),
        nn.ReLU(),
        nn.ZeroPad2d((0, 1, 2, 0)),
        nn.Conv2d(width, width, 2, stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
    )
    priors = {
        "0.weight": P.Normal(0.0, fan_in(1.4)),
        "*.weight": P.Logistic(0.0, fan_in(1.4), matched="variance"),
        "*.bias": P.Normal(0.0, 0.3),
    }
    return body, priors


def pooled(width: int) -> tuple[nn.Module, dict[str, object]]:
    rectified = nn.Sequential(nn.Conv2d(width, width, (3, 1), padding=(1, 0)), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.GELU())
    body = nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1),
        Skip(rectified),
        Skip(second),
        nn.AvgPool2d((2, 1)),
        nn.Conv2d(width, width, 2),
        nn.ReLU(),
        Mean(),
    )
    priors = {
        "1.branch.0.weight": P.CorrelatedNormal(fan_in(1.5), "rbf", 1.5),
        "4.weight": P.CorrelatedNormal(fan_in(1.4), "matern32", 2.0),
        "*.weight": P.Normal(0.0, fan_in(1.4)),
        "*.bias": P.Normal(0.0, 0.3),
    }
    return body, priors


def sequence(width: int) -> tuple[nn.Module, dict[str, object]]:
    body = nn.Sequential(
        nn.Conv1d(2, width, 3, padding=1),
        Sin(),
        nn.Conv1d(width, width, 2, dilation=2),
        nn.SiLU(),
        nn.AvgPool1d(2, stride=1),
        nn.Flatten(),
    )
    priors = {
        "2.weight": P.CorrelatedStudentT(6.0, fan_in(1.5), "matern12", 1.0, matched="variance"),
        "*.weight": P.Normal(0.0, fan_in(1.2)),
        "*.bias": P.Normal(0.0, 0.3),
    }
    return body, priors


NETWORKS: dict[str, tuple[Callable[[int], tuple[nn.Module, dict[str, object]]], tuple[int, ...]]] = {
    "dense": (dense, (3,)),
    "strided": (strided, (2, 5, 4)),
    "pooled": (pooled, (2, 4, 3)),
    "sequence": (sequence, (2, 6)),
}
HEAD_GAIN, HEAD_BIAS = 1.2, 0.2


def model(name: str, width: int = 3) -> bp.BayesianModule:
    """The network with its priors, in float64: net[0] is the body, net[1] the head."""
    make, shape = NETWORKS[name]
    body, priors = make(width)
    features = body(torch.zeros(1, *shape)).shape[1]
    net = nn.Sequential(body, nn.Linear(features, 1)).double()
    head = {"1.weight": P.Normal(0.0, fan_in(HEAD_GAIN)), "1.bias": P.Normal(0.0, HEAD_BIAS)}
    return bp.attach(net, {**head, **{f"0.{pattern}": prior for pattern, prior in priors.items()}})


def inputs(name: str, count: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *NETWORKS[name][1], generator=generator, dtype=torch.float64)
