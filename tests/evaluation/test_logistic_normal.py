"""Class probabilities of Gaussian logits, against quadrature and their ends."""

import math

import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors.evaluation import LogisticNormalPredictive


@pytest.mark.parametrize(("mean", "deviation"), [(0.3, 0.5), (-2.0, 2.0), (1.0, 5.0)])
def test_two_classes_against_quadrature(mean: float, deviation: float) -> None:
    """p(class 1) = E[sigmoid(d)], d ~ N(difference of means, sum of variances); within the stated 0.005."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    values = 1 / (1 + np.exp(-(mean + deviation * nodes)))
    expected = float(weights @ values / math.sqrt(2 * math.pi))
    pred = LogisticNormalPredictive(
        torch.tensor([[0.0, mean]]).double(), torch.tensor([[deviation**2 / 2]]).double()
    )
    assert float(pred.probs[0, 1]) == pytest.approx(expected, abs=0.005)


def test_without_variance_it_is_the_softmax() -> None:
    mean = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred = LogisticNormalPredictive(mean, torch.zeros(6, 1, dtype=torch.float64))
    torch.testing.assert_close(pred.log_probs, torch.log_softmax(mean, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        pred.epistemic_entropy, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(pred.log_prob(torch.zeros(6, dtype=torch.long)), pred.log_probs[:, 0])
    assert pred.kind == "classification"
    assert "accuracy" in bp.evaluate(pred, mean.argmax(-1))


def test_pieces_and_entropies(monkeypatch: pytest.MonkeyPatch) -> None:
    """More variance, more mutual information; whatever the size of a piece; sums to one; a miss of 200 nats is not cut off."""
    mean = torch.tensor([[3.0, 0.0, -1.0]], dtype=torch.float64).expand(5, 3)
    variance = torch.tensor([0.0, 0.1, 1.0, 4.0, 16.0], dtype=torch.float64)[:, None]
    pred = LogisticNormalPredictive(mean, variance)
    assert bool((pred.epistemic_entropy.diff() > 0).all())
    torch.testing.assert_close(pred.probs.sum(-1), torch.ones(5, dtype=torch.float64))
    monkeypatch.setattr("bnnpriors.evaluation.logistic_normal._MAX_ELEMENTS", 1)
    torch.testing.assert_close(LogisticNormalPredictive(mean, variance).log_probs, pred.log_probs)
    far = LogisticNormalPredictive(200 * mean[:1], variance[:1])
    assert float(far.log_probs[0, 2]) == pytest.approx(-800.0)
    assert LogisticNormalPredictive(mean[:0], variance[:0]).probs.shape == (0, 3)


def test_bad_input(as_a_user_meets_it: None) -> None:
    mean, variance = torch.zeros(2, 3), torch.ones(2, 3)
    for a, b, options, message in (
        (mean[:, :1], variance[:, :1], {}, "two classes or more"),
        (mean[0], variance, {}, "two classes or more"),
        (mean / 0, variance, {}, "finite means"),
        (mean, -variance, {}, "not negative"),
        (mean, variance, {"num_samples": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            LogisticNormalPredictive(a, b, **options)


def test_probabilities_have_the_order_of_the_means_where_variances_are_equal() -> None:
    """Flat ones too, whose differences are below the error of the Sobol points; with other variances that order need not be."""
    mean = 0.01 * torch.randn(300, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred = LogisticNormalPredictive(mean, torch.full((300, 1), 9.0, dtype=torch.float64))
    assert torch.equal(pred.log_probs.argsort(1), mean.argsort(1))
    exact = LogisticNormalPredictive(mean, torch.full((300, 1), 9.0, dtype=torch.float64), num_samples=2**14)
    assert float((pred.probs - exact.probs).abs().max()) < 0.005
    torch.testing.assert_close(pred.probs.sum(1), torch.ones(300, dtype=torch.float64))
    wide = torch.tensor([[36.0, 0.0, 0.0]], dtype=torch.float64)
    other = LogisticNormalPredictive(torch.tensor([[-0.5, 0.0, 0.0]], dtype=torch.float64), wide)
    assert float(other.probs[0, 0]) > 0.4  # the lowest mean
