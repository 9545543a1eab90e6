"""Function-space inference of networks that are not linear, of classes, and near the infinite limit."""

from __future__ import annotations

import math
import warnings

import gpytorch
import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import Box, FullRank, FunctionSpace, Gaussian, MeanField, functional_kl

from .function_space import divergence, network, wave


def test_the_linearised_law_is_that_of_narrow_draws() -> None:
    """20,000 draws of standard deviation 0.001: the covariance of three outputs at two points to 6 standard errors."""
    posterior = bp.Posterior(
        network(10, nn.Tanh(), 3), bp.likelihoods.Categorical(), wave()[0], torch.arange(12) % 3
    )
    q = FullRank(posterior, scale=1e-3)
    fit = FunctionSpace(posterior, prior=bp.infinite.kernel(posterior.model), jitter=0.1, family=q)
    x = wave()[0][:2]
    law = fit.law(x)
    outputs = posterior.outputs(q.sample(20_000), x)
    values = torch.cat([outputs[..., k] for k in range(3)], 1)  # the points of the first output first
    covariance, spread = law.covariance.detach(), law.covariance.detach().diagonal().sqrt()
    errors = 6 * math.sqrt(2 / 20_000) * spread[:, None] * spread
    assert bool(((values.mT.cov() - covariance).abs() < errors).all())
    assert bool(((values.mean(0) - law.mean.detach()).abs() < 6 * spread / math.sqrt(20_000) + 1e-5).all())


def test_classes_have_independent_processes() -> None:
    """The divergence of a diagonal q of a linear network is the sum over its outputs."""
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = bp.attach(nn.Linear(2, 3, bias=False).double(), P.Normal(0.0, 1.0))
    posterior = bp.Posterior(model, bp.likelihoods.Categorical(), x, torch.arange(7) % 3)
    kernel = gpytorch.kernels.RBFKernel()
    fit = FunctionSpace(posterior, prior=kernel, jitter=0.1, family=MeanField(posterior, scale=0.5))
    process = Gaussian(torch.zeros(7).double(), kernel(x).to_dense().detach())
    total = torch.zeros(()).double()
    for row in fit.q.loc.detach().view(3, 2):
        total += functional_kl(Gaussian(row, 0.25 * torch.eye(2).double()).image(x), process, jitter=0.1)
    assert divergence(fit, x) == pytest.approx(float(total), rel=1e-9)


