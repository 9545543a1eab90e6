"""Simulation-based calibration: many data sets, each with a chain of its own, and the ranks of what the data came from.

With θ* ~ p(θ), y ~ p(y | θ*) and draws θ₁ … θ_L of p(θ | y), the rank of f(θ*, y) among f(θ*, y), f(θ₁, y), …, f(θ_L, y) is
uniform for every f (Talts et al. 1804.06788, theorem 1; functions of the data too: Modrák et al. 2211.02383). Draws of a chain
are not independent, so θ* is put at a uniformly drawn place of the chain: U steps back from it and L − U forward, where the
steps back are like those forward because HMC is reversible (Besag & Clifford 1989, Biometrika 76; Gandy & Scott 2001.06465).
The ranks are then exactly uniform for any L, step size and mixing; mixing gives the power.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import vmap

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.joint import LIKELIHOOD
from bnnpriors.posterior import Target
from bnnpriors.programs import Batch
from bnnpriors.samplers import HMC
from bnnpriors.samplers.base import choose

from .targets import Pooled, target_of

DATA_SETS = 1000
TUNING_SETS = 250
"""Data sets that the step size and the metric are found on, each by four chains."""
LENGTH = 20
"""L, the draws besides θ*."""
NUM_DATA = 6
TESTED = "0.weight"


class Result(NamedTuple):
    """Positions in [0, 1] of each quantity, one a data set; the mean acceptance; mean rank correlation of a chain's ends."""

    positions: dict[str, Tensor]
    acceptance: float
    persistence: float

    def pvalues(self) -> dict[str, float]:
        """Of a Kolmogorov–Smirnov test of uniformity for each quantity, times their number (Bonferroni)."""
        count = len(self.positions)
        return {
            n: count * float(stats.kstest(u.numpy(), "uniform").pvalue) for n, u in self.positions.items()
        }


