"""The mixture over draws against closed forms and SciPy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bnnpriors.evaluation import Predictive, SamplePredictive, sampled
from bnnpriors.evaluation.per_draw import per_draw
from bnnpriors.likelihoods import Gaussian
from bnnpriors.priors import HalfCauchy

from .fakes import Normal, PlainLaplace, Softmax, logits, normal_tensor

DRAWS, BATCH, OUT = 6, 5, 2


@pytest.fixture
def mixture() -> tuple[SamplePredictive, np.ndarray, np.ndarray]:
    """A regression mixture with a different noise scale in each draw; its means and scales."""
    outputs, log_scale = normal_tensor(DRAWS, BATCH, OUT), 0.3 * normal_tensor(DRAWS, seed=1)
    pred = SamplePredictive(outputs, Normal(), {"log_scale": log_scale}, num_chains=2)
    return pred, outputs.numpy(), log_scale.exp().numpy()[:, None, None]


def test_log_prob_is_the_mixture_of_scipy_normals(mixture):
    pred, means, scales = mixture
    y = normal_tensor(BATCH, OUT, seed=2)
    expected = np.log(stats.norm.pdf(y.numpy(), means, scales).prod(-1).mean(0))
    np.testing.assert_allclose(pred.log_prob(y), expected, rtol=1e-10)


def test_moments_follow_the_law_of_total_variance(mixture):
    pred, means, scales = mixture
    np.testing.assert_allclose(pred.mean, means.mean(0), atol=1e-12)
    np.testing.assert_allclose(pred.epistemic_variance, means.var(0), atol=1e-12)
    np.testing.assert_allclose(pred.aleatoric_variance, np.broadcast_to((scales**2).mean(0), (BATCH, OUT)))
    np.testing.assert_allclose(pred.variance, (scales**2 + means**2).mean(0) - means.mean(0) ** 2, rtol=1e-10)


def test_cdf_and_interval_invert_each_other(mixture):
    pred, means, scales = mixture
    low, high = pred.interval(0.9)
    np.testing.assert_allclose(stats.norm.cdf(low.numpy(), means, scales).mean(0), 0.05, atol=1e-9)
    np.testing.assert_allclose(stats.norm.cdf(high.numpy(), means, scales).mean(0), 0.95, atol=1e-9)
    np.testing.assert_allclose(pred.cdf(high), 0.95, atol=1e-9)


def test_quantile_finds_far_tails_of_separated_modes():
    outputs = torch.tensor([-1e4, 1e4], dtype=torch.float64).reshape(2, 1, 1)
    pred = SamplePredictive(outputs, Normal(1e-3))
    low, high = pred.interval(0.5)
    assert abs(float(low) + 1e4) < 0.01
    assert abs(float(high) - 1e4) < 0.01


def test_likelihood_that_is_no_module_and_has_its_own_cdf():
    outputs = normal_tensor(DRAWS, BATCH, OUT)
    pred = SamplePredictive(outputs, PlainLaplace())
    y = normal_tensor(BATCH, OUT, seed=3)
    density = stats.laplace.pdf(y.numpy(), outputs.numpy()).prod(-1).mean(0)
    np.testing.assert_allclose(pred.log_prob(y), np.log(density), rtol=1e-10)
    level = stats.laplace.cdf(pred.interval(0.8)[1].numpy(), outputs.numpy()).mean(0)
    np.testing.assert_allclose(level, 0.9, atol=1e-9)


def test_likelihood_with_log_prob_alone_gives_log_prob():
    class Bare:
        def log_prob(self, outputs, y):
            return -(outputs - y).square().sum(-1)

    pred = SamplePredictive(torch.zeros(3, 2, 1), Bare())
    torch.testing.assert_close(pred.log_prob(torch.tensor([[0.0], [2.0]])), torch.tensor([0.0, -4.0]))
    with pytest.raises(TypeError, match="set its attribute `kind`"):
        _ = pred.mean


def test_latents_of_a_library_likelihood_by_either_name():
    latent = normal_tensor(4).float()
    outputs = torch.zeros(4, 3, 1)
    by_latent = SamplePredictive(outputs, Gaussian(HalfCauchy(1.0)), {"scale": latent})
    by_parameter = SamplePredictive(outputs, Gaussian(HalfCauchy(1.0)), {"scale_latent": latent})
    torch.testing.assert_close(by_latent.variance, by_parameter.variance)
    one = SamplePredictive(outputs[:1], Gaussian(HalfCauchy(1.0)), {"scale": latent[:1]})
    assert not torch.allclose(one.variance, by_latent.variance)


def test_a_miss_of_30_nats_keeps_its_value_and_its_gradient():
    outputs = torch.tensor([[[0.0, 30.0]]]).repeat(4, 1, 1).requires_grad_()
    log_prob = SamplePredictive(outputs, Softmax()).log_prob(torch.tensor([0]))
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(-30.0, abs=1e-4)
    torch.testing.assert_close(outputs.grad[:, 0, 0], torch.full((4,), 0.25))


def test_log_prob_far_below_the_smallest_float():
    pred = SamplePredictive(torch.zeros(2, 1, 1, dtype=torch.float64), Normal())
    assert pred.log_prob(torch.full((1, 1), 100.0)).item() == pytest.approx(stats.norm.logpdf(100.0))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(1, 6), st.integers(2, 5), st.floats(0.0, 40.0), st.integers(0, 1000))
def test_entropies_split(draws: int, classes: int, size: float, seed: int):
    pred = SamplePredictive(size * normal_tensor(draws, 3, classes, seed=seed), Softmax())
    total, aleatoric, epistemic = pred.total_entropy, pred.aleatoric_entropy, pred.epistemic_entropy
    torch.testing.assert_close(total, aleatoric + epistemic, rtol=0, atol=1e-9)
    assert (epistemic >= 0).all()
    assert (total <= math.log(classes) + 1e-9).all()
    torch.testing.assert_close(pred.probs.sum(-1), torch.ones(3, dtype=torch.float64))


def test_epistemic_entropy_of_certain_draws_that_disagree_is_log_2():
    outputs = torch.tensor([[[0.0, 1000.0]], [[1000.0, 0.0]]])
    pred = SamplePredictive(outputs, Softmax())
    assert pred.epistemic_entropy.item() == pytest.approx(math.log(2))
    assert pred.aleatoric_entropy.item() == 0.0


def test_pieces_give_what_the_whole_gives(monkeypatch, mixture):
    pred, _, _ = mixture
    y = normal_tensor(BATCH, OUT, seed=2)
    whole = [pred.log_prob(y), pred.mean, pred.variance, pred.cdf(y), pred.quantile(0.3)]
    monkeypatch.setattr(sampled, "_MAX_ELEMENTS", 2 * DRAWS * OUT)
    again = SamplePredictive(pred.outputs, pred.likelihood, pred.latents)
    parts = [again.log_prob(y), again.mean, again.variance, again.cdf(y), again.quantile(0.3)]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_draws_are_kept_chain_after_chain(mixture):
    pred, means, _ = mixture
    assert pred.outputs_by_chain().shape == (2, 3, BATCH, OUT)
    np.testing.assert_array_equal(pred.outputs_by_chain()[1, 0], means[3])
    torch.testing.assert_close(
        pred.predictions_by_chain(torch.tensor([1])), pred.outputs_by_chain()[:, :, 1:2]
    )
    classes = SamplePredictive(normal_tensor(4, 3, 5), Softmax(), num_chains=2).predictions_by_chain()
    torch.testing.assert_close(classes.sum(-1), torch.ones(2, 2, 3, dtype=torch.float64))


def test_samples_follow_the_predictive_distribution(mixture):
    """Kolmogorov–Smirnov at a false-alarm rate of 1e-6."""
    pred, means, scales = mixture
    one = SamplePredictive(pred.outputs[:, :1, :1], pred.likelihood, pred.latents)
    drawn = one.sample(2000, generator=torch.Generator().manual_seed(0)).flatten().numpy()
    cdf: Callable = lambda y: stats.norm.cdf(y[:, None], means[:, 0, 0], scales[:, 0, 0]).mean(-1)  # noqa: E731
    assert stats.kstest(drawn, cdf).pvalue > 1e-6
    assert stats.kstest(drawn, lambda y: cdf(y - 0.2)).pvalue < 1e-6


def test_class_samples_have_the_predicted_frequencies():
    """Chi-squared at a false-alarm rate of 1e-6."""
    pred = SamplePredictive(torch.cat([logits([[0.1, 0.9]]), logits([[0.7, 0.3]])]), Softmax())
    labels = pred.sample(4000, generator=torch.Generator().manual_seed(0)).flatten()
    assert stats.binomtest(int(labels.sum()), 4000, 0.6).pvalue > 1e-6


def test_samples_depend_only_on_the_generator(mixture):
    pred, _, _ = mixture
    before = torch.random.get_rng_state()
    first, second = (pred.sample(2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_closed_form_predictive_needs_few_members():
    class Standard(Predictive):
        kind, num_points = "regression", 3  # type: ignore[assignment]
        mean = torch.zeros(3, 1, dtype=torch.float64)
        epistemic_variance = aleatoric_variance = torch.full((3, 1), 0.5, dtype=torch.float64)

        def log_prob(self, y):
            return torch.distributions.Normal(0.0, 1.0).log_prob(y).sum(-1)

        def cdf(self, y):
            return torch.special.ndtr(y)

        def quantile(self, probability):
            return torch.special.ndtri(torch.as_tensor(probability, dtype=torch.float64)).expand(3, 1)

    pred = Standard()
    torch.testing.assert_close(pred.variance, torch.ones(3, 1, dtype=torch.float64))
    assert float(pred.interval(0.95)[1][0]) == pytest.approx(1.959964, abs=1e-6)
    with pytest.raises(TypeError, match="classification"):
        _ = pred.probs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SamplePredictive(torch.zeros(32, 10), Softmax()),
            r"logits \(32, 10\): expected \(draws, batch, classes\)",
        ),
        (lambda: SamplePredictive(torch.zeros(32, 1), Normal()), r"outputs \(32, 1\).*use draws.predict"),
        (lambda: SamplePredictive(torch.full((2, 3, 1), math.nan), Normal()), "2 of 2 draws hold NaN"),
        (lambda: SamplePredictive(torch.zeros(5, 3, 1), Normal(), num_chains=2), "divisor of the 5 draws"),
        (lambda: SamplePredictive(torch.zeros(2, 3, 1), Normal(), {"sigma": torch.zeros(2)}), "log_scale"),
        (
            lambda: SamplePredictive(torch.zeros(2, 3, 1), Normal(), {"log_scale": torch.zeros(3)}),
            r"expected \(2,\)",
        ),
        (
            lambda: SamplePredictive(torch.zeros(2, 3, 1), PlainLaplace(), {"scale": torch.zeros(2)}),
            "nn.Module",
        ),
        (lambda: SamplePredictive(torch.zeros(2, 3, 1), Normal()).interval(1.0), "level 1.0"),
        (lambda: SamplePredictive(torch.zeros(2, 3, 1), Normal()).quantile(0.0), "between 0 and 1"),
        (
            lambda: SamplePredictive(torch.zeros(2, 3, 2), Normal()).log_prob(torch.zeros(3, 1)),
            r"expected \(3, 2\)",
        ),
    ],
)
def test_errors_say_what_to_do(make: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_other_kind_is_refused():
    regression, classes = (
        SamplePredictive(torch.zeros(2, 3, 1), Normal()),
        SamplePredictive(torch.zeros(2, 3, 4), Softmax()),
    )
    for name in ("log_probs", "probs", "aleatoric_entropy", "total_entropy"):
        with pytest.raises(TypeError, match="classification only"):
            getattr(regression, name)
    for name in ("mean", "variance", "epistemic_variance"):
        with pytest.raises(TypeError, match="regression only"):
            getattr(classes, name)
    with pytest.raises(TypeError, match="no method 'variance'"):
        per_draw(Softmax(), "variance", {}, torch.zeros(2, 3, 4))
