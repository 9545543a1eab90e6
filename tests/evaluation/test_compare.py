"""Agreement and total variation against closed forms, and what cannot be compared."""

import math

import pytest
import torch
from scipy import stats

import bnnpriors as bp
from bnnpriors.evaluation import SamplePredictive

from .fakes import Normal, PlainLaplace, Softmax, logits, normal_tensor


def regression(means, likelihood=None, num_chains=1):
    outputs = torch.as_tensor(means, dtype=torch.float64).reshape(len(means), -1, 1)
    return SamplePredictive(outputs, likelihood or Normal(), num_chains=num_chains)


def test_classification_by_hand():
    one = SamplePredictive(logits([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]), Softmax())
    other = SamplePredictive(logits([[0.7, 0.3], [0.4, 0.6], [0.3, 0.7]]), Softmax())
    found = bp.compare(one, other)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.total_variation == pytest.approx((0.2 + 0.2 + 0.0) / 3)
    assert (found.within, found.num_points) == ((None, None), 3)
    assert bp.compare(one, one) == bp.evaluation.Comparison(1.0, 0.0, (None, None), 3)
    assert "agreement 66.7%" in str(found)


@pytest.mark.parametrize("shift", [0.01, 0.5, 3.0, 40.0])
def test_two_gaussians(shift):
    """½ ∫ |φ(y) − φ(y − δ)| dy = 2 Φ(δ/2) − 1."""
    found = bp.compare(regression([[0.0, 1.0]]), regression([[shift, 1.0 - shift]]))
    assert found.agreement is None
    assert found.total_variation == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=1e-3)


def test_gaussian_and_wider_gaussian_and_laplace():
    """Densities that cross twice or four times; the integrals by a fine sum."""
    y = torch.linspace(-40, 40, 800_001, dtype=torch.float64).numpy()
    for likelihood, law in ((Normal(3.0), stats.norm(0, 3)), (PlainLaplace(), stats.laplace())):
        expected = 0.5 * abs(law.pdf(y) - stats.norm.pdf(y)).sum() * (y[1] - y[0])
        found = bp.compare(regression([[0.0]]), regression([[0.0]], likelihood))
        assert found.total_variation == pytest.approx(expected, abs=2e-3)


def test_chains_of_one_run_tell_what_is_near():
    """Chain 0 at 0 and chain 1 at 1: each is 2 Φ(½) − 1 from the other."""
    run = regression([[0.0]] * 3 + [[1.0]] * 3, num_chains=2)
    found = bp.compare(run, regression([[0.0]] * 4, num_chains=4))
    assert found.within[0] == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=1e-3)
    assert found.within[1] == pytest.approx(0.0, abs=1e-9)
    mixture = 0.5 * (2 * stats.norm.cdf(0.5) - 1)
    assert found.total_variation == pytest.approx(mixture, abs=1e-3)


def test_draws_of_two_samplers():
    x = normal_tensor(20, 1).float()
    model = bp.attach(torch.nn.Linear(1, 1), bp.priors.Normal())
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(scale=0.5), x, 2 * x)
    runs = [
        bp.sample(posterior, sampler, num_samples=500, num_warmup=100, num_chains=2, seed=seed)
        for seed, sampler in enumerate(
            [bp.samplers.HMC(step_size=0.1, num_steps=5), bp.samplers.GGMC(step_size=0.05, steps_per_test=5)]
        )
    ]
    found = bp.compare(*runs, x[:5])
    assert found.total_variation < 0.05
    assert all(value is not None and 0 < value < 0.1 for value in found.within)
    with pytest.raises(ValueError, match="pass x"):
        bp.compare(*runs)


def test_what_cannot_be_compared():
    classes = SamplePredictive(logits([[0.9, 0.1]]), Softmax())
    with pytest.raises(ValueError, match="regression at 1 inputs and classification at 1"):
        bp.compare(regression([[0.0]]), classes)
    with pytest.raises(ValueError, match="at 1 inputs and regression at 2"):
        bp.compare(regression([[0.0]]), regression([[0.0, 1.0]]))
    with pytest.raises(ValueError, match="2 and 3 classes"):
        bp.compare(classes, SamplePredictive(logits([[0.5, 0.3, 0.2]]), Softmax()))
    with pytest.raises(TypeError, match="Tensor given"):
        bp.compare(torch.zeros(3), classes)
    assert math.isclose(bp.compare(classes, classes).total_variation, 0.0)
