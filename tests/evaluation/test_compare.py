"""Agreement and total variation against closed forms, and what cannot be compared."""

import math
import sys

import pytest
import torch
from scipy import stats

import bnnpriors as bp
from bnnpriors.evaluation import GaussianPredictive, SamplePredictive

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
    assert bp.compare(one, one) == bp.evaluation.Comparison(1.0, 0.0, (None, None), 3, None)
    assert "agreement 66.7%" in str(found)
    assert "of two runs of one law: unknown" in str(found)


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


def test_chance_by_hand():
    """Probabilities ½ ± δ of two classes in two chains: s² = 2δ², and √(2/π) √(s²/2) a class, with both runs' variances added."""
    run = SamplePredictive(logits([[0.6, 0.4]]).repeat(4, 1, 1), Softmax(), num_chains=2)
    run.outputs[2:] = logits([[0.4, 0.6]])
    exact = bp.compare(run, run)
    assert exact.chance == pytest.approx(math.sqrt(2 / math.pi) * math.sqrt(2) * 0.1)
    assert exact.within == pytest.approx((0.2, 0.2))
    alone = SamplePredictive(logits([[0.6, 0.4]]), Softmax())
    assert bp.compare(run, alone).chance is None
    assert bp.compare(run, alone).within == (pytest.approx(0.2), None)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_chance_is_the_distance_of_two_runs_of_one_law(kind):
    """On average over 60 pairs of runs of 20 and 12 chains, at five standard errors: a false-alarm rate of 6e-7."""
    found = []
    for seed in range(60):
        runs = []
        for part, chains in enumerate((20, 12)):
            values = normal_tensor(chains * 5, 8, 3, seed=2 * seed + part)
            if kind == "regression":
                runs.append(SamplePredictive(values[..., :1], Normal(), num_chains=chains))
            else:
                runs.append(SamplePredictive(values, Softmax(), num_chains=chains))
        pair = bp.compare(*runs)
        assert pair.chance is not None
        found.append((pair.total_variation, pair.chance))
    distance, chance = torch.tensor(found, dtype=torch.float64).unbind(1)
    error = 5 * float((distance.std() / chance.mean()) / len(found) ** 0.5)
    assert error < 0.15
    assert abs(float(distance.mean() / chance.mean()) - 1) < error


@pytest.mark.parametrize("likelihood", [Normal(0.7), PlainLaplace()])
def test_pieces_and_chains_change_nothing(likelihood, monkeypatch):
    """Few points at a time; and the mixture over chains is that over draws."""
    one, other = (
        SamplePredictive(normal_tensor(6, 5, 2, seed=seed), likelihood, num_chains=3) for seed in (0, 1)
    )
    y = normal_tensor(4, 5, 2, seed=2)
    torch.testing.assert_close(one.cdf_by_chain(y).mean(0), torch.stack([one.cdf(value) for value in y]))
    torch.testing.assert_close(one.cdf_by_chain(y[:, 1:3], slice(1, 3)), one.cdf_by_chain(y)[:, :, 1:3])
    whole = bp.compare(one, other)
    monkeypatch.setattr(sys.modules[bp.compare.__module__], "MAX_NUMBERS", 1)
    pieces = bp.compare(one, other)
    assert (pieces.total_variation, pieces.chance) == pytest.approx((whole.total_variation, whole.chance))
    assert pieces.within == pytest.approx(whole.within)
    classes = [
        SamplePredictive(normal_tensor(6, 5, 3, seed=seed), Softmax(), num_chains=2) for seed in (0, 1)
    ]
    pieces = bp.compare(*classes)
    monkeypatch.undo()
    assert pieces.total_variation == pytest.approx(bp.compare(*classes).total_variation)


def test_a_run_and_a_law_in_closed_form():
    """The law has no Monte Carlo error, and the run's own is what chance makes."""
    mean, variance = torch.zeros(4, 1, dtype=torch.float64), torch.full((4, 1), 0.5, dtype=torch.float64)
    law = GaussianPredictive(mean, variance, variance)
    run = SamplePredictive(normal_tensor(400, 4, 1) * 0.5**0.5, Normal(0.5**0.5), num_chains=40)
    found = bp.compare(run, law)
    assert found.within[1] is None
    assert 0 < found.chance < 0.03
    assert found.total_variation < 3 * found.chance


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
