"""Targets with known answers, pooled random numbers, and the statistical comparison of the sampler tests.

A comparison takes the mean of each chain (the chains are independent) and fails beyond `LIMIT` standard errors: a false
alarm has probability 2·(1 − Φ(5.2)) = 2e-7, and below 1e-6 with the t distribution of 200 chains.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors.checks.known import Pooled
from bnnpriors.posterior import Target
from bnnpriors.programs import Plan
from bnnpriors.samplers import Sampler
from bnnpriors.streams import Streams

LIMIT = 5.2


class Density(bp.priors.Prior):
    """The density exp(−U(w)); it starts at scaled normal numbers, which are not its samples."""

    def __init__(self, potential: Callable[[Tensor], Tensor], start: float = 1.0) -> None:
        self.potential = potential
        self.start = start

    def log_prob(self, w: Tensor) -> Tensor:
        return -self.potential(w)

    def sample(self, shape, *, generator=None):
        return self.start * torch.randn(shape, generator=generator, dtype=torch.float64)


class Point(nn.Module):
    """A module whose output at every input is its one parameter `theta`."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(dim, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.theta.expand(x.shape[0], -1)


class Accepting(Pooled):
    """The Metropolis test always says yes."""

    def uniform(self) -> Tensor:
        return torch.zeros(self.chains, dtype=self.dtype)


class Refusing(Pooled):
    """The Metropolis test always says no."""

    def uniform(self) -> Tensor:
        return torch.ones(self.chains, dtype=self.dtype)


class Terms:
    """A likelihood of one term a datum: log p(y_i | θ) = −U_{y_i}(θ), so U is the sum of the terms over the data 0, 1, …."""

    kind = "regression"

    def __init__(self, *terms: Callable[[Tensor], Tensor]) -> None:
        self.terms = terms

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        each = torch.stack([term(outputs[:, 0]) for term in self.terms], dim=1)
        return -each.gather(1, y[:, None])[:, 0]


def prior_alone(prior: object, dim: int = 1, **options: object) -> bp.Posterior:
    return bp.Posterior(bp.attach(Point(dim), prior), **options)


def of_potential(potential: Callable[[Tensor], Tensor], dim: int = 1, **options: object) -> bp.Posterior:
    return prior_alone(Density(potential), dim, **options)


def of_terms(*terms: Callable[[Tensor], Tensor], **options: object) -> bp.Posterior:
    """U = Σ terms, one term a datum, so that a batch size splits it."""
    index = torch.arange(len(terms))
    model = bp.attach(Point(), bp.priors.Improper())
    return bp.Posterior(model, Terms(*terms), index[:, None].double(), index, **options)


def target_of(posterior: bp.Posterior, chains: int) -> Target:
    """The target with all chains in one call."""
    return posterior.target(chains, Plan(chains, 4096, False))


def quartic(x: Tensor) -> Tensor:
    """U = x⁴/4 − 0.4x² + 0.5x: at T = 1, E x = −0.45696 and E x² = 1.05264."""
    return x**4 / 4 - 0.4 * x**2 + 0.5 * x


QUARTIC_TERMS = (lambda x: x**4 / 4, lambda x: -0.4 * x**2, lambda x: 0.5 * x)


def quartic_moments(temperature: float) -> tuple[float, float]:
    """E x and E x² by the trapezium rule, exact to rounding for so smooth a density."""
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    weight = torch.softmax(-quartic(x) / temperature, 0)
    return float((weight * x).sum()), float((weight * x**2).sum())


def run(
    sampler: Sampler, target: Target, theta: Tensor, streams: Streams, *, steps: int, skip: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """θ [steps, chains, dim] and the last state's figures after `skip` steps; info is stacked to [steps, chains]."""
    state = sampler.init(target, theta, streams)
    thetas, infos, momenta = [], [], []
    for index in range(skip + steps):
        state, info = sampler.step(target, state, streams)
        if index >= skip:
            thetas.append(state.theta)
            infos.append(info)
            momenta.append(getattr(state, "momentum", state.theta))
    figures = {name: torch.stack([info[name] for info in infos]) for name in infos[0]}
    return torch.stack(thetas), figures | {"momentum": torch.stack(momenta)}


def standard_errors(values: Tensor, exact: Tensor | float) -> tuple[Tensor, Tensor]:
    """Distance of the mean over chains [chains, ...] from `exact`, in standard errors; and the standard errors."""
    error = values.std(0) / values.shape[0] ** 0.5
    return (values.mean(0) - exact) / error, error


def assert_mean(values: Tensor, exact: Tensor | float, *, resolution: float) -> None:
    """The mean over independent chains [chains, ...] is `exact`, and the test would see an error of `resolution`."""
    distance, error = standard_errors(values.double(), exact)
    assert (LIMIT * error < resolution).all(), (
        f"too few samples: {LIMIT * error} is no finer than {resolution}"
    )
    assert (distance.abs() < LIMIT).all(), (
        f"mean {values.mean(0)}, expected {exact}: {distance} standard errors"
    )
