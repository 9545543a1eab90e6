"""Features against the kernels that they approximate, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnnpriors.variational import features

COUNT = 200_000


def unit(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_polynomials_bumps_and_networks() -> None:
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert features.polynomial(2)(x).tolist() == [[1, 2, 3, 4, 9]]
    bump = features.radial(torch.tensor([[2.0, 3.0], [2.0, 1.0]]), 2.0)(x)
    assert bump[0].tolist() == pytest.approx([1.0, math.exp(-0.5)])
    net = nn.Linear(2, 3)
    found = features.network(net)(x)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    torch.testing.assert_close(found, net(x.float()).double().detach())


def test_random_features_have_their_kernels() -> None:
    """Means of 200,000 products with a standard deviation below 3: 6 standard errors, a false-alarm rate of 2e-9."""
    x = unit(2, 3)
    alarm = 6 * 3 / math.sqrt(COUNT)
    generator = torch.Generator().manual_seed(1)
    fourier = features.random_fourier(3, COUNT, 1.7, generator)(x)
    expected = math.exp(-float((x[0] - x[1]).square().sum()) / (2 * 1.7**2))
    assert (fourier[0] @ fourier[1]).item() == pytest.approx(expected, abs=alarm)
    relu = features.random_relu(3, COUNT, generator)(x)
    one, other = (torch.cat([row, torch.ones(1, dtype=torch.float64)]) for row in x)
    angle = math.acos(float(one @ other / (one.norm() * other.norm())))
    arc = float(one.norm() * other.norm()) / math.pi * (math.sin(angle) + (math.pi - angle) * math.cos(angle))
    spread = float(one.norm() * other.norm())
    assert (relu[0] @ relu[1]).item() == pytest.approx(arc, abs=spread * alarm)


@pytest.mark.parametrize(
    "make",
    [
        lambda: features.polynomial(0),
        lambda: features.radial(torch.zeros(1, 1), 0.0),
        lambda: features.random_fourier(1, 2, -1.0, torch.Generator()),
    ],
)
def test_what_does_not_fit_is_refused(make) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()
