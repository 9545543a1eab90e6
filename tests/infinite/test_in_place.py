"""Regression in the memory of one matrix: from tiles on disk, in blocks, and refused where the memory is too small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import classification, factor

P = bp.priors
REPOSITORY = Path(__file__).resolve().parents[2]
COUNT, NEW = 600, 90


def _kernel() -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Linear(5, 1), nn.ReLU(), nn.Linear(1, 1))
    return infinite.kernel(
        bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(1.4)), "*.bias": P.Normal(0.0, 0.4)})
    )


def _inputs(count: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _stored(path: Path, count: int, new: int, **options: object) -> infinite.PrecomputedKernel:
    kernel, x = _kernel(), _inputs(count + new)
    train, others = x[:count], x[count:]
    parts = [
        kernel.gram(train, second, out=path / name, progress=False, **options)  # type: ignore[call-overload]
        for name, second in (("train", None), ("new", others))
    ]
    return infinite.PrecomputedKernel(parts, kernel.variance(x).detach())


def test_tiles_and_small_blocks_give_the_usual_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 points in tiles of 128, new points 7 at a time; and the classifier whose temperature the last 200 choose."""
    x = _inputs(COUNT + NEW)
    labels = (x[:, 0] * x[:, 1] > 0).long()
    y = torch.stack([x[:COUNT, 0].sin(), x[:COUNT, 1]], 1)
    train, new = torch.arange(COUNT), torch.arange(COUNT, COUNT + NEW)
    usual = infinite.GPRegression(_kernel(), x[:COUNT], y, noise=1e-3, scale=1.7)
    points = _stored(tmp_path, COUNT, NEW, tile=128)
    monkeypatch.setattr(factor, "BLOCK_BYTES", 7 * 8 * COUNT)
    monkeypatch.setattr(factor, "PANEL", 250)
    monkeypatch.setattr(classification, "LEFT_OUT", 200)
    gp = infinite.GPRegression(points, train, y, noise=1e-3, scale=1.7)
    for field in ("mean", "variance"):
        expected, found = (getattr(p, field) for p in (usual.predict(x[COUNT:]), gp.predict(new)))
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    assert gp.log_marginal_likelihood().item() == pytest.approx(
        usual.log_marginal_likelihood().item(), rel=1e-8
    )
    matrix = usual.scale * points.matrix(train) + 1e-3 * torch.eye(COUNT, dtype=torch.float64)
    torch.testing.assert_close(matrix @ gp._solved().weights, y, rtol=0, atol=1e-8)
    both = [
        infinite.LeastSquaresClassifier(kernel, inputs, labels[:COUNT], noise=1e-2)
        for kernel, inputs in ((_kernel(), x[:COUNT]), (points, train))
    ]
    assert both[1].temperature == pytest.approx(both[0].temperature, rel=1e-4)
    probabilities = [c.predict(p).probs for c, p in zip(both, (x[COUNT:], new), strict=True)]
    torch.testing.assert_close(probabilities[1], probabilities[0], rtol=1e-4, atol=1e-6)


def test_panels_give_the_factor_and_keep_the_upper_triangle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank of 5 among 50 rows: without noise the first attempts fail, and begin again with more jitter."""
    monkeypatch.setattr(factor, "PANEL", 16)
    half = _inputs(50)[:, :5] @ torch.randn(
        5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    for noise in (0.1, 0.0):
        matrix = half @ half.mT
        given, level = matrix.clone(), matrix.diagonal().mean()
        lower, jitter = factor.factorise(matrix, torch.tensor(noise, dtype=torch.float64))
        assert lower is matrix
        assert torch.equal(lower.triu(1), given.triu(1))
        expected = given + (noise + jitter) * torch.eye(50, dtype=torch.float64)
        torch.testing.assert_close(
            lower.tril() @ lower.tril().mT, expected, rtol=0, atol=1e-12 * float(level)
        )
        assert (jitter > 0) == (noise == 0)


def test_the_diagonal_of_the_inverse_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a factor whose upper triangle holds something else, whole and of its last rows."""
    monkeypatch.setattr(factor, "BAND", 16)
    half = _inputs(50) @ torch.randn(5, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lower, _ = factor.factorise(half @ half.mT, torch.tensor(0.5, dtype=torch.float64))
    for part in (lower, lower[13:, 13:]):
        expected = torch.linalg.inv(part.tril() @ part.tril().mT).diagonal()
        torch.testing.assert_close(factor.inverse_diagonal(part), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite(bad: float) -> None:
    matrix = torch.eye(5, dtype=torch.float64)
    matrix[3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite values"):
        factor.factorise(matrix, torch.tensor(0.1, dtype=torch.float64))


def test_the_last_points_are_left_out_as_among_all() -> None:
    x, y = _inputs(40), _inputs(40)[:, :2].sin()
    gp = infinite.GPRegression(_kernel(), x, y, noise=0.01)
    whole, last = gp.leave_one_out(), gp.leave_one_out(7)
    torch.testing.assert_close(last.mean, whole.mean[-7:], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(last.variance, whole.variance[-7:], rtol=1e-9, atol=0)
    for bad in (0, 41):
        with pytest.raises(ValueError, match=f"num_last {bad} given, expected 1 to 40"):
            gp.leave_one_out(bad)


def test_a_memory_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the matrix: 40² entries and two blocks of 40 × 1,024 in float64 are 668,160 bytes."""
    gp = infinite.GPRegression(_kernel(), _inputs(40), _inputs(40)[:, 0])
    with monkeypatch.context() as small:
        small.setattr(factor, "free_memory", lambda: 668159.0)
        small.setattr(gp.kernel, "matrix", lambda *given: pytest.fail("the matrix was computed"))
        with pytest.raises(
            MemoryError, match=r"40 points needs 652 KiB.*fewer points, or use IterativeGPRegression"
        ):
            gp.predict(_inputs(2))
        for choose, message in (
            (gp.select_noise, "select_noise works on 40"),
            (gp.fit, "a gradient of .* on 40"),
        ):
            with pytest.raises(MemoryError, match=message):
                choose()
    monkeypatch.setattr(factor, "free_memory", lambda: 668160.0)
    assert gp.jitter == 0
    assert factor.memory_to_solve(50_000) == 8 * 50_000**2 + 2 * 8 * 50_000 * 671


MEASURED = """
import sys, torch
from pathlib import Path
from bnnpriors import infinite
from bnnpriors.infinite import classification, factor
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
def run(count, labels):
    classifier = infinite.LeastSquaresClassifier(kernel, torch.arange(count), labels[:count], noise=1e-2)
    return classifier.predict(torch.arange(len(labels), kernel.shape[1])).probs
count = int(sys.argv[2])
parts = [infinite.open_gram(Path(sys.argv[1]) / name) for name in ("train", "new")]
kernel = infinite.PrecomputedKernel(parts, torch.full((count + parts[1].shape[1],), 2.0))
classification.LEFT_OUT, factor.PANEL, factor.BLOCK_BYTES = 256, 256, 8 * count * 128
labels = torch.arange(count) % 3
run(100, labels)
before = status("VmRSS")
run(count, labels)
print((status("VmHWM") - before) / (8 * count**2))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say what a process has taken"
)
def test_the_peak_of_memory_is_one_matrix(tmp_path: Path) -> None:
    """Of 4,096 points classified from tiles on disk, in another process: 134 MB, and no second matrix of that size."""
    count = 4096
    _stored(tmp_path, count, 200, tile=512, dtype=torch.float32)
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), str(count)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    assert 0.9 < float(run.stdout) < 1.3
