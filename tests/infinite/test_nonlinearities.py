"""E[φφ'], its derivative and E[φ] against two-dimensional quadrature of the functions themselves."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnnpriors.infinite import nonlinearities as phi

FUNCTIONS = {
    "relu": (phi.LeakyReLU(), torch.relu),
    "leaky relu": (phi.LeakyReLU(0.2), lambda u: F.leaky_relu(u, 0.2)),
    "erf": (phi.Erf(), torch.erf),
    "sin": (phi.Sin(), torch.sin),
    "gelu": (phi.GELU(), F.gelu),
    "tanh": (phi.Smooth(torch.tanh, "Tanh", is_odd=True), torch.tanh),
    "silu": (phi.Smooth(F.silu, "SiLU"), F.silu),
}
POINTS = [(1.0, 1.0, 0.5), (0.3, 2.0, -0.6), (1.5, 0.7, 0.0), (2.0, 2.0, 1.9), (0.01, 3.0, 0.1)]


def _covariances() -> tuple[Tensor, Tensor, Tensor]:
    v, w, c = torch.tensor(POINTS, dtype=torch.float64).T.contiguous()
    return c, v, w


def _expectation(function, c: Tensor, v: Tensor, w: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """E[φ(u)φ(u')] on a fine grid of (r, angle): polar coordinates make the kinks of ReLU lines of constant angle."""
    count = 720
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (2 * math.pi / count)
    nodes = torch.linspace(0, 12, 1201, dtype=torch.float64)
    weight = nodes * torch.exp(-0.5 * nodes**2) * (nodes[1] - nodes[0]) / count
    rho = (c / (v * w).sqrt())[:, None, None]
    z1, z2 = nodes[:, None] * angles.cos(), nodes[:, None] * angles.sin()
    u = v.sqrt()[:, None, None] * z1
    u2 = w.sqrt()[:, None, None] * (rho * z1 + (1 - rho**2).sqrt() * z2)
    return (weight[:, None] * function(u) * function(u2)).sum((1, 2))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_moments(name: str) -> None:
    ours, function = FUNCTIONS[name]
    c, v, w = _covariances()
    kinked = 2e-5 if "relu" in name else 1e-9
    torch.testing.assert_close(
        ours.moment(c, v, w), _expectation(function, c, v, w), rtol=kinked, atol=kinked
    )
    torch.testing.assert_close(ours.moment(c, v, w), ours.moment(c, w, v), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_derivative_kernel_is_the_derivative(name: str) -> None:
    """Price's theorem, and gradients in the variances, against central differences."""
    ours, _ = FUNCTIONS[name]
    c, v, w = (value.requires_grad_() for value in _covariances())
    gradients = torch.autograd.grad(ours.moment(c, v, w).sum(), (c, v, w))
    torch.testing.assert_close(ours.derivative(c, v, w), gradients[0], rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(ours.moment, (c, v, w), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_means_and_squares(name: str) -> None:
    ours, function = FUNCTIONS[name]
    _, v, _ = _covariances()
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    values = function(v.sqrt()[:, None] * z)
    torch.testing.assert_close(ours.mean(v), (density * values).sum(1), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours.square(v), (density * values**2).sum(1), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(ours.square(v), ours.moment(v, v, v), rtol=1e-9, atol=0)
    torch.testing.assert_close(ours.slope_square(v), ours.derivative(v, v, v), rtol=1e-6, atol=1e-7)
    assert ours.is_odd == bool((ours.mean(v) == 0).all() or name == "tanh")


def test_the_arc_cosine_of_the_specification() -> None:
    """F(1, 1, .5) · 2 = .6090 for √2 ReLU; the printed arccos(ρ²) would give .7446."""
    one = torch.ones((), dtype=torch.float64)
    assert float(2 * phi.LeakyReLU().moment(0.5 * one, one, one)) == pytest.approx(0.6090, abs=5e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_inputs_and_dead_positions_have_finite_values_and_gradients(
    name: str, dtype: torch.dtype
) -> None:
    ours, function = FUNCTIONS[name]
    c, v, w = (torch.tensor([2.0, 0.0, -2.0, 0.0], dtype=dtype) for _ in range(3))
    v, w = v.abs(), torch.tensor([2.0, 0.0, 2.0, 3.0], dtype=dtype)
    c, v, w = (value.requires_grad_() for value in (c, v, w))
    result = ours.moment(c, v, w)
    gradients = torch.autograd.grad(result.sum(), (c, v, w))
    assert all(bool(value.isfinite().all()) for value in (result, ours.derivative(c, v, w), *gradients))
    assert float(result[1].detach()) == pytest.approx(float(function(torch.zeros(()))) ** 2, abs=1e-6)


@pytest.mark.parametrize(("variance", "error"), [(0.5, 1e-12), (4.0, 3e-7), (25.0, 1e-3)])
def test_the_stated_accuracy_of_the_expansion_of_tanh(variance: float, error: float) -> None:
    v = torch.tensor([variance], dtype=torch.float64)
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    exact = (density * torch.tanh(math.sqrt(variance) * z) ** 2).sum()
    assert abs(float(FUNCTIONS["tanh"][0].square(v) - exact)) < error
