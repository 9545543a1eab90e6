"""Conjugate gradients against the exact regression."""

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite

P = bp.priors


def _kernel() -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    priors = {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.4)}
    return infinite.kernel(bp.attach(net, priors))


def _data(count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(count + 5, 4, generator=generator, dtype=torch.float64)
    return draw[:count, :2], draw[:count, 2:], draw[count:, :2]


@pytest.mark.parametrize("rank", [0, 20, 60])
def test_predictions_are_those_of_cholesky(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnpriors.infinite.iterative.STRIP", 8 * 60 * 40)
    monkeypatch.setattr("bnnpriors.infinite.iterative.COLUMNS", 3)
    x, y, new = _data()
    options = {"noise": 0.01, "scale": 2.0}
    exact = infinite.GPRegression(_kernel(), x, y, **options).predict(new)
    ours = infinite.IterativeGPRegression(_kernel(), x, y, rank=rank, tolerance=1e-8, **options)
    pred = ours.predict(new)
    assert ours.residual < 1e-7
    torch.testing.assert_close(pred.mean, exact.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pred.variance, exact.variance, rtol=1e-5, atol=1e-6)
    assert ours.predict(new[:0]).num_points == 0


def test_the_preconditioner_saves_iterations() -> None:
    """With the kernel's own rank conjugate gradients need a few steps, where without it they are far away after ten."""
    x, y, _ = _data()
    options = {"noise": 1e-4, "max_iterations": 12}
    assert infinite.IterativeGPRegression(_kernel(), x, y, rank=60, **options).residual < 1e-6
    with pytest.warns(UserWarning, match="relative residual is .* after 12 iterations"):
        plain = infinite.IterativeGPRegression(_kernel(), x, y, rank=0, **options)
    assert plain.residual > 1e-2


def test_a_kernel_of_low_rank() -> None:
    """The factorisation ends where nothing is left."""
    net = bp.attach(nn.Linear(2, 1), {"weight": P.Normal(0.0, P.fan_in()), "bias": P.Normal(0.0, 0.5)})
    x, y, new = _data()
    ours = infinite.IterativeGPRegression(infinite.kernel(net), x, y, noise=0.1, rank=30, tolerance=1e-8)
    exact = infinite.GPRegression(infinite.kernel(net), x, y, noise=0.1)
    torch.testing.assert_close(ours.predict(new).mean, exact.predict(new).mean, rtol=1e-6, atol=1e-7)


def test_bad_input(as_a_user_meets_it: None) -> None:
    x, y, _ = _data(10)
    for options, message in (
        ({"rank": 11}, "a rank from 0 to 10"),
        ({"tolerance": 0.0}, "a positive tolerance"),
        ({"max_iterations": 0}, "an iteration at least"),
        ({"noise": 0.0}, "noise 0.0 given"),
        ({"scale": -1.0}, "scale -1.0 given"),
    ):
        with pytest.raises(ValueError, match=message):
            infinite.IterativeGPRegression(_kernel(), x, y, **{"noise": 0.1, "rank": 5, **options})
    with pytest.raises(ValueError, match="expected"):
        infinite.IterativeGPRegression(_kernel(), x, y[:5], noise=0.1, rank=5)
