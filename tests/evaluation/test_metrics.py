"""Metrics against sums done by hand and against SciPy and scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from bnnpriors.evaluation import SamplePredictive, evaluate

from .fakes import Normal, Softmax, logits, normal_tensor

PROBS = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.55, 0.45]]
LABELS = torch.tensor([0, 1, 1, 0])


def test_classification_by_hand():
    result = evaluate(SamplePredictive(logits(PROBS), Softmax()), LABELS, num_bins=2)
    assert result["nll"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.55]).mean())
    assert result["accuracy"] == 0.75
    assert result["accuracy_se"] == pytest.approx(np.std([1, 0, 1, 1], ddof=1) / 2)
    assert result["brier"] == pytest.approx(2 * (0.01 + 0.36 + 0.09 + 0.2025) / 4)
    # All confidences lie in the upper bin: |0.75 − mean(.9, .6, .7, .55)|.
    assert result["ece"] == pytest.approx(abs(0.75 - 0.6875))
    assert result["entropy_epistemic"] == pytest.approx(0.0, abs=1e-12)
    assert result["entropy_total"] == pytest.approx(stats.entropy(np.array(PROBS), axis=1).mean())
    json.dumps(result)


def test_ece_over_several_bins():
    probs = [[p, 1 - p] for p in (0.95, 0.92, 0.75, 0.72, 0.71)]
    result = evaluate(SamplePredictive(logits(probs), Softmax()), torch.tensor([0, 1, 0, 0, 1]), num_bins=10)
    by_hand = 2 / 5 * abs(0.5 - 0.935) + 3 / 5 * abs(2 / 3 - (0.75 + 0.72 + 0.71) / 3)
    assert result["ece"] == pytest.approx(by_hand)


def test_certain_predictions_are_not_sent_through_another_softmax():
    """torchmetrics applies a softmax when any probability rounds to more than one."""
    outputs = torch.zeros(7, 50, 3)
    outputs[..., 0] = 40.0
    result = evaluate(
        SamplePredictive(outputs + 1e-3 * normal_tensor(7, 50, 3).float(), Softmax()), torch.zeros(50).long()
    )
    assert result["ece"] == pytest.approx(0.0, abs=1e-6)


def test_calibrated_classifier_has_a_small_ece_and_an_overconfident_one_has_not():
    """Under calibration the ECE of 20,000 points in 15 bins has mean < .01; .03 is beyond a 1e-6 false
    alarm.
    """
    raw = 2 * normal_tensor(1, 20_000, 4)
    labels = torch.multinomial(raw[0].softmax(-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert evaluate(SamplePredictive(raw, Softmax()), labels)["ece"] < 0.03
    assert evaluate(SamplePredictive(2 * raw, Softmax()), labels)["ece"] > 0.06


def test_regression_in_original_units():
    means, y = normal_tensor(3, 40, 2), normal_tensor(40, 2, seed=1)
    scale = torch.tensor([2.0, 5.0])
    pred = SamplePredictive(means, Normal(0.5))
    plain, scaled = evaluate(pred, y), evaluate(pred, y, target_scale=scale)
    density = stats.norm.pdf(y.numpy() * scale.numpy(), means.numpy() * scale.numpy(), 0.5 * scale.numpy())
    assert scaled["nll"] == pytest.approx(-np.log(density.prod(-1).mean(0)).mean())
    errors = ((y - means.mean(0)) * scale).numpy()
    assert scaled["rmse"] == pytest.approx(math.sqrt((errors**2).mean()))
    assert evaluate(pred, y, target_scale=3.0)["nll"] == pytest.approx(plain["nll"] + 2 * math.log(3.0))
    assert scaled["coverage_95"] == plain["coverage_95"]
    assert scaled["ece"] == plain["ece"]


def test_coverage_of_true_and_of_too_narrow_intervals():
    """20,000 exact intervals: the share inside has s.e. .0015; the bounds are five of them, a false alarm
    under 1e-6.
    """
    y = normal_tensor(20_000)
    right = evaluate(SamplePredictive(torch.zeros(1, 20_000, 1, dtype=torch.float64), Normal(1.0)), y)
    narrow = evaluate(SamplePredictive(torch.zeros(1, 20_000, 1, dtype=torch.float64), Normal(0.5)), y)
    assert right["coverage_95"] == pytest.approx(0.95, abs=0.0077)
    assert right["ece"] < 0.0177
    assert narrow["coverage_95"] == pytest.approx(2 * stats.norm.cdf(1.959964 / 2) - 1, abs=0.017)
    levels = (np.arange(15) + 0.5) / 15
    expected = np.abs(2 * stats.norm.cdf(stats.norm.ppf((1 + levels) / 2) / 2) - 1 - levels).mean()
    assert narrow["ece"] == pytest.approx(expected, abs=0.0177)


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_auroc_of_out_of_distribution_inputs(size: float):
    inside, outside = size * 2 * normal_tensor(5, 60, 3), size * normal_tensor(5, 80, 3, seed=1)
    pred, ood = SamplePredictive(inside, Softmax()), SamplePredictive(outside, Softmax())
    result = evaluate(pred, torch.zeros(60).long(), ood=ood)
    scores = np.concatenate([1 - p.probs.max(-1).values.numpy() for p in (pred, ood)])
    assert result["auroc_ood"] == pytest.approx(roc_auc_score([0] * 60 + [1] * 80, scores))
    assert evaluate(pred, torch.zeros(60).long(), ood=pred)["auroc_ood"] == pytest.approx(0.5)


def test_auroc_tells_certain_predictions_apart_where_probabilities_round_to_one():
    certain, less = torch.tensor([60.0, 0.0]).repeat(1, 9, 1), torch.tensor([40.0, 0.0]).repeat(1, 9, 1)
    pred, ood = SamplePredictive(certain, Softmax()), SamplePredictive(less, Softmax())
    assert float(ood.probs.min(0).values[0]) == 1.0
    assert evaluate(pred, torch.zeros(9).long(), ood=ood)["auroc_ood"] == 1.0


def test_auroc_of_regression_is_by_variance():
    pred = SamplePredictive(normal_tensor(8, 30, 1), Normal())
    ood = SamplePredictive(100 * normal_tensor(8, 30, 1, seed=1), Normal())
    assert evaluate(pred, torch.zeros(30), ood=ood)["auroc_ood"] == 1.0


def test_one_test_point_has_no_standard_error():
    result = evaluate(SamplePredictive(logits(PROBS[:1]), Softmax()), LABELS[:1])
    assert math.isnan(result["nll_se"])
    assert result["accuracy"] == 1.0


CLASSES = SamplePredictive(logits(PROBS), Softmax())
REAL = SamplePredictive(torch.zeros(2, 4, 1), Normal())


@pytest.mark.parametrize(
    ("pred", "y", "options", "error", "message"),
    [
        (CLASSES, torch.eye(2)[LABELS], {}, ValueError, r"labels \(4, 2\).*argmax"),
        (CLASSES, LABELS.float(), {}, TypeError, r"y.long\(\)"),
        (CLASSES, LABELS + 1, {}, ValueError, "labels from 1 to 2: expected 0 to 1"),
        (CLASSES, LABELS, {"target_scale": 2.0}, ValueError, "classes have no scale"),
        (CLASSES, LABELS, {"ood": REAL}, ValueError, "regression prediction"),
        (CLASSES, LABELS, {"num_bins": 0}, ValueError, "num_bins 0"),
        (REAL, torch.zeros(5), {}, ValueError, r"targets \(5, 1\): expected \(4, 1\)"),
        (REAL, torch.full((4, 1), math.nan), {}, ValueError, "targets hold NaN"),
        (REAL, torch.zeros(4), {"target_scale": torch.ones(3)}, ValueError, r"target_scale \(3,\)"),
        (REAL, torch.zeros(4), {"target_scale": -1.0}, ValueError, "positive"),
        (
            SamplePredictive(torch.zeros(2, 0, 1), Normal()),
            torch.zeros(0, 1),
            {},
            ValueError,
            "no test points",
        ),
    ],
)
def test_errors_say_what_to_do(pred, y, options, error, message):
    with pytest.raises(error, match=message):
        evaluate(pred, y, **options)
