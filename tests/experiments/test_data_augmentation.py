"""The tables of the data augmentation experiment."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

from bnnpriors.cli.parsers import build_parser
from experiments.cold_posteriors.table import METRICS, pool
from experiments.data_augmentation import table
from experiments.shared import curves, read_table


def test_the_published_tables_are_those_of_the_published_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = table.RESULTS
    shutil.copy(published / "seeds.csv", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["table"])
    table.main()
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert text == (published / "tables.md").read_text(encoding="utf-8")
    readme = (published.parent / "README.md").read_text(encoding="utf-8")
    assert all(part in readme for part in text.strip().split("\n\n"))
    assert (tmp_path / "curves.png").exists()
    assert (tmp_path / "effect.png").exists()


@pytest.mark.parametrize(
    ("files", "shape"), [(["two_cores"], (1, 14, 14)), (["two_cores", "gpu"], (1, 28, 28))]
)
def test_the_configurations_train_and_predict_with_eight_copies(
    files: list[str], shape: tuple[int, ...]
) -> None:
    """Of images of the size that the network and the transform take, on cycles that end with warm-up and with each draw."""
    folder = table.RESULTS.parent
    line = ["sweep", *(part for file in files for part in ("--config", str(folder / f"{file}.yaml")))]
    parser = build_parser(line)
    parsed = parser.parse_args([*line, "--likelihood.average", "logits"])
    parsed.sweep.data = {"class_path": "bnnpriors.datasets.digits"}  # MNIST may not be at hand
    settings = parser.instantiate(parsed).sweep
    assert (settings.likelihood.num_samples, settings.likelihood.average) == (8, "logits")
    images = torch.rand(2, math.prod(shape))
    copies = settings.likelihood.draw(images, torch.Generator().manual_seed(0))
    assert copies.shape == (2, 8, math.prod(shape))
    cycle = settings.sampler.cycle_length
    assert (settings.thin, settings.num_warmup % cycle) == (cycle, 0)


def test_a_folder_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["table", "runs/other"])
    with pytest.raises(SystemExit, match="expected some of"):
        table.main()


def test_a_panel_for_each_metric_and_a_curve_for_each_average() -> None:
    pooled = pool(read_table(table.RESULTS / "seeds.csv"))
    figure = curves(pooled, METRICS[:3], bars="half", title="average of", reference="none")
    assert len(figure.axes) == 3
    assert all(len(axes.containers) == len(table.NAMES) for axes in figure.axes)