def test_images_and_classes_in_float32_with_minibatches_of_both() -> None:
    """A convolution and three classes: L rises, by either estimator, against the infinite limit."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 1, 4, 4, generator=generator), torch.arange(30) % 3
    x = x + y[:, None, None, None]
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    model = bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(gain=2**0.5)), "*.bias": P.Normal(0.0, 1.0)})
    posterior = bp.Posterior(model, bp.likelihoods.Categorical(), x, y, batch_size=10)
    kernel = bp.infinite.kernel(model)
    box = Box(-2.0, 4.0, 3, shape=(1, 4, 4))
    for estimator in ("closed form", "ssge"):
        fit = FunctionSpace(
            posterior, prior=kernel, jitter=0.1, measurement=["minibatch", box], estimator=estimator
        )
        fit.fit(num_steps=60, learning_rate=0.03, num_draws=20, progress=False)
        assert fit.history[-1].value > fit.history[0].value + 5, estimator
        assert fit.predict(x, num_draws=5).probs.shape == (30, 3)


@pytest.mark.parametrize("tempering", ["posterior", "likelihood"])
def test_the_step_has_the_gradient_of_the_bound_at_every_temperature(tempering: str) -> None:
    """Minibatches of four with the likelihood scaled by N/B: means over 200 steps to 6 standard errors."""
    x, y = wave()
    posterior = bp.Posterior(
        network(10, nn.Tanh()),
        bp.likelihoods.Gaussian(0.5),
        x,
        y,
        temperature=0.5,
        tempering=tempering,
        batch_size=4,
    )
    kernel = bp.infinite.kernel(posterior.model)
    fit = FunctionSpace(posterior, prior=kernel, jitter=0.1, family=MeanField(posterior, scale=0.1))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        each = torch.stack([fit._objective(2, generator) for _ in range(200)])
    found = fit.bound(num_draws=4000)
    assert float(each.mean()) == pytest.approx(
        found.value, abs=6 * math.hypot(float(each.std()) / math.sqrt(200), found.error)
    )
    scale = 0.5 if tempering == "posterior" else 1.0
    process = Gaussian(torch.zeros(12).double(), scale * kernel.gram(x))
    expected = functional_kl(fit.law(x), process, jitter=0.1)
    assert divergence(fit, x) == pytest.approx(float(expected), rel=1e-9)


def test_few_points_for_many_data_are_warned_of() -> None:
    """Four points for twelve data and 31 weights: q is too sure. Not where the points are all, or as many as weights."""
    posterior = bp.Posterior(network(10, nn.Tanh()), bp.likelihoods.Gaussian(0.5), *wave())
    given = {"prior": bp.infinite.kernel(posterior.model), "jitter": 0.1}
    few = FunctionSpace(posterior, measurement=posterior.data.x[::3], **given)
    with pytest.warns(
        UserWarning, match=r"4 measurement points for 12 training inputs and 31 latents .*over-fits"
    ):
        few.fit(num_steps=1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FunctionSpace(posterior, **given).fit(num_steps=1, progress=False)
        FunctionSpace(posterior, measurement=Box(-2.0, 2.0, 40), **given).fit(num_steps=1, progress=False)


def test_a_jitter_that_is_not_small_against_the_noise_is_warned_of() -> None:
    """The divergence falls, and L rises, with the jitter: noisy values are nearer each other (data processing)."""
    posterior = bp.Posterior(network(10, nn.Tanh()), bp.likelihoods.Gaussian(0.2), *wave())
    kernel, q = bp.infinite.kernel(posterior.model), MeanField(posterior, scale=0.3)
    values = [
        FunctionSpace(posterior, prior=kernel, jitter=jitter, family=q).bound().value
        for jitter in (0.01, 0.05, 0.2)
    ]
    assert values == sorted(values)
    fit = FunctionSpace(posterior, prior=kernel, jitter=0.1, family=q)
    with pytest.warns(UserWarning, match=r"jitter 0.1 for observations whose noise is 0.2: .* 0.05 or less"):
        fit.fit(num_steps=1, progress=False)


def test_a_wide_network_comes_near_its_own_infinite_limit() -> None:
    """With the kernel of infinite width: nearer the evidence of the process, and its predictions, than a narrow one."""
    x, y = wave(6)
    grid = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)[:, None]
    points = torch.cat([x, torch.linspace(-2.4, 2.4, 7, dtype=torch.float64)[:, None]])
    gaps, misses = [], []
    for width in (4, 60):
        posterior = bp.Posterior(network(width, nn.ReLU()), bp.likelihoods.Gaussian(0.2), x, y)
        kernel = bp.infinite.kernel(posterior.model)
        process = bp.infinite.GPRegression(kernel, x, y, noise=0.04)
        q = FullRank(posterior, scale=0.02)
        fit = FunctionSpace(posterior, prior=kernel, jitter=0.05, measurement=points, family=q)
        fit.fit(num_steps=300, learning_rate=0.02, num_draws=4, progress=False)
        gaps.append(float(process.log_marginal_likelihood().detach()) - fit.bound().value)
        exact, found = process.predict(grid), fit.predict(grid)
        misses.append(float(((found.mean - exact.mean) / exact.epistemic_variance.sqrt()).square().mean()))
    assert 0 < gaps[1] < 0.5 * gaps[0]
    assert misses[1] < 0.1 < 0.1 * misses[0]
