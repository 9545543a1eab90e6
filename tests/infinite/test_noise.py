"""Noise and scale from one eigendecomposition: each formula against the one it stands for, written out or refitted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite.factor import factorise
from bnnpriors.infinite.spectrum import Spectrum

P = bp.priors
RATIO, COUNT, OUTPUTS = 0.07, 14, 3


def _kernel() -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    return infinite.kernel(
        bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.4)})
    )


def _data(count: int = COUNT + 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, OUTPUTS, generator=generator, dtype=torch.float64)
    return x, torch.stack([x[:, 0].relu(), x[:, 1].abs(), x.sum(1)], 1) + 0.3 * noise


def _spectrum() -> tuple[Spectrum, Tensor, Tensor]:
    x, y = _data()
    return Spectrum.of(_kernel().gram(x[:COUNT]), y[:COUNT]), x, y


def test_the_marginal_likelihood_is_that_of_cholesky() -> None:
    spectrum, x, y = _spectrum()
    value, scale = spectrum.marginal(RATIO)
    gp = infinite.GPRegression(_kernel(), x[:COUNT], y[:COUNT], noise=scale * RATIO, scale=scale)
    assert value == pytest.approx(gp.log_marginal_likelihood().item(), rel=1e-11)
    for other in (0.99, 1.01):
        near = infinite.GPRegression(
            _kernel(), x[:COUNT], y[:COUNT], noise=other * scale * RATIO, scale=other * scale
        )
        assert near.log_marginal_likelihood().item() < value


def test_leaving_one_out_is_fitting_without_it() -> None:
    spectrum, x, y = _spectrum()
    value, scale = spectrum.leave_one_out(RATIO)
    options = {"noise": scale * RATIO, "scale": scale}
    total = 0.0
    left_out = infinite.GPRegression(_kernel(), x[:COUNT], y[:COUNT], **options).leave_one_out()
    for i in range(COUNT):
        others = torch.arange(COUNT) != i
        pred = infinite.GPRegression(_kernel(), x[:COUNT][others], y[:COUNT][others], **options).predict(
            x[i : i + 1]
        )
        total += float(pred.log_prob(y[i : i + 1]))
        torch.testing.assert_close(left_out.mean[i], pred.mean[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(left_out.variance[i], pred.variance[0], rtol=1e-9, atol=0)
    assert value == pytest.approx(total, rel=1e-10)


def test_held_out_data() -> None:
    spectrum, x, y = _spectrum()
    kernel = _kernel()
    cross = kernel.gram(x[COUNT:], x[:COUNT]) @ spectrum.vectors
    value, scale = spectrum.held_out(RATIO, cross, kernel.variance(x[COUNT:]).detach(), y[COUNT:])
    gp = infinite.GPRegression(kernel, x[:COUNT], y[:COUNT], noise=scale * RATIO, scale=scale)
    assert value == pytest.approx(float(gp.predict(x[COUNT:]).log_prob(y[COUNT:]).sum()), rel=1e-10)


@pytest.mark.parametrize("criterion", ["marginal_likelihood", "leave_one_out", "validation"])
def test_what_is_selected_is_the_best(criterion: str) -> None:
    """No noise or scale near the selected ones has a higher score, by the formulas without the eigendecomposition."""
    x, y = _data(60)
    held_out = (x[40:], y[40:]) if criterion == "validation" else None
    kernel = _kernel()

    def score(noise: float, scale: float) -> float:
        gp = infinite.GPRegression(kernel, x[:40], y[:40], noise=noise, scale=scale)
        if criterion == "marginal_likelihood":
            return gp.log_marginal_likelihood().item()
        pred, truth = (gp.leave_one_out(), y[:40]) if held_out is None else (gp.predict(x[40:]), y[40:])
        return float(pred.log_prob(truth).sum())

    gp = infinite.GPRegression(kernel, x[:40], y[:40])
    options = {} if criterion == "validation" else {"criterion": criterion}
    assert gp.select_noise(**options, validation=held_out) is gp  # type: ignore[arg-type]
    noise, scale = gp.noise.item(), gp.scale.item()
    best = score(noise, scale)
    assert 0.02 < noise < 0.3
    for a, b in ((1.05, 1), (0.95, 1), (1, 1.1), (1, 0.9), (1.05, 1.05), (0.5, 2), (1e-3, 1)):
        assert score(a * noise, b * scale) < best
    pred = gp.predict(x[40:])
    torch.testing.assert_close(pred.aleatoric_variance, torch.full_like(pred.mean, noise), rtol=1e-12, atol=0)


def test_the_factor_takes_the_memory_of_the_matrix_and_leaves_it_whole_where_it_fails() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1100, 40, generator=generator, dtype=torch.float64)
    matrix = points @ points.T  # of rank 40: it needs a jitter; and of two strips
    given, place = matrix.clone(), matrix.data_ptr()
    factor, jitter = factorise(matrix, torch.tensor(0.0, dtype=torch.float64))
    assert factor.data_ptr() == place
    assert 0 < jitter < 1e-7 * float(given.diagonal().mean())
    lower = factor.tril()
    torch.testing.assert_close(lower @ lower.T, given, rtol=0, atol=1e-9 * float(given.max()) + jitter)
    assert torch.equal(factor.triu(1), given.triu(1))
    with pytest.raises(ValueError, match="not positive definite"):
        factorise(-torch.eye(3, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))


Change = Callable[[infinite.GPRegression, Tensor, Tensor], object]
BAD: dict[str, tuple[Change, str]] = {
    "criterion": (lambda gp, x, y: gp.select_noise("aic"), "expected 'marginal_likelihood'"),  # type: ignore[arg-type]
    "outputs": (lambda gp, x, y: gp.select_noise(validation=(x, y[:, :1])), r"expected \[m, \.\.\.\]"),
    "count": (lambda gp, x, y: gp.select_noise(validation=(x[1:], y)), r"expected \[m, \.\.\.\]"),
    "nothing": (lambda gp, x, y: gp.select_noise(validation=(x[:0], y[:0])), r"expected \[m, \.\.\.\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, as_a_user_meets_it: None) -> None:
    x, y = _data()
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        change(infinite.GPRegression(_kernel(), x, y), x, y)


def test_no_noise_for_no_signal() -> None:
    x, y = _data()
    with pytest.raises(ValueError, match="all zero"):
        infinite.GPRegression(_kernel(), x, 0 * y).select_noise()
    with pytest.raises(ValueError, match="scale 0"):
        infinite.GPRegression(_kernel(), x, y, scale=0.0)
