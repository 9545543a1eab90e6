"""Data, settings and latents that a posterior refuses, and what it says then."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bnnpriors as bp
from bnnpriors import priors as P

N = 23
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(N, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.arange(N) % 2
MODEL = bp.attach(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double(), P.Normal(0.0, 0.7))
GAUSSIAN, CATEGORICAL = bp.likelihoods.Gaussian(), bp.likelihoods.Categorical()


class Pairwise:
    """Forgets that outputs are [N, 1]: broadcasting pairs every point with every other."""

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return -((outputs - y) ** 2)


def _with(value: Tensor, place: tuple[int, ...], number: float) -> Tensor:
    value = value.clone()
    value[place] = number
    return value


@pytest.mark.parametrize(
    ("likelihood", "x", "y", "message"),
    [
        (GAUSSIAN, None, None, "give likelihood, x and y together"),
        (None, X, Y, "give likelihood, x and y together"),
        (GAUSSIAN, X, None, "give likelihood, x and y together"),
        (GAUSSIAN, X, Y[:-1], "23 inputs and 22 targets given, expected the same number"),
        (GAUSSIAN, X[:0], Y[:0], "0 inputs and 0 targets given.*at least one"),
        (GAUSSIAN, X[:, :2], Y, r"cannot take inputs of shape \(batch, 2\)"),
        (GAUSSIAN, X.long(), Y, r"cannot take inputs of shape \(batch, 3\)"),
        (GAUSSIAN, X, Y[:, 0], r"outputs \(23, 2\) but targets \(23,\)"),
        (GAUSSIAN, X, Y[:, :1], r"outputs \(23, 2\) but targets \(23, 1\)"),
        (GAUSSIAN, _with(X, (3, 1), math.nan), Y, "1 of 23 examples hold NaN or infinite values"),
        (GAUSSIAN, X, _with(Y, (3, 1), math.inf), "1 of 23 targets are NaN or infinite"),
        (CATEGORICAL, X, LABELS + 1, "labels from 1 to 2 given, expected 0 to 1: the model has 2 outputs"),
        (CATEGORICAL, X, Y, r"expected integer labels \[N\]"),
        (Pairwise(), X, Y[:, 0], r"log_prob returned shape \(2, 2\).*expected \(2,\): one number an example"),
    ],
)
def test_unfit_data_are_refused(likelihood: Any, x: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bp.Posterior(MODEL, likelihood, x, y)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_is_refused(shuffle: bool) -> None:
    """Its order is fixed, or that of epochs."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=shuffle)
    with pytest.raises(
        TypeError, match=r"expected tensors x and y and batch_size=.*a Metropolis test .* is not exact"
    ):
        bp.Posterior(MODEL, GAUSSIAN, loader)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"temperature 0\.0 given, expected positive finite numbers"),
        ({"temperature": -1}, "temperature -1 given, expected positive finite numbers"),
        ({"temperature": math.nan}, "expected positive finite numbers"),
        ({"temperature": [1.0, math.inf]}, "expected positive finite numbers"),
        ({"temperature": []}, "expected positive finite numbers"),
        ({"temperature": [1.0, 1.0]}, "expected each value once; raise num_chains"),
        ({"batch_size": 0}, r"batch_size 0 given, expected 1 to 23 \(the number of data\)"),
        ({"batch_size": 24}, r"batch_size 24 given, expected 1 to 23 \(the number of data\)"),
        ({"tempering": "prior"}, "tempering 'prior' given, expected 'posterior' or 'likelihood'"),
    ],
)
def test_unfit_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bp.Posterior(MODEL, GAUSSIAN, X, Y, **settings)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_a_plain_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Sequential given as model, expected the result of bp\.attach"):
        bp.Posterior(nn.Sequential())  # type: ignore[arg-type]


@pytest.mark.usefixtures("as_a_user_meets_it")
@pytest.mark.parametrize("size", [2.5, "3"])
def test_a_batch_size_must_be_whole(size: Any) -> None:
    with pytest.raises(ValueError, match=rf"batch_size {size!r} given, expected 1 to 23"):
        bp.Posterior(MODEL, GAUSSIAN, X, Y, batch_size=size)
    assert bp.Posterior(MODEL, GAUSSIAN, X, Y, batch_size=np.int64(3)).batch_size == 3  # type: ignore[arg-type]


def test_targets_must_be_finite_in_the_dtype_of_the_model() -> None:
    model = bp.attach(nn.Linear(3, 2), P.Normal())
    with pytest.raises(ValueError, match=r"1 of 23 targets are NaN or infinite in torch\.float32"):
        bp.Posterior(model, GAUSSIAN, X, _with(Y, (3, 1), 1e300))
    with pytest.raises(ValueError, match="1 of 23 examples hold NaN or infinite"):
        bp.Posterior(model, GAUSSIAN, _with(X, (3, 1), 1e300), Y)


def test_a_network_must_return_one_tensor() -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), x

    with pytest.raises(
        TypeError, match=r"the model returns a tuple, expected one tensor \[batch, \.\.\.\]: wrap"
    ):
        bp.Posterior(bp.attach(Pair(3, 2).double(), P.Normal()), GAUSSIAN, X, Y)


@pytest.mark.parametrize(
    ("given", "expected", "is_ladder"),
    [
        (np.float32(0.5), (0.5,), False),
        (torch.tensor(0.5), (0.5,), False),
        (np.array(2), (2.0,), False),
        (torch.tensor([0.5, 1.0]), (0.5, 1.0), True),
        (np.array([0.5]), (0.5,), True),
    ],
)
def test_temperatures_of_any_number_type(given: Any, expected: tuple[float, ...], is_ladder: bool) -> None:
    posterior = bp.Posterior(MODEL, GAUSSIAN, X, Y, temperature=given)
    assert posterior.temperatures == expected
    assert posterior.is_ladder == is_ladder


def test_unfit_latents_are_refused() -> None:
    posterior = bp.Posterior(MODEL, GAUSSIAN, X, Y, temperature=[0.5, 1.0])
    with pytest.raises(ValueError, match=r"theta \(2, 31\) given, expected \(chains, 32\)"):
        posterior.log_density(torch.zeros(2, 31, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"theta of torch\.float32 given, expected the model's torch\.float64"
    ):
        posterior.log_density(torch.zeros(2, 32))
    with pytest.raises(ValueError, match="3 chains given for 2 temperatures: expected a multiple"):
        posterior.log_density(torch.zeros(3, 32, dtype=torch.float64))
