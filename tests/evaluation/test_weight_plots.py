"""Pictures of trained weights hold the fitted figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import bnnpriors as bp
from bnnpriors.evaluation import weight_plots


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(0)
    return bp.priors.fit(
        {
            "conv.weight": generator.normal(size=(16, 8, 3, 3)),
            "dense.weight": generator.standard_t(2, size=(20, 30)),
            "bias": generator.normal(size=5),
        }
    )


def test_quantiles_lie_on_the_diagonal_of_the_right_family(fitted):
    layer = fitted.layers["dense.weight"]
    figure = weight_plots.marginals(layer)
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    student = next(line for label, line in lines.items() if label.startswith("StudentT"))
    expected, observed = student.get_data()
    parameters = layer.candidates["StudentT"].parameters
    probability, weights = layer.quantiles
    inside = np.isin(weights, observed)
    np.testing.assert_allclose(
        expected,
        scipy.stats.t(parameters["df"], 0, parameters["scale"]).ppf(probability[inside]),
        rtol=1e-6,
    )
    middle = np.abs(observed) < 2
    assert np.abs(expected - observed)[middle].max() < 0.5


def test_the_taps_are_drawn_with_their_kernels(fitted):
    layer = fitted.layers["conv.weight"]
    figure = weight_plots.correlations(layer)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), layer.spatial.correlation)
    np.testing.assert_array_equal(
        figure.axes[1].images[0].get_array(), layer.spatial.correlation[4].reshape(3, 3)
    )
    labels = [line.get_label() for line in figure.axes[2].lines]
    assert sum(label.startswith(("matern", "rbf")) for label in labels) == 4


def test_the_kernel_of_a_recommended_multivariate_t_is_drawn_dashed():
    law = bp.priors.CorrelatedStudentT(3.0, 0.2, "matern12", 1.0)
    w = law.sample((32, 16, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = bp.priors.fit({"w": w}).layers["w"]
    assert layer.recommended == "matern12_t"
    best = layer.candidates["matern12_t"]
    (dashed,) = (
        line
        for line in weight_plots.correlations(layer).axes[2].lines
        if str(line.get_label()).endswith("(multivariate t)")
    )
    distance, correlation = dashed.get_data()
    np.testing.assert_allclose(correlation, np.exp(-distance / best.parameters["lengthscale"]), rtol=1e-6)


def test_pictures_are_written_for_layers_that_have_something_to_show(fitted, tmp_path: Path):
    files = {file.name for file in fitted.plot(tmp_path / "new" / "folder")}
    names = ("conv.weight", "dense.weight")
    assert files == {f"{name}-{kind}.png" for name in names for kind in ("marginals", "correlations")}
    assert weight_plots.marginals(fitted.layers["bias"]) is None
    assert weight_plots.correlations(fitted.layers["bias"]) is None
