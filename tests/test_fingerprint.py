"""Two runs are the same run only where every setting that changes the draws is equal."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.fingerprint import describe, difference, fingerprint


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


class Net(nn.Module):
    """A network with settings of every kind, none of them in its `repr`."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.head = None
        self.alpha, self.knots, self.mask = 1.0, np.linspace(0, 1, 5000), torch.ones(3)
        self.table, self.act, self.tags = {"a": [1, 2]}, Gain(1.0), {"x", "y", "z"}
        self.math, self.blocks = math, [nn.ELU(1.0)]
        self.register_buffer("offset", torch.zeros(2), persistent=False)
        for name, value in settings.items():
            setattr(self, name, value)
        self.itself = [self]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = self.layer(x)
        return self.last.tanh()


class Gain:
    """A user's activation: a callable object."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x


def _model_entry(net: nn.Module, x: torch.Tensor | None = None) -> str:
    x = torch.linspace(-1, 1, 6)[:, None] if x is None else x
    y = torch.zeros(len(x), 1)
    posterior = bp.Posterior(bp.attach(net, bp.priors.Normal()), bp.likelihoods.Gaussian(1.0), x, y)
    return fingerprint(posterior, bp.samplers.SGLD())["model"]


KNOTS = np.linspace(0, 1, 5000)
KNOTS[2500] += 1e-12


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha": 5.0},
        {"knots": KNOTS},
        {"mask": torch.zeros(3)},
        {"offset": torch.ones(2)},
        {"table": {"a": [1, 3]}},
        {"act": Gain(2.0)},
        {"tags": {"x", "y"}},
        {"blocks": [nn.ELU(2.0)]},
        {"head": nn.Identity()},
        {"layer": nn.Linear(1, 1, bias=False)},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_of_the_network_are_part_of_the_run(setting: dict[str, object]) -> None:
    with torch.random.fork_rng():
        assert _model_entry(Net(**setting)) != _model_entry(Net())
        assert _model_entry(Net()) == _model_entry(Net())


def test_heads_of_attention_are_part_of_the_run() -> None:
    class Attention(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, heads, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

    with torch.random.fork_rng():
        two, four = (_model_entry(Attention(heads), torch.ones(5, 3, 4)) for heads in (2, 4))
    assert str(Attention(2)) == str(Attention(4))
    assert two != four


def test_what_a_pass_leaves_in_a_network_is_no_setting() -> None:
    """Initial weights differ and a run lies between: an LSTM keeps a list of its weights, and `Net` its last output."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    with torch.random.fork_rng():
        for kind, x in ((Net, torch.randn(6, 1)), (Recurrent, torch.randn(6, 4, 2))):
            model = bp.attach(kind(), bp.priors.Normal())
            posterior = bp.Posterior(model, bp.likelihoods.Gaussian(1.0), x, torch.zeros(6, 1))
            before = fingerprint(posterior, bp.samplers.SGLD())
            bp.sample(posterior, bp.samplers.SGLD(), num_samples=2, num_chains=2, progress=False)
            assert fingerprint(posterior, bp.samplers.SGLD()) == before
            assert _model_entry(kind(), x) == before["model"]


def test_of_long_entries_the_difference_is_told() -> None:
    with torch.random.fork_rng():
        one, other = ({"model": _model_entry(Net(table=list(range(n)), zeta=0))} for n in (400, 401))
    (line,) = difference(one, other)
    assert re.match(r"  model: the store has ….*, 399\), .*…, this run ….*, 399, 400\), .*…$", line)
    assert len(line) < 400


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
