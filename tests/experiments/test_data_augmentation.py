"""The tables of the data augmentation experiment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

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
