"""Figures under shift: those of `evaluate` at each level, and their picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import bnnpriors as bp
from bnnpriors.datasets import corruptions, digits
from bnnpriors.datasets.corruptions import Shifted
from bnnpriors.evaluation import SamplePredictive, shift_curves
from bnnpriors.evaluation.shift import shift_table

from .fakes import Normal, Softmax, logits


def by_the_inputs(x: Tensor) -> SamplePredictive:
    """Three classes, whose probabilities are the inputs."""
    return SamplePredictive(logits(x.tolist()), Softmax())


def test_each_row_is_what_evaluate_says() -> None:
    y = torch.tensor([0, 1, 2, 0])
    sure = torch.eye(3)[y] * 0.88 + 0.04
    unsure = torch.full((4, 3), 0.2) + 0.4 * torch.eye(3)[[1, 1, 2, 0]]
    shifted = [Shifted("none", 0, sure), Shifted("noise", 1, unsure)]
    rows = bp.evaluate_shift(by_the_inputs, shifted, y)
    assert [(row["corruption"], row["level"]) for row in rows] == [("none", 0), ("noise", 1)]
    assert [row["accuracy"] for row in rows] == [1.0, 0.75]
    for row, x in zip(rows, (sure, unsure), strict=True):
        expected = bp.evaluate(by_the_inputs(x), y)
        assert {name: row[name] for name in ("accuracy", "accuracy_se", "nll", "nll_se", "ece")} == {
            name: expected[name] for name in ("accuracy", "accuracy_se", "nll", "nll_se", "ece")
        }


def test_regression_is_refused() -> None:
    def predict(x: Tensor) -> SamplePredictive:
        return SamplePredictive(x[None], Normal())

    with pytest.raises(ValueError, match="predictions for regression given, expected classification"):
        bp.evaluate_shift(predict, [Shifted("none", 0, torch.zeros(3, 1))], torch.zeros(3, 1))


def figures(prior: str | None = None, temperature: float = 1.0) -> list[dict[str, Any]]:
    own = {} if prior is None else {"prior": prior, "temperature": temperature}
    places = [("none", 0), *((kind, level) for kind in ("blur", "noise") for level in range(1, 6))]
    return [
        {
            "corruption": kind,
            "level": level,
            "accuracy": 1 - 0.1 * level,
            "nll": 0.1 + level,
            "ece": 0.01 * level,
        }
        | own
        for kind, level in places
    ]


def test_curves_start_at_the_clean_test_set() -> None:
    """A column a corruption, a line a posterior, six levels each; a legend where posteriors have names."""
    figure = shift_curves(figures())
    assert len(figure.axes) == 6
    assert not figure.legends
    for axes in figure.axes[:2]:
        (line,) = axes.get_lines()
        assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
        assert list(line.get_ydata()) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    several = shift_curves(figures("Normal") + figures("Laplace", 0.1))
    assert len(several.axes[0].get_lines()) == 2
    assert [text.get_text() for text in several.legends[0].get_texts()] == [
        "Normal, T = 1",
        "Laplace, T = 0.1",
    ]


def test_curves_need_a_corruption() -> None:
    with pytest.raises(ValueError, match="1 rows and no corruption"):
        shift_curves(figures()[:1])


def test_the_table_has_every_figure() -> None:
    page = shift_table(figures("A < B"))
    assert "A &lt; B, T = 1" in page
    assert page.count("<tr>") == 1 + 2 * 3
    assert page.count("<td>0.900</td>") == 2  # accuracy at level 1, of both corruptions
    assert "level 5" in page


def test_draws_get_worse_where_the_images_do() -> None:
    """A linear classifier on digits, no sampling: its weights by ridge regression stand for one draw."""
    data = digits(dtype=torch.float64)
    x, one_hot = data.x_train, torch.eye(10, dtype=torch.float64)[data.y_train]
    weights = torch.linalg.solve(x.T @ x + 10 * torch.eye(64, dtype=torch.float64), x.T @ (one_hot - 0.1))

    def predict(inputs: Tensor) -> SamplePredictive:
        return SamplePredictive(5 * (inputs @ weights)[None], Softmax())

    rows = bp.evaluate_shift(predict, corruptions(data, ["rotation"]), data.y_test)
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies[:4] == sorted(accuracies[:4], reverse=True)
    assert accuracies[0] > 0.9
    assert accuracies[-1] < 0.4
