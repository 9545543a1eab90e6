"""Points by number: the same regressions and predictions as from the kernel itself, from tensors and from arrays on disk."""

from pathlib import Path

import gpytorch
import numpy as np
import pytest
import torch
import zarr
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite

P = bp.priors
ROWS, POINTS = 9, 14


def _kernel() -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    return infinite.kernel(
        bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in()), "*.bias": P.Normal(0.0, 0.5)})
    )


def _inputs() -> Tensor:
    return torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Stored:
    """A matrix that is read by slices."""

    def __init__(self, matrix: Tensor) -> None:
        self.shape, self._matrix = tuple(matrix.shape), matrix

    def read(self, rows: slice, columns: slice) -> Tensor:
        return self._matrix[rows, columns]


@pytest.mark.parametrize("kind", ["tensor", "numpy", "memmap", "zarr", "read", "parts", "gram"])
def test_predictions_are_those_of_the_kernel(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnnpriors.infinite.precomputed.ROWS", 4)
    x, kernel = _inputs(), _kernel()
    full = kernel.gram(x[:ROWS], x)
    y = torch.stack([x[:, 0].sin(), x[:, 1]], 1)
    stored: object = full
    if kind == "parts":
        stored = [full[:, :4], full[:, 4:13].numpy(), Stored(full[:, 13:])]
    if kind == "gram":
        options = {"tile": 4, "progress": False}
        stored = [kernel.gram(x[:ROWS], out=tmp_path / "train", **options)]
        stored.append(kernel.gram(x[:ROWS], x[ROWS:], out=tmp_path / "test", **options))
    if kind in ("numpy", "memmap"):
        np.save(tmp_path / "k.npy", full.numpy())
        stored = np.load(tmp_path / "k.npy", mmap_mode="r" if kind == "memmap" else None)
    if kind == "zarr":
        stored = zarr.create_array(tmp_path / "k.zarr", data=full.numpy(), chunks=(4, 4))
    if kind == "read":
        stored = Stored(full)
    precomputed = infinite.PrecomputedKernel(stored, kernel.variance(x).detach())
    chosen = torch.tensor([7, 0, 3, 8, 1, 5])
    ours = infinite.GPRegression(precomputed, chosen, y[chosen], noise=0.1)
    theirs = infinite.GPRegression(kernel, x[chosen], y[chosen], noise=0.1)
    new = torch.tensor([13, 2, 10])
    for field in ("mean", "variance"):
        torch.testing.assert_close(
            getattr(ours.predict(new), field), getattr(theirs.predict(x[new]), field), rtol=1e-10, atol=0
        )
    torch.testing.assert_close(
        precomputed.matrix(new, chosen), kernel.gram(x[new], x[chosen]), rtol=1e-10, atol=0
    )
    for columns in (torch.arange(2, POINTS), torch.arange(3), torch.arange(ROWS, POINTS)):
        both = precomputed.matrix(torch.arange(1, ROWS), columns)
        torch.testing.assert_close(both, full[1:ROWS][:, columns], rtol=1e-10, atol=0)
    assert torch.equal(
        ours.log_marginal_likelihood(),
        infinite.GPRegression(precomputed, chosen, y[chosen], noise=0.1).log_marginal_likelihood(),
    )
    assert ours.select_noise().noise.item() == pytest.approx(theirs.select_noise().noise.item(), rel=1e-3)


def test_a_square_matrix_holds_its_variances(tmp_path: Path) -> None:
    matrix = _kernel().gram(_inputs())
    np.save(tmp_path / "k.npy", matrix.numpy())
    for stored in (matrix, np.load(tmp_path / "k.npy", mmap_mode="r")):
        kernel = infinite.PrecomputedKernel(stored)
        torch.testing.assert_close(kernel.variance(torch.arange(POINTS)), matrix.diagonal())


def test_gpytorch_takes_numbers_as_inputs() -> None:
    matrix = _kernel().gram(_inputs())
    kernel = gpytorch.kernels.ScaleKernel(infinite.PrecomputedKernel(matrix)).double()
    kernel.outputscale = 2.0
    numbers = torch.arange(POINTS, dtype=torch.float64)[:, None]
    torch.testing.assert_close(kernel(numbers, numbers[:3]).to_dense(), 2 * matrix[:, :3])
    torch.testing.assert_close(kernel(numbers, diag=True), 2 * matrix.diagonal())
    torch.testing.assert_close(kernel(numbers[:3], numbers[2:5], diag=True), 2 * matrix[[0, 1, 2], [2, 3, 4]])


def test_bad_input(as_a_user_meets_it: None) -> None:
    matrix = _kernel().gram(_inputs())
    for given, variances, message in (
        (matrix[:, :3], None, "points ≥ rows"),
        (matrix[:0], None, "points ≥ rows"),
        (matrix[0], None, "points ≥ rows"),
        ([], None, "points ≥ rows"),
        ([matrix[:3, :9], matrix[:4, 9:]], matrix.diagonal(), "of the same rows"),
        (matrix[:3], None, r"give variances=kernel.variance\(x\)"),
        (matrix[:3], matrix[:3, 0], r"expected \(14,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            infinite.PrecomputedKernel(given, variances)
    kernel = infinite.PrecomputedKernel(matrix[:ROWS], matrix.diagonal())
    for points in (torch.tensor([14]), torch.tensor([-1]), torch.tensor([0.5])):
        with pytest.raises(ValueError, match="whole numbers from 0 to 13"):
            kernel.matrix(points)
    with pytest.raises(ValueError, match=r"expected numbers, \[n\] or \[n, 1\]"):
        kernel.matrix(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="between points 9 and 12 is not in the matrix"):
        kernel.matrix(torch.tensor([0, 9]), torch.tensor([12]))
    assert kernel.matrix(torch.arange(0), torch.arange(3)).shape == (0, 3)
