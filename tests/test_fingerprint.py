"""Two runs are the same run only where every setting that changes the draws is equal."""

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import planning
from bnnpriors.fingerprint import describe, fingerprint
from bnnpriors.programs import Plan


class Walk(bp.samplers.Sampler):
    """A user's sampler with no repr of its own."""

    def __init__(self, scale: float) -> None:
        self.scale = scale


def _posterior(net: nn.Module, scale: object = 1.0) -> bp.Posterior:
    x = torch.linspace(-1, 1, 6)[:, None]
    return bp.Posterior(bp.attach(net, bp.priors.Normal()), bp.likelihoods.Gaussian(scale), x, x)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bp.likelihoods.Gaussian(1.0), bp.likelihoods.Gaussian(9.0)),
        (
            bp.likelihoods.Gaussian(bp.priors.HalfCauchy(0.1)),
            bp.likelihoods.Gaussian(bp.priors.Gamma(5.0, 3.0)),
        ),
        (bp.priors.Normal(torch.zeros(3)), bp.priors.Normal(torch.full((3,), 1e-5))),
        (
            bp.priors.as_prior(torch.distributions.Normal(torch.zeros(3), 1.0)),
            bp.priors.as_prior(torch.distributions.Normal(torch.ones(3), 1.0)),
        ),
        (Walk(1.0), Walk(2.0)),
        (bp.samplers.HMC(0.1), bp.samplers.HMC(0.2)),
    ],
    ids=["noise", "noise prior", "tensor", "distribution", "user's sampler", "sampler"],
)
def test_different_settings_differ(one, other):
    assert describe(one) != describe(other)
    assert describe(one) == describe(one)


def test_tied_weights_of_two_builds_are_the_same_run():
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        net[1].weight = net[0].weight
        return net

    with torch.random.fork_rng():
        first, second = (fingerprint(_posterior(build(seed)), bp.samplers.SGLD()) for seed in (0, 1))
    assert first == second


def test_fixed_values_are_part_of_the_run():
    nets = [nn.Linear(1, 1) for _ in range(2)]
    for value, net in enumerate(nets):
        nn.init.constant_(net.bias, float(value))
        net.bias.requires_grad_(False)
    first, second = (fingerprint(_posterior(net), bp.samplers.SGLD()) for net in nets)
    assert first["constants"] != second["constants"]


def test_a_random_network_is_refused():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(self.layer(x), 0.5, training=self.training)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.raises(ValueError, match="random, or depends on the rest of the batch"):
            _posterior(Noisy())


def test_a_hyperprior_that_allows_negative_scales_is_refused():
    with pytest.raises(ValueError, match=r"Normal: scale has the prior .* allows negative values"):
        bp.priors.Normal(0.0, bp.priors.Normal())
    with pytest.raises(ValueError, match="Gaussian: scale has the prior"):
        bp.likelihoods.Gaussian(bp.priors.StudentT())


def test_predict_says_which_inputs_do_not_fit():
    draws = bp.sample(_posterior(nn.Linear(1, 1)), bp.samplers.SGLD(), num_samples=2)
    with pytest.raises(ValueError, match=r"cannot take inputs of shape \(batch, 3\)"):
        draws.predict(torch.zeros(4, 3))


def test_without_a_compiler_long_runs_stay_uncompiled(monkeypatch, tmp_path):
    monkeypatch.setenv("BNNPRIORS_CACHE", str(tmp_path))

    def figure(posterior, theta, plan, repeats):
        if plan.compiled:
            raise RuntimeError("no compiler")
        return 0.0, 1.0

    monkeypatch.setattr(planning, "_time", figure)
    posterior = _posterior(nn.Linear(1, 1))
    plan = planning.choose_plan(posterior, torch.zeros(2, posterior.dim), 1e6, chunk_size=None, compile=None)
    assert isinstance(plan, Plan)
    assert not plan.compiled
