"""Measurement points as users give them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.variational import Box
from bnnpriors.variational.measurement import Measurement

X = torch.arange(12.0).view(6, 2)


def posterior(batch_size: int | None = None) -> bp.Posterior:
    model = bp.attach(nn.Linear(2, 1), bp.priors.Normal(0.0, 1.0))
    return bp.Posterior(model, bp.likelihoods.Gaussian(1.0), X, torch.zeros(6, 1), batch_size=batch_size)


def points(given, post: bp.Posterior | None = None, minibatch: torch.Tensor | None = None) -> torch.Tensor:
    return Measurement(given, post or posterior())(torch.Generator().manual_seed(0), minibatch)


def test_parts_are_joined() -> None:
    box = Box(-1.0, 1.0, 5, shape=(2,))
    assert torch.equal(points("training"), X)
    assert torch.equal(points(X[1:3]), X[1:3])
    assert points(["training", box, X[:1]]).shape == (12, 2)
    assert torch.equal(points("minibatch", posterior(2), X[2:4]), X[2:4])
    assert torch.equal(points(lambda generator: X[3:5].double()), X[3:5])


def test_a_box_is_uniform_and_has_its_corners() -> None:
    """50,000 numbers: each mean to 6 standard errors, a false-alarm rate of 4e-9."""
    x = Box([0.0, 10.0], [2.0, 14.0], 50_000)(torch.Generator().manual_seed(1))
    assert bool(((x >= torch.tensor([0, 10])) & (x <= torch.tensor([2, 14]))).all())
    errors = 6 * torch.tensor([2.0, 4.0]).double() / math.sqrt(12 * 50_000)
    assert bool(((x.mean(0) - torch.tensor([1.0, 12.0])).abs() < errors).all())
    assert float(x[:, 0].max()) > 1.99
    assert Box(0.0, 1.0, 3, shape=(1, 4, 4))(torch.Generator()).shape == (3, 1, 4, 4)


def test_whether_they_are_fixed_and_hold_the_training_inputs() -> None:
    box = Box(0.0, 1.0, 5, shape=(2,))
    for given, is_fixed, holds in (
        ("training", True, True),
        (X, True, True),
        (X.flip(0), True, True),
        ([X[:3], X[3:]], True, True),
        (X[:5], True, False),
        (["training", box], False, True),
        (box, False, False),
    ):
        found = Measurement(given, posterior())
        assert (found.is_fixed, found.holds_training) == (is_fixed, holds), given
    assert not Measurement("minibatch", posterior(2)).holds_training
    assert Measurement(["training", box], posterior()).description == "all training inputs and 5 in a box"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("test", ValueError, "'test' given, expected one of"),
        ("minibatch", ValueError, "without batch_size"),
        ([], ValueError, "no part given"),
        (3, TypeError, "int given"),
        (X[:, :1], ValueError, r"inputs \(6, 1\) given, expected \(points, 2\)"),
        (X * math.nan, ValueError, "NaN"),
        (X[:0], ValueError, "one point at least"),
    ],
)
def test_what_does_not_fit_is_refused(as_a_user_meets_it: None, given, error, message: str) -> None:
    with pytest.raises(error, match=message):
        Measurement(given, posterior())


def test_boxes_that_are_none_are_refused() -> None:
    for low, high, count in ((1.0, 0.0, 3), (0.0, 1.0, 0)):
        with pytest.raises(ValueError, match="Box: low"):
            Box(low, high, count)
