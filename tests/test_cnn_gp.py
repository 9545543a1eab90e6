"""The scripts of experiments/cnn_gp: kernels of every lengthscale, and MNIST from images to figures."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import tile_work, zoo

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "cnn_gp"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("lengthscale", "mnist", "search", "table")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def _images(count: int, seed: int, size: tuple[int, int] = (4, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, *size, generator=generator, dtype=torch.float64)


def test_kernels_of_every_lengthscale(scripts: dict[str, ModuleType]) -> None:
    """Those of CNN-GP-14 with a readout of that lengthscale, from independent weights to mean pooling."""
    one, two = _images(3, 0), _images(2, 1)
    found = scripts["lengthscale"].kernels(one, two, 14)
    assert list(found) == [0.0, *scripts["lengthscale"].LENGTHSCALES, math.inf]
    ends: dict[float, zoo.Readout] = {0.0: "independent", math.inf: "mean"}
    for lengthscale in (0.0, 0.75, 16.0, math.inf):
        model = zoo.cnn_gp_14(1, shape=(2, 4, 5), readout=ends.get(lengthscale, lengthscale))
        expected = infinite.kernel(model).gram(one, two)
        torch.testing.assert_close(found[lengthscale], expected, rtol=1e-9, atol=0)


def _write(file: Path, values: Tensor) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(gzip.compress(header + values.byte().numpy().tobytes()))


def test_mnist_from_images_to_figures(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """Cost first; the matrices, which a second command goes on with; figures of the Python interface; refused without memory."""
    generator = torch.Generator().manual_seed(0)
    for name, part, count in (("mnist", "train", 40), ("mnist", "t10k", 20), ("notmnist", "t10k", 10)):
        y = torch.arange(count) % 10
        x = torch.randint(0, 100, (count, 28, 28), generator=generator) + 15 * y[:, None, None]
        _write(tmp_path / name / f"{part}-images-idx3-ubyte.gz", x)
        _write(tmp_path / name / f"{part}-labels-idx1-ubyte.gz", y)
    line = f"mnist.py --data {tmp_path} --runs {tmp_path / 'runs'} --results {tmp_path / 'results'} --networks convnet "
    line += "--train 30 40 --test 20 --ood 10 --select 30 --dtype float64"
    mnist = scripts["mnist"]
    monkeypatch.setattr(sys, "argv", line.split())
    with monkeypatch.context() as full:
        full.setattr("bnnpriors.infinite.factor.free_memory", lambda: 1000.0)
        with pytest.raises(MemoryError, match="exact regression on 40 points"):
            mnist.main()
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(sys, "argv", [*line.split(), "--only-kernels"])
    mnist.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "40 train, 20 test, 10 ood images, 2020 pairs in torch.float64" in said
    assert "652 KiB for the solve" in said
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr(tile_work, "compute_tile", lambda *given: pytest.fail("a tile was computed again"))
    monkeypatch.setattr(mnist, "seconds_per_pair", lambda *given: 1e-6)
    monkeypatch.setattr(sys, "argv", line.split())
    mnist.main()
    x, labels = mnist.images(tmp_path, 40, 20, 10, swapped=False)
    kernel = mnist.kernel("convnet")
    for count in (30, 40):
        file = tmp_path / "results" / f"convnet-float64-{count:05d}-00020.json"
        found = json.loads(file.read_text())["methods"]["least squares"]
        one_hot = torch.nn.functional.one_hot(labels["train"][:30], 10).double() - 0.1
        gp = infinite.GPRegression(kernel, x["train"][:30], one_hot).select_noise("leave_one_out")
        classifier = infinite.LeastSquaresClassifier(
            kernel, x["train"][:count], labels["train"][:count], num_classes=10, noise=gp.noise.item(),
            scale=gp.scale.item(),
        )  # fmt: skip
        expected = bp.evaluate(
            classifier.predict(x["test"]), labels["test"], ood=classifier.predict(x["ood"])
        )
        for name in ("accuracy", "nll", "auroc_ood"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name
        assert found["noise"] == pytest.approx(gp.noise.item(), rel=1e-3)


def test_the_search_draws_networks_that_have_a_kernel(scripts: dict[str, ModuleType]) -> None:
    """Of every kind; the same seed gives the same network."""
    search = scripts["search"]
    x = _images(2, 0, (28, 28))[:, :1]
    kinds = set()
    for seed in range(12):
        settings = search.draw(seed)
        assert settings == search.draw(seed)
        gram = search.kernel(settings).gram(x)
        assert bool(gram.isfinite().all())
        assert float(torch.linalg.eigvalsh(gram).min()) > 0
        kinds.add((settings.nonlinearity, settings.skip > 0, settings.padding))
    assert len(kinds) >= 4


def test_the_tables_of_the_readme_are_those_of_the_results(scripts: dict[str, ModuleType]) -> None:
    """Errors with two decimals, as they are published."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = scripts["table"]
    assert table.errors() in text
    assert table.methods() in text
