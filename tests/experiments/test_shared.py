"""What the experiments share: cells outlive a kill, intervals are those of SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.shared import Cells, contrast_interval, hold, markdown, mean_interval, read_table, signed


def test_a_cell_is_computed_once_and_kept_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.csv"
    calls: list[float] = []

    def compute(value: float) -> list[dict[str, float]]:
        calls.append(value)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [{"part": 0, "result": value / 3}, {"part": 1, "result": -value}]

    cells = Cells(file, ("name", "size"))
    cells.fill({"name": "a", "size": 0.1}, lambda: compute(0.1))
    with pytest.raises(KeyboardInterrupt):
        cells.fill({"name": "b", "size": 0.1}, lambda: compute(0.2))
    again = Cells(file, ("name", "size"))
    assert again.rows == cells.rows
    first = again.fill({"name": "a", "size": 0.1}, lambda: compute(7))
    assert [row["result"] for row in first] == [0.1 / 3, -0.1]
    again.fill({"name": "b", "size": 0.1}, lambda: compute(0.2))
    assert calls == [0.1, 0.2, 0.2]
    assert [(row["name"], row["part"]) for row in read_table(file)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]
    with pytest.raises(ValueError, match="expected \\['name', 'size'\\]"):
        again.fill({"name": "a"}, lambda: [])


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    hold(tmp_path / "run", {"seed": 0, "sizes": [1, 2]})
    hold(tmp_path / "run", {"sizes": [1, 2], "seed": 0})
    with pytest.raises(ValueError, match="other settings: sizes differ"):
        hold(tmp_path / "run", {"seed": 0, "sizes": [1, 3]})


def test_intervals_are_those_of_scipy() -> None:
    """Of one mean by Student, of a difference by Welch."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=3), rng.normal(1.0, 3.0, size=5)
    mean, half = mean_interval(one.tolist())
    low, high = stats.t.interval(0.95, 2, one.mean(), stats.sem(one))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    value, half = contrast_interval([one.tolist(), other.tolist()], [1, -1])
    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (value - half, value + half) == pytest.approx((found.low, found.high), rel=1e-9)
    assert np.isnan(mean_interval([1.0])[1])
    assert contrast_interval([[2.0, 2.0], [1.0, 1.0]], [1, -1]) == (1.0, 0.0)


def test_differences_are_bold_where_zero_is_outside() -> None:
    assert signed(0.1, 0.05) == "**+0.100 ± 0.050**"
    assert signed(-0.01, 0.05) == "-0.010 ± 0.050"
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
