"""A conjugate regression with a quarter of all moves rejected: whitened variances are 1, unless the potential is not restored."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import GGMC, HMC
from bnnpriors.samplers.base import choose

from .targets import LIMIT, Pooled, assert_mean, run, standard_errors, target_of


def start(chains, dim):
    return torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class StalePotential(HMC):
    """The fault: on rejection the potential stays that of the proposal."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        rejected = state.potential + info["energy_error"]
        return new._replace(potential=choose(info["accepted"], new.potential, rejected)), info


class StalePotentialGGMC(GGMC):
    """The same fault in GGMC."""

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        rejected = state.potential + info["energy_error"]
        return new._replace(potential=choose(info["accepted"], new.potential, rejected)), info


def regression_posterior():
    """y = Xw + ε in two dimensions, and the posterior's mean and the factor that whitens it."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.6], [0.0, 0.7]], dtype=torch.float64
    )
    y = x @ torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
    y = y + 0.5 * torch.randn(20, 1, generator=generator, dtype=torch.float64)
    net = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    posterior = bp.Posterior(
        bp.attach(net, bp.priors.Normal(0.0, 1.0)), bp.likelihoods.Gaussian(0.5), x, y, batch_size=None
    )
    precision = x.T @ x / 0.25 + torch.eye(2, dtype=torch.float64)
    return posterior, torch.linalg.solve(precision, x.T @ y / 0.25)[:, 0], torch.linalg.cholesky(precision)


@pytest.mark.parametrize(
    ("sampler", "exact"),
    [
        (HMC(step_size=0.17, num_steps=5), True),
        (StalePotential(step_size=0.17, num_steps=5), False),
        (GGMC(step_size=0.16, momentum_decay=0.9, steps_per_test=4), True),
        (StalePotentialGGMC(step_size=0.16, momentum_decay=0.9, steps_per_test=4), False),
    ],
)
def test_regression_with_rejections(sampler, exact):
    """Whitened variances are 1 with a quarter of the moves rejected; a potential that is not restored is seen."""
    chains = 1000
    posterior, mean, factor = regression_posterior()
    theta, figures = run(
        sampler,
        target_of(posterior, chains),
        mean + 0.1 * start(chains, 2),
        Pooled(0, chains),
        steps=150,
        skip=50,
    )
    white = (theta - mean) @ factor
    if exact:
        assert 0.2 < 1 - float(figures["accepted"].double().mean()) < 0.4
        assert_mean(white.mean(0), 0.0, resolution=0.05)
        assert_mean((white**2).mean(0), 1.0, resolution=0.05)
        assert_mean((white[..., 0] * white[..., 1]).mean(0), 0.0, resolution=0.05)
    else:
        distance, _ = standard_errors((white**2).mean(0), 1.0)
        assert distance.abs().max() > 4 * LIMIT
