"""Three ways to classify: against formulas written out, GPyTorch's transformed regression and bound, and a known truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gpytorch
import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import classification, factor

P = bp.priors
CLASSES = 3


def _kernel() -> infinite.InfiniteWidthKernel:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    return infinite.kernel(
        bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.6)})
    )


def _data(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, labels and the probabilities that the labels are drawn from: a softmax of linear functions."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    logits = 2 * x @ torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.5, -1.0]], dtype=torch.float64)
    probs = torch.softmax(logits, -1)
    return x, torch.multinomial(probs, 1, generator=generator)[:, 0], probs


CLASSIFIERS: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "least squares": lambda kernel, x, y: infinite.LeastSquaresClassifier(kernel, x, y),
    "dirichlet": lambda kernel, x, y: infinite.DirichletClassifier(kernel, x, y, alpha=0.1).fit(),
    "softmax": lambda kernel, x, y: infinite.SoftmaxClassifier(kernel, x, y).fit(),
    "softmax, 20 inducing": lambda kernel, x, y: infinite.SoftmaxClassifier(
        kernel, x, y, num_inducing=20
    ).fit(),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_near_the_truth(name: str) -> None:
    """On 150 labels: the mean KL from the true probabilities at new inputs, against 0.58 for uniform ones, and the calibration
    error. The largest of the four classifiers are 0.040 and 0.058.
    """
    x, y, _ = _data(150)
    new, labels, truth = _data(1500, 1)
    classifier = CLASSIFIERS[name](_kernel(), x, y)
    pred = classifier.predict(new)
    assert isinstance(pred, bp.evaluation.LogisticNormalPredictive)
    divergence = float((truth * (truth.log() - pred.log_probs)).sum(-1).mean())
    metrics = bp.evaluate(pred, labels, ood=classifier.predict(0 * new))
    assert divergence < 0.055
    assert metrics["ece"] < 0.08
    assert metrics["accuracy"] > float((truth.argmax(-1) == labels).double().mean()) - 0.05
    assert metrics["auroc_ood"] > 0.98  # the origin is where all classes meet


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_can_be_renamed_and_points_reordered(name: str) -> None:
    """With the same probabilities up to the Sobol points, which classes do not share (and inducing points that are the first)."""
    x, y, _ = _data(60)
    order = (
        torch.arange(60)
        if "inducing" in name
        else torch.randperm(60, generator=torch.Generator().manual_seed(0))
    )
    names = torch.tensor([2, 0, 1])
    new = _data(20, 1)[0]
    probs = CLASSIFIERS[name](_kernel(), x, y).predict(new).probs
    other = CLASSIFIERS[name](_kernel(), x[order], names[y[order]]).predict(new).probs
    torch.testing.assert_close(other[:, names], probs, rtol=0, atol=0.02)


def test_least_squares_is_regression_on_one_hot_targets() -> None:
    x, y, _ = _data(40)
    new = _data(10, 1)[0]
    kernel = _kernel()
    classifier = infinite.LeastSquaresClassifier(kernel, x, y, noise=0.2)
    matrix = kernel.gram(x) + 0.2 * torch.eye(40, dtype=torch.float64)
    mean = kernel.gram(new, x) @ torch.linalg.solve(matrix, torch.eye(3, dtype=torch.float64)[y] - 1 / 3)
    pred = classifier.predict(new)
    torch.testing.assert_close(pred.logit_mean * classifier.temperature, mean, rtol=1e-9, atol=1e-11)
    assert float(classifier.regression.scale) == pytest.approx(1.0)

    left_out = classifier.regression.leave_one_out()

    def loss(temperature: float) -> float:
        softened = bp.evaluation.LogisticNormalPredictive(
            left_out.mean / temperature, left_out.epistemic_variance / temperature**2
        )
        return -float(softened.log_prob(y).mean())

    assert max(loss(1.1 * classifier.temperature), loss(0.9 * classifier.temperature)) > loss(
        classifier.temperature
    )
    assert min(loss(1.1 * classifier.temperature), loss(0.9 * classifier.temperature)) > loss(
        classifier.temperature
    )


def test_dirichlet_is_the_transformed_regression_of_gpytorch() -> None:
    x, y, _ = _data(30)
    new = _data(10, 1)[0]
    kernel, scale = _kernel(), 3.0
    ours = infinite.DirichletClassifier(kernel, x, y, alpha=0.05, scale=scale)
    theirs = gpytorch.likelihoods.DirichletClassificationLikelihood(
        y, alpha_epsilon=0.05, dtype=torch.float64
    )
    torch.testing.assert_close(ours.targets.T, theirs.transformed_targets, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.noise.T, theirs.noise_covar.noise, rtol=1e-12, atol=0)
    pred = ours.predict(new)
    matrix, cross = scale * kernel.gram(x), scale * kernel.gram(new, x)
    total = 0.0
    for c in range(CLASSES):
        covariance = matrix + torch.diag(theirs.noise_covar.noise[c])
        solved = torch.linalg.inv(covariance)
        target = theirs.transformed_targets[c] - ours.prior_mean
        torch.testing.assert_close(
            pred.logit_mean[:, c], ours.prior_mean + cross @ solved @ target, rtol=1e-9, atol=0
        )
        variance = scale * kernel.gram(new).diagonal() - (cross @ solved * cross).sum(1)
        torch.testing.assert_close(pred.logit_variance[:, c], variance, rtol=1e-8, atol=1e-10)
        normal = torch.distributions.MultivariateNormal(torch.zeros(30, dtype=torch.float64), covariance)
        total += float(normal.log_prob(target))
    assert ours.log_marginal_likelihood() == pytest.approx(total, rel=1e-11)
    ours.fit()
    best = ours.log_marginal_likelihood()
    for change in (0.9, 1.1):
        other = infinite.DirichletClassifier(kernel, x, y, alpha=0.05, scale=change * ours.scale)
        assert other.log_marginal_likelihood() < best


class _Latent(gpytorch.models.ApproximateGP):
    def __init__(self, kernel: gpytorch.kernels.Kernel, inducing: Tensor) -> None:
        q = gpytorch.variational.CholeskyVariationalDistribution(
            len(inducing), batch_shape=torch.Size([CLASSES])
        )
        one = gpytorch.variational.VariationalStrategy(
            self, inducing, q, learn_inducing_locations=False, jitter_val=1e-9
        )
        super().__init__(gpytorch.variational.IndependentMultitaskVariationalStrategy(one, num_tasks=CLASSES))
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@pytest.mark.parametrize("count", [3, 24])
def test_softmax_reaches_the_bound_of_gpytorch(count: int) -> None:
    """Our posterior, given to GPyTorch as a starting point, has the same bound there, and its optimiser finds no better one near.

    Its bound is a mean over 40,000 draws of f, with a standard error of about 0.025 nats; six of them are allowed.
    """
    x, y, _ = _data(24)
    kernel = _kernel()
    ours = infinite.SoftmaxClassifier(kernel, x, y, num_inducing=count, scale=2.0).fit(
        learn_scale=False, tolerance=1e-6
    )
    points = torch.arange(24, dtype=torch.float64)[:, None]
    theirs = _Latent(infinite.PrecomputedKernel(2.0 * kernel.gram(x)), points[:count]).double()
    likelihood = gpytorch.likelihoods.SoftmaxLikelihood(num_classes=CLASSES, mixing_weights=False)
    bound = gpytorch.mlls.VariationalELBO(likelihood, theirs, num_data=24)

    def value(draws: int) -> Tensor:
        with warnings.catch_warnings(), gpytorch.settings.num_likelihood_samples(draws):
            warnings.simplefilter("ignore")
            return 24 * bound(theirs(points), y)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs.train()
        start = float(value(40_000).detach())
        base = theirs.variational_strategy.base_variational_strategy
        q = base._variational_distribution
        covariance = torch.cholesky_inverse(ours._posterior.factor)
        with torch.no_grad():
            q.variational_mean.copy_(ours._posterior.mean)
            q.chol_variational_covar.copy_(torch.linalg.cholesky(covariance))
        base.variational_params_initialized.fill_(1)
        reached = float(value(40_000).detach())
        assert ours.bound == pytest.approx(reached, abs=0.15)
        assert start < reached - 5
        optimiser = torch.optim.Adam(theirs.parameters(), lr=0.01)
        for _ in range(60):
            optimiser.zero_grad()
            (-value(50)).backward()
            optimiser.step()
        assert float(value(40_000).detach()) < reached + 0.15


def test_softmax_learns_its_scale() -> None:
    x, y, _ = _data(40)
    kernel = _kernel()
    learnt = infinite.SoftmaxClassifier(kernel, x, y).fit()
    for change in (0.7, 1.4):
        other = infinite.SoftmaxClassifier(kernel, x, y, scale=change * learnt.scale).fit(learn_scale=False)
        assert other.bound < learnt.bound + 0.01


def test_bad_input(as_a_user_meets_it: None) -> None:
    x, y, _ = _data(10)
    kernel = _kernel()
    for make in (infinite.LeastSquaresClassifier, infinite.DirichletClassifier, infinite.SoftmaxClassifier):
        with pytest.raises(TypeError, match=r"use labels.long\(\)"):
            make(kernel, x, y.double())
        for labels, options, message in (
            (y[:5], {}, r"expected \[n, ...\] and \[n\]"),
            (torch.arange(10) % 3 - 1, {}, "labels from 0"),
            (torch.arange(10) % 3, {"num_classes": 2}, "labels from 0 to 2 with 2 classes"),
            (0 * y, {}, "two classes or more"),
        ):
            with pytest.raises(ValueError, match=message):
                make(kernel, x, labels, **options)
        with pytest.raises(ValueError, match="expects 2 features"):
            make(kernel, x[:, :1], y)
    with pytest.raises(ValueError, match="alpha 0"):
        infinite.DirichletClassifier(kernel, x, y, alpha=0.0)
    with pytest.raises(ValueError, match="num_points 0"):
        infinite.DirichletClassifier(kernel, x, y).fit(0)
    with pytest.raises(ValueError, match="num_inducing 11"):
        infinite.SoftmaxClassifier(kernel, x, y, num_inducing=11)
    with pytest.raises(ValueError, match="scale -1"):
        infinite.SoftmaxClassifier(kernel, x, y, scale=-1.0)
    with pytest.raises(ValueError, match="num_steps 0"):
        infinite.SoftmaxClassifier(kernel, x, y).fit(num_steps=0)


def test_factors_are_kept_as_long_as_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only where the memory holds those of all classes; the predictions are the same."""
    kernel, (x, y, _) = _kernel(), _data(30)
    ours = infinite.DirichletClassifier(kernel, x, y)
    first, made = ours.predict(x[:5]), ours._solve
    with monkeypatch.context() as kept:
        kept.setattr(ours, "_solve", lambda *given: pytest.fail("factorised again"))
        assert torch.equal(ours.predict(x[:5]).probs, first.probs)
    for change in (lambda: setattr(ours, "scale", 2.0), lambda: kernel.raw_weight_variance.data.add_(0.1)):
        change()
        new = infinite.DirichletClassifier(kernel, x, y, scale=ours.scale).predict(x[:5])
        assert torch.equal(ours.predict(x[:5]).probs, new.probs)
        assert not torch.equal(new.probs, first.probs)
    calls: list[int] = []
    monkeypatch.setattr(classification, "free_memory", lambda: 1.0)
    monkeypatch.setattr(ours, "_solve", lambda *given: calls.append(given[-1]) or made(*given))
    ours.scale = 1.0
    for _ in range(2):
        ours.predict(x[:5])
    assert calls == 2 * list(range(CLASSES))


def test_a_memory_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, (x, y, _) = _kernel(), _data(30)
    monkeypatch.setattr(factor, "free_memory", lambda: 1.0)
    with pytest.raises(MemoryError, match=r"Dirichlet classification on .*LeastSquaresClassifier"):
        infinite.DirichletClassifier(kernel, x, y).predict(x[:5])


def test_inducing_points_that_depend_on_each_other() -> None:
    """The softmax classifier's matrix has no noise to raise."""
    kernel = infinite.PrecomputedKernel(-torch.eye(6, dtype=torch.float64))
    message = r"not positive definite.*fewer inducing points \(num_inducing\), and no input twice"
    with pytest.raises(ValueError, match=message):
        infinite.SoftmaxClassifier(kernel, torch.arange(6), torch.tensor([0, 1] * 3))
