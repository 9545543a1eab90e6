"""The kernel averaged over finite orbits: both sums, invariance of predictions, and finite networks with averaged outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors import transforms as T

P = bp.priors
SQUARE = T.Product([T.RotationGroup(), T.FlipGroup()])


def _dense(width: int = 8) -> bp.BayesianModule:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 1))
    return bp.attach(net.double(), {"*.weight": P.Normal(0.0, P.fan_in(1.4)), "*.bias": P.Normal(0.0, 0.3)})


def _conv(width: int = 8) -> bp.BayesianModule:
    net = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * width, 1))
    return bp.attach(net.double(), {"*.weight": P.Normal(0.0, P.fan_in(1.4)), "*.bias": P.Normal(0.0, 0.3)})


def _inputs(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("model", "group"), [(_dense(), T.CyclicShifts((4, 4), step=2)), (_conv(), SQUARE)], ids=["dense", "conv"]
)
def test_one_sum_is_the_double_sum_under_an_invariant_kernel(
    model: bp.BayesianModule, group: T.Group
) -> None:
    x, base = _inputs(), infinite.kernel(model, input_shape=(1, 4, 4))
    double, single = infinite.OrbitKernel(base, group), infinite.OrbitKernel(base, group, invariant=True)
    orbit = group.orbit(x).flatten(0, 1)
    blocks = base.gram(orbit).unflatten(0, (5, group.size)).unflatten(2, (5, group.size))
    expected = blocks.mean((1, 3))
    for kernel in (double, single):
        torch.testing.assert_close(kernel.gram(x), expected)
        torch.testing.assert_close(kernel.gram(x[:2], x[2:]), expected[:2, 2:])
        torch.testing.assert_close(kernel.variance(x), expected.diagonal())
        torch.testing.assert_close(kernel(x.flatten(1)).to_dense(), expected)
        torch.testing.assert_close(kernel(x.flatten(1)).diagonal(), expected.diagonal())
    assert float(torch.linalg.eigvalsh(double.gram(x)).min()) > -1e-10


def test_shifts_of_a_padded_convolution_need_the_double_sum() -> None:
    x, base = _inputs(), infinite.kernel(_conv())
    shifts = T.CyclicShifts((4, 4), step=2)
    orbit = shifts.orbit(x).flatten(0, 1)
    expected = base.gram(orbit).unflatten(0, (5, 4)).unflatten(2, (5, 4)).mean((1, 3))
    torch.testing.assert_close(infinite.OrbitKernel(base, shifts).gram(x), expected)
    with pytest.raises(ValueError, match="leave invariant out"):
        infinite.OrbitKernel(base, shifts, invariant=True).gram(x)


@pytest.mark.parametrize("group", [T.FlipGroup(vertical=True), T.CyclicShifts((4, 4), step=2)], ids=repr)
def test_predictions_are_invariant(group: T.Group) -> None:
    x = _inputs(12)
    y = torch.randn(8, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gp = infinite.GPRegression(infinite.OrbitKernel(infinite.kernel(_conv()), group), x[:8], y, noise=0.1)
    pred = gp.predict(x[8:])
    for index in range(1, group.size):
        moved = gp.predict(group.element(index, x[8:]))
        torch.testing.assert_close(moved.mean, pred.mean, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(moved.variance, pred.variance, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_wide_networks_with_averaged_outputs_have_this_covariance() -> None:
    """The covariance of (1/K) Σ f(g x) over prior draws of the body, the head's weights integrated out: within 5.5 standard
    errors of 600 draws, plus the bias of the width, 1/256 of a variance. 6 entries: false alarms at 3e-7."""
    width, draws, group = 256, 600, T.CyclicShifts((4, 4), step=2)
    x = _inputs(3)
    model = _conv(width)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(draws):
        net = model.sample_prior_(generator=generator).net
        features = net[:3](group.orbit(x).flatten(0, 1)).unflatten(0, (3, group.size)).mean(1)
        found.append(1.4**2 * features @ features.T / features.shape[1] + 0.3**2)
    samples = torch.stack(found)
    base = infinite.kernel(_conv())
    expected = infinite.OrbitKernel(base, group).gram(x)
    error = samples.std(0) / draws**0.5
    scale = expected.diagonal().mean()
    assert float((error / scale).max()) < 0.005
    assert bool(((samples.mean(0) - expected).abs() <= 5.5 * error + scale / 256).all())
    plain = base.gram(x)
    assert bool(((samples.mean(0) - plain).abs() > 5.5 * error + scale / 256).any())


def test_gradients_reach_the_hyperparameters() -> None:
    base = infinite.kernel(_conv(), backend="torch")
    kernel = infinite.OrbitKernel(base, T.FlipGroup())
    kernel.matrix(_inputs(3)).sum().backward()
    assert kernel.kernel.raw_weight_variance.grad is not None


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_refusals() -> None:
    base = infinite.kernel(_conv())
    with pytest.raises(TypeError, match=r"expected bp\.infinite\.kernel"):
        infinite.OrbitKernel(3, T.FlipGroup())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a finite set"):
        infinite.OrbitKernel(base, T.Rotation(3.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected square ones"):
        infinite.OrbitKernel(base, T.RotationGroup()).gram(torch.zeros(2, 1, 4, 5))
