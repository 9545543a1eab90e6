"""Draws of functions from the prior: their laws, the figures of their layers, the verdicts and the pictures."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.evaluation import inputs_between, prior_plots

LIMIT = 5.2  # standard errors: a false alarm has probability 2e-7
X = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.0]], dtype=torch.float64)


def linear(scale: float, **options: object) -> bp.BayesianModule:
    net = nn.Linear(2, 3, bias=False, dtype=torch.float64)
    return bp.attach(net, bp.priors.Normal(0.0, scale))


def deep(scale: float, depth: int = 6, bias: float = 1e-6) -> bp.BayesianModule:
    net = bp.models.mlp(2, 3, hidden=(20,) * depth)
    return bp.attach(
        net, {"*.weight": bp.priors.Normal(0.0, scale), "*.bias": bp.priors.Normal(0.0, bias)}
    ).double()


def test_outputs_are_those_of_the_models_own_prior_draws() -> None:
    model = bp.attach(
        bp.models.mlp(2, 1, hidden=(5,)).double(),
        bp.priors.Normal(0.0, bp.priors.HalfCauchy(1.0), centred=False),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = bp.prior_predictive(model, X, num_draws=4, seed=3)
    assert found.outputs.shape == (4, 3, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    generator = torch.Generator().manual_seed(3)
    for row in found.outputs:
        torch.testing.assert_close(model.sample_prior_(generator)(X), row)


def test_variance_of_a_linear_layer_is_its_expectation() -> None:
    """h = W x with W ~ N(0, s²): E v = s² · mean_b |x_b|²."""
    layer = bp.prior_predictive(linear(0.7), X, num_draws=2000).layers[1]
    expected = 0.49 * float(X.square().sum(1).mean())
    error = float(layer.variance.std()) / math.sqrt(2000)
    assert LIMIT * error < 0.2 * expected
    assert abs(float(layer.variance.mean()) - expected) < LIMIT * error


def test_figures_of_each_layer() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    found = bp.prior_predictive(bp.attach(net, bp.priors.Normal(0.0, 1.0)), X, num_draws=7)
    assert [(layer.name, layer.kind, layer.has_weights) for layer in found.layers] == [
        ("x", "inputs", False), ("0", "Linear", True), ("1", "ReLU", False), ("2", "Linear", True),
    ]  # fmt: skip
    last = found.layers[-1]
    torch.testing.assert_close(last.variance, found.outputs.square().mean((1, 2)))
    torch.testing.assert_close(
        last.between_inputs, found.outputs.var(1, correction=0).mean(-1) / found.outputs.square().mean((1, 2))
    )
    torch.testing.assert_close(found.layers[0].variance, X.square().mean().expand(7))
    torch.testing.assert_close(found.growth, last.variance / X.square().mean())
    ordered = last.variance.sort().values
    torch.testing.assert_close(last.quantiles(), ordered[[0, 2, 3, 4, 6]])


def test_a_module_called_twice_has_two_lines() -> None:
    act = nn.Tanh()
    net = nn.Sequential(nn.Linear(2, 3), act, nn.Linear(3, 3), act, nn.Linear(3, 1))
    found = bp.prior_predictive(bp.attach(net, bp.priors.Normal()), X, num_draws=3)
    assert [layer.name for layer in found.layers] == ["x", "0", "1", "2", "1 (2)", "4"]


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.05, "vanishing"), (math.sqrt(2 / 20), "stable"), (3.0, "exploding")]
)
def test_verdicts(scale: float, verdict: str) -> None:
    found = bp.prior_predictive(deep(scale), X, num_draws=50)
    assert found.verdict == verdict
    assert found.explanation().startswith(
        f"{verdict}: from the inputs to the output the mean square is multiplied by"
    )
    assert "stable is 0.01 to 100" in str(found)
    median = float(found.growth.sort().values[24])
    assert found.growth_quantile(0.5) == pytest.approx(median)


def test_functions_that_are_almost_constant_are_named() -> None:
    found = bp.prior_predictive(deep(0.05, bias=1.0), X, num_draws=50)
    assert found.verdict == "stable"
    assert "almost constant" in found.explanation()
    assert "almost constant" not in bp.prior_predictive(deep(0.4), X, num_draws=50).explanation()


def test_heavy_tails_and_overflow_have_finite_words() -> None:
    net = bp.models.mlp(2, 1, hidden=(20, 20, 20))
    found = bp.prior_predictive(bp.attach(net, bp.priors.StudentT(0.1)), X.float(), num_draws=100)
    assert found.verdict == "exploding"
    assert 0 < found.overflow < 1
    assert f"{found.overflow:.1%} of the draws overflow float32" in found.explanation()
    cauchy = bp.prior_predictive(
        bp.attach(nn.Linear(2, 1), bp.priors.StudentT(1.0)), X.float(), num_draws=101
    )
    assert math.isfinite(cauchy.growth_quantile(0.5))
    render(prior_plots.variance_by_depth(found))


def test_classes() -> None:
    model = bp.attach(bp.models.mlp(2, 3, hidden=(5,)), bp.priors.Normal(0.0, 0.5))
    found = bp.prior_predictive(model, X, num_draws=20, likelihood="categorical")
    torch.testing.assert_close(found.probs, torch.softmax(found.outputs, -1))
    same = bp.prior_predictive(model, X, num_draws=20, likelihood=bp.likelihoods.Categorical())
    assert torch.equal(same.log_probs, found.log_probs)
    assert "1/3 is no opinion" in found.explanation()
    regression = bp.prior_predictive(model, X, num_draws=2, likelihood=bp.likelihoods.Gaussian(0.1))
    with pytest.raises(TypeError, match="likelihood='categorical'"):
        _ = regression.probs


def test_integer_inputs_are_compared_with_the_first_layer() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 1))
    found = bp.prior_predictive(
        bp.attach(net, bp.priors.Normal()), torch.tensor([[0, 1], [2, 4]]), num_draws=5
    )
    assert found.layers[0].kind == "Embedding"
    torch.testing.assert_close(found.growth, found.layers[2].variance / found.layers[0].variance)
    assert "from the first layer" in found.explanation()


def test_seeds() -> None:
    first, again, other = (
        bp.prior_predictive(linear(1.0), X, num_draws=3, seed=s).outputs for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_refused() -> None:
    model = linear(1.0)
    for options, words in (
        ({"num_draws": 1}, "num_draws 1 given, expected an integer from 2"),
        ({"seed": -1}, "seed -1 given"),
        ({"likelihood": "bernoulli"}, "likelihood 'bernoulli' given, expected 'categorical'"),
        ({"x": torch.zeros(3, 5)}, r"cannot take inputs of shape \(batch, 5\)"),
        ({"x": torch.full((3, 2), math.nan)}, "3 of 3 examples hold NaN"),
        ({"x": torch.zeros(0, 2)}, "one input at least"),
    ):
        with pytest.raises(ValueError, match=words):
            bp.prior_predictive(model, **({"x": X} | options))
    with pytest.raises(ValueError, match=r"weight has the prior Improper.*proper one"):
        bp.prior_predictive(bp.attach(nn.Linear(2, 1, bias=False), bp.priors.Improper()), X)
    image = bp.attach(nn.Conv2d(1, 2, 1), bp.priors.Normal())
    with pytest.raises(ValueError, match=r"expected logits \(batch, classes\)"):
        bp.prior_predictive(image, torch.zeros(2, 1, 3, 3), likelihood="categorical")


def test_the_line_between_two_inputs() -> None:
    line = inputs_between(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), num_points=5)
    assert line.shape == (5, 1, 2, 2)
    torch.testing.assert_close(line[:, 0, 0, 0], torch.linspace(0, 1, 5))
    with pytest.raises(ValueError, match="two single inputs of one shape"):
        inputs_between(torch.zeros(2), torch.ones(2), num_points=1)


def render(figure) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.tell() > 5000


def test_function_samples_along_one_input_in_order() -> None:
    x = torch.tensor([[2.0], [0.0], [1.0]])
    model = bp.attach(nn.Linear(1, 1), bp.priors.Normal())
    found = bp.prior_predictive(model, x, num_draws=21)
    figure = prior_plots.function_samples(found, num_functions=2)
    lines = figure.axes[0].lines
    assert len(lines) == 3
    np.testing.assert_array_equal(lines[0].get_xdata(), [0.0, 1.0, 2.0])
    np.testing.assert_allclose(lines[0].get_ydata(), found.outputs[0, [1, 2, 0], 0], rtol=1e-6)
    np.testing.assert_allclose(
        lines[2].get_ydata(), found.outputs[:, [1, 2, 0], 0].median(0).values, rtol=1e-6
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "90 % of draws", "50 % of draws", "single draws", "median",
    ]  # fmt: skip
    render(figure)
    with pytest.raises(ValueError, match="output 1 given, expected 0 to 0"):
        prior_plots.function_samples(found, output=1)


def test_function_samples_between_two_inputs() -> None:
    model = bp.attach(bp.models.mlp(2, 3, hidden=(5,)), bp.priors.Normal())
    line = inputs_between(X[0].float(), X[1].float(), num_points=9)
    found = bp.prior_predictive(model, line, num_draws=10, likelihood="categorical")
    axes = prior_plots.function_samples(found, output=2).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), np.linspace(0, 1, 9), atol=1e-6)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.probs[0, :, 2], rtol=1e-5)
    assert axes.get_ylabel() == "probability of class 2"
    with pytest.raises(ValueError, match="on no line"):
        prior_plots.function_samples(bp.prior_predictive(model, X, num_draws=3))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_class_probabilities(classes: int) -> None:
    model = bp.attach(bp.models.mlp(2, classes, hidden=(5,)), bp.priors.Normal())
    found = bp.prior_predictive(model, X, num_draws=11, likelihood="categorical")
    figure = prior_plots.class_probabilities(found)
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == pytest.approx(1.0)
    if classes == 3:
        assert len(right.lines[0].get_xdata()) == 33
    else:
        shares = torch.nn.functional.one_hot(found.probs.argmax(-1), classes).double().mean(1).amax(1)
        assert right.patches[0].get_height() == pytest.approx(float(shares.median()))
    render(figure)


def test_variance_by_depth() -> None:
    found = bp.prior_predictive(deep(0.05), X, num_draws=20)
    axes = prior_plots.variance_by_depth(found).axes[0]
    assert axes.get_yscale() == "log"
    medians = [float(layer.quantiles()[2]) for layer in found.layers]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), medians)
    assert axes.get_title(loc="left").startswith("vanishing")
    render(axes.figure)


@pytest.mark.gpu
def test_on_an_accelerator() -> None:
    model = bp.attach(bp.models.mlp(2, 3, hidden=(5,)), bp.priors.StudentT(3.0)).cuda()
    found = bp.prior_predictive(model, X.float(), num_draws=5, likelihood="categorical")
    assert found.outputs.device.type == "cuda"
    render(prior_plots.variance_by_depth(found))
    assert "median v" in str(found)
