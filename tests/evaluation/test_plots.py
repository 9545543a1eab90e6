"""Figures hold what they should, and leave pyplot alone."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from bnnpriors.evaluation import SamplePredictive, plots

from .fakes import Normal, Softmax, fake_draws, logits, normal_tensor

ROWS = [
    {"prior": prior, "temperature": temperature, "nll": temperature + shift, "nll_se": 0.1}
    for prior, shift in (("Gaussian", 0.0), ("Laplace", 1.0))
    for temperature in (1.0, 0.01, 0.1)
]


def render(figure) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.tell() > 5000


def test_reliability_of_classes_marks_accuracy_against_confidence():
    pred = SamplePredictive(logits([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]]), Softmax())
    figure = plots.reliability(pred, torch.tensor([0, 1, 1]), num_bins=10)
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.7, 0.9])
    np.testing.assert_allclose(line.get_ydata(), [1.0, 0.5])
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 3
    render(figure)


def test_reliability_of_regression_is_the_coverage():
    pred = SamplePredictive(torch.zeros(1, 4, 1, dtype=torch.float64), Normal())
    figure = plots.reliability(pred, torch.zeros(4))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), np.ones(101))
    render(figure)


def test_traces_show_every_chain():
    draws = fake_draws(normal_tensor(3, 50, 9), potential=normal_tensor(3, 50))
    figure = plots.traces(draws)
    assert len(figure.axes) == 6
    assert all(len(axes.lines) == 3 for axes in figure.axes)
    named = plots.traces(draws, ["potential"])
    np.testing.assert_array_equal(named.axes[0].lines[1].get_ydata(), draws.stats["potential"][1])
    render(figure)
    with pytest.raises(ValueError, match="names is empty"):
        plots.traces(draws, [])


def test_temperature_curve_sorts_and_separates_the_priors():
    figure = plots.temperature_curve(ROWS, "nll")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    curves = [container.lines[0] for container in axes.containers]
    np.testing.assert_array_equal(curves[0].get_xdata(), [0.01, 0.1, 1.0])
    np.testing.assert_array_equal(curves[1].get_ydata(), [1.01, 1.1, 2.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Gaussian", "Laplace"]
    render(figure)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows is empty"),
        ([{"prior": "a", "nll": 1.0}], "temperature"),
        ([ROWS[0] | {"temperature": 0.0}], "more than 0"),
    ],
)
def test_temperature_curve_errors(rows, message):
    with pytest.raises(ValueError, match=message):
        plots.temperature_curve(rows, "nll")


def test_many_priors_look_different():
    rows = [{"prior": f"prior {i}", "temperature": 1.0, "nll": float(i)} for i in range(20)]
    axes = plots.temperature_curve(rows, "nll").axes[0]
    curves = [line for line in axes.lines if line.get_marker() in plots.MARKERS]
    assert len({(line.get_color(), line.get_marker()) for line in curves}) == 20


def test_predictive_band_sorts_its_inputs():
    x = torch.tensor([2.0, 0.0, 1.0])
    pred = SamplePredictive(x.double().reshape(1, 3, 1), Normal())
    figure = plots.predictive_band(pred, x, (x, x))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.0, 1.0, 2.0])
    render(figure)
    with pytest.raises(ValueError, match="as many points"):
        plots.predictive_band(pred, torch.zeros(4))


def test_pyplot_is_not_imported():
    code = (
        "import sys, bnnpriors.evaluation.plots as p; "
        "p.temperature_curve([dict(prior='a', temperature=1., nll=1.)], 'nll'); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
