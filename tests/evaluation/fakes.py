"""Likelihoods and draws with the least that the evaluation layer asks for."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn


class Normal(nn.Module):
    """Regression with a latent log noise scale, as an `nn.Module`."""

    kind = "regression"

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale), dtype=torch.float64))

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.log_prob(outputs, y)

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        z = (y - outputs) * torch.exp(-self.log_scale)
        return (-0.5 * z.square() - self.log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs

    def variance(self, outputs: Tensor) -> Tensor:
        return torch.exp(2 * self.log_scale).expand_as(outputs)


class PlainLaplace:
    """Regression without a module, with untraceable code (torch validates arguments) and its own `cdf`."""

    kind = "regression"

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return torch.distributions.Laplace(outputs, 1.0).log_prob(y).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs

    def variance(self, outputs: Tensor) -> Tensor:
        return torch.full_like(outputs, 2.0)

    def cdf(self, outputs: Tensor, y: Tensor) -> Tensor:
        return torch.distributions.Laplace(outputs, 1.0).cdf(y)


class Softmax:
    """Classification without a module."""

    kind = "classification"

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.log_probs(outputs).gather(-1, y[:, None])[:, 0]

    def log_probs(self, outputs: Tensor) -> Tensor:
        return torch.log_softmax(outputs, -1)


def logits(probs: list[list[float]]) -> Tensor:
    """One draw whose class probabilities are these, [1, batch, classes]."""
    return torch.tensor(probs, dtype=torch.float64).log()[None]


def normal_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fake_draws(theta: Tensor, temperature: float | Tensor = 1.0, **stats: Tensor) -> SimpleNamespace:
    temperatures = torch.as_tensor(temperature, dtype=torch.float64).expand(theta.shape[0])
    return SimpleNamespace(theta=theta, stats=stats, temperatures=temperatures)