def calibrate(
    prior: object, shape: tuple[int, ...], *, noise: float = 1.0, streams_type: type[Pooled] = Pooled
) -> Result:
    """Calibration of HMC on a small network whose first weight, of this shape, has the prior; its noise scale is learnt.

    Args:
        noise: the data's noise is this many times the likelihood's.
        streams_type: the random numbers of the chains, such as those that make the Metropolis test always say no.
    """
    data_sets, seed = DATA_SETS, 0
    generator = torch.Generator().manual_seed(seed)
    net, x = _problem(shape, generator)
    model = bp.attach(net, {TESTED: prior, "*": P.Normal()})
    likelihood = bp.likelihoods.Gaussian(P.LogNormal(-0.5, 0.5))
    posterior = bp.Posterior(model, likelihood, x, x.new_zeros(NUM_DATA, 1))
    quantities = _Quantities(posterior, x)

    def simulated(count: int) -> tuple[Tensor, Tensor]:
        theta = torch.stack([posterior.sample_prior(generator) for _ in range(count)])
        outputs, scale = quantities.outputs(theta), quantities.noise(theta)[:, None, None]
        y = outputs + noise * scale * torch.randn(outputs.shape, generator=generator, dtype=x.dtype)
        return theta, y

    theta, y = (each.repeat_interleave(data_sets // TUNING_SETS, 0) for each in simulated(TUNING_SETS))
    sampler, inverse_mass, step_size = _tuned(_target(posterior, x, y), theta, Pooled(seed, data_sets))

    theta, y = simulated(data_sets)
    streams = streams_type(seed + 1, data_sets)
    target = _target(posterior, x, y)
    start = sampler.init(target, theta, streams)._replace(inverse_mass=inverse_mass, step_size=step_size)
    back = torch.randint(LENGTH + 1, (data_sets,), generator=generator)
    truth = quantities(theta, y)
    below = {name: torch.zeros(data_sets) for name in truth}
    ties = {name: torch.zeros(data_sets) for name in truth}
    state, acceptance = start, 0.0
    for index in range(LENGTH):
        turn = back == index
        state = type(state)(*(choose(turn, old, new) for new, old in zip(state, start, strict=True)))
        state, info = sampler.step(target, state, streams)
        acceptance += float(info["acceptance"].mean()) / LENGTH
        here = quantities(state.theta, y)
        for name, value in here.items():
            below[name] += value < truth[name]
            ties[name] += value == truth[name]
    uniform = torch.rand(data_sets, generator=generator)
    positions = {n: (below[n] + uniform * (ties[n] + 1)) / (LENGTH + 1) for n in truth}
    ends = [stats.spearmanr(truth[name].numpy(), here[name].numpy()).statistic for name in truth]
    return Result(positions, acceptance, float(sum(ends) / len(ends)))


class _Quantities:
    """f(θ, y), for all data sets at once."""

    def __init__(self, posterior: bp.Posterior, x: Tensor) -> None:
        self.posterior = posterior
        self.x = x
        self.forward = posterior.forward_for(x)

    def outputs(self, theta: Tensor) -> Tensor:
        return self.forward(vmap(self.posterior.weights)(theta)[0], self.x, False)

    def noise(self, theta: Tensor) -> Tensor:
        return vmap(self.posterior.values)(theta)[LIKELIHOOD + "scale"]

    def __call__(self, theta: Tensor, y: Tensor) -> dict[str, Tensor]:
        latents = self.posterior.layout.unpack(theta)
        weights, log_prior = vmap(self.posterior.weights)(theta)
        outputs = self.forward(weights, self.x, False)
        swaps = self.posterior.likelihood_swaps(latents)
        each = vmap(self.posterior.log_likelihood)(swaps, outputs, y)
        tested = weights[TESTED].flatten(1)
        found = {
            "a weight": tested[:, 0],
            "the radius": tested.norm(dim=1),
            "the log prior": log_prior,
            "the log likelihood": each.flatten(1).sum(1),
            "a prediction": outputs[:, 0, 0],
            "the change of predictions": outputs[:, -1, 0] - outputs[:, 0, 0],
            "the noise": latents[LIKELIHOOD + "scale"],
        }
        for name in latents:
            if name.startswith(TESTED + ".") or name.startswith("shared."):
                found[name] = latents[name].reshape(len(theta), -1).sum(1)
        return found


def _problem(shape: tuple[int, ...], generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    """A network of one tanh layer whose first weight has this shape, and inputs for it."""
    out, width, *taps = shape
    first = nn.Conv2d(width, out, taps) if taps else nn.Linear(width, out)
    net = nn.Sequential(first, nn.Tanh(), nn.Flatten(), nn.Linear(out, 1)).double()
    return net, torch.randn(NUM_DATA, width, *taps, generator=generator, dtype=torch.float64)


def _target(posterior: bp.Posterior, x: Tensor, y: Tensor) -> Target:
    """The potential of one chain a data set: the program of minibatches, which are whole data sets here."""
    target = target_of(posterior, len(y))
    target._data = Batch(x.expand(len(y), *x.shape), y, True)
    return target


def _tuned(target: Target, theta: Tensor, streams: Pooled) -> tuple[HMC, Tensor, Tensor]:
    """A sampler, its metric and step size, from data sets that are not used again."""
    sampler = HMC(step_size=1.0, num_steps=6, jitter=0.3)
    state = sampler.init(target, theta, streams)
    spread = theta.quantile(torch.tensor([0.25, 0.75], dtype=theta.dtype), dim=0).diff(dim=0)[0] / 1.35
    state = state._replace(inverse_mass=(spread**2).clamp(min=1e-12).expand_as(theta))
    for _ in range(10):
        if sampler.step(target, state, streams)[1]["acceptance"].mean() > 0.7:
            break
        state = state._replace(step_size=0.7 * state.step_size)
    return sampler, state.inverse_mass, state.step_size
