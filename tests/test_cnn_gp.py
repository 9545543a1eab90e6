"""The scripts of experiments/cnn_gp: offsets against the library's kernels, blocks against whole matrices."""

from __future__ import annotations

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
from bnnpriors.infinite import zoo

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "cnn_gp"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules; they import each other by name."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("blocks", "offsets", "search")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def _images(count: int, seed: int, size: tuple[int, int] = (4, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lengthscale", [0.0, 0.7, 2.5, math.inf])
def test_offsets_give_the_kernel_of_every_readout(scripts: dict[str, ModuleType], lengthscale: float) -> None:
    """Of the same network with a readout of that lengthscale, from covariances of all pairs of positions."""
    one, two = _images(3, 0), _images(2, 1)
    sums = scripts["offsets"].offset_sums(one, two, 14)
    ours = sums @ scripts["offsets"].readout((4, 5), lengthscale)
    ends: dict[float, zoo.Readout] = {0.0: "independent", math.inf: "mean"}
    model = zoo.cnn_gp_14(1, shape=(2, 4, 5), readout=ends.get(lengthscale, lengthscale))
    torch.testing.assert_close(ours, infinite.kernel(model).gram(one, two), rtol=1e-9, atol=0)
    other_way = scripts["offsets"].offset_sums(two, one, 14)
    torch.testing.assert_close(other_way, sums.flip(-1).transpose(0, 1), rtol=1e-12, atol=0)


def test_blocks_are_the_matrix_however_it_is_computed(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two runs, the second of more images; a run without time computes nothing, and a finished one no more."""
    blocks = scripts["blocks"]
    monkeypatch.setattr(blocks, "SIDE", 3)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40, 1))
    priors = {"*.weight": bp.priors.Normal(0.0, bp.priors.fan_in()), "*.bias": bp.priors.Normal(0.0, 0.5)}
    kernel = infinite.kernel(bp.attach(net, priors))
    x, new = _images(8, 0), _images(4, 1)
    assert not blocks.compute(kernel, tmp_path, "train", x, None, -1.0)
    assert not list(tmp_path.iterdir())
    assert blocks.compute(kernel, tmp_path, "train", x[:4], None, math.inf)
    for part, others in (("train", None), ("test", new)):
        assert blocks.compute(kernel, tmp_path, part, x, others, math.inf)
        assert blocks.compute(kernel, tmp_path, part, x, others, -1.0)
        matrix, seconds = blocks.read(tmp_path, part, 7, None if others is None else 4)
        whole = kernel.gram(x[:7], None if others is None else others)
        torch.testing.assert_close(matrix, whole, rtol=1e-12, atol=0)
        assert seconds > 0
    assert not list(tmp_path.glob("*.partial"))


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
