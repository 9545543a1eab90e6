"""Modules and priors that `attach` refuses, and what it says then."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P


def test_unmatched_parameters_are_listed() -> None:
    with pytest.raises(
        ValueError,
        match=r"(?s)these parameters:\n  0\.bias \(3,\)\n  1\.bias \(1,\)\n.*Fixed\(\)",
    ):
        bp.attach(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), {"*.weight": P.Normal()})


def test_a_pattern_without_a_parameter_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"no parameter matches \['\*\.wieght'\]; the names are \['weight', 'bias'\]"
    ):
        bp.attach(nn.Linear(2, 1), {"*.wieght": P.Normal(), "*": P.Normal()})


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"expected a prior: bp\.priors\.Normal"):
        bp.attach(nn.Linear(2, 1), {"*": 1.0})
    with pytest.raises(TypeError, match=r"attach to the plain module \(model\.net\)"):
        bp.attach(bp.attach(nn.Linear(2, 1), P.Normal()), P.Normal())
    with pytest.raises(ValueError, match=r"attach: bias \(1,\): fan_in has no meaning"):
        bp.attach(nn.Linear(2, 1), P.Normal(0.0, P.fan_in()))
    with pytest.raises(ValueError, match=r"attach: weight \(1, 2\): .*batch and event shape \(3,\)"):
        bp.attach(nn.Linear(2, 1), torch.distributions.Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"latents of shape \(1, 1\) for a parameter of shape \(1, 2\)"):
        bp.attach(nn.Linear(2, 1, bias=False), torch.distributions.Dirichlet(torch.ones(2)))


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3, track_running_stats=False)]
)
def test_stochastic_layers_in_training_mode_are_refused(layer: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=rf"attach: 1 is {type(layer).__name__} in training mode.*net\.eval\(\)"
    ):
        bp.attach(nn.Sequential(nn.Linear(3, 3), layer), P.Normal())


def test_frozen_normalisation_and_dropout_stay_off_in_training_mode() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.9)).eval()
    model = bp.attach(net, P.Normal())
    x = torch.randn(8, 3)
    expected = model(x)
    model.train()
    assert model.training
    assert net[0].training
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    assert net[1].num_batches_tracked.item() == 0
    bp.attach(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)), P.Normal())
