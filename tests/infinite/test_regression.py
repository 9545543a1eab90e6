"""Exact regression against the formulas written out, GPyTorch's own, and the finite network that it is the limit of."""

import math
import warnings

import gpytorch
import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite

P = bp.priors
NOISE = 0.3


def _model(width: int = 2) -> bp.BayesianModule:
    net = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1)).double()
    return bp.attach(net, {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.4)})


def _data(count: int = 12, outputs: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(count + 5, 3 + outputs, generator=generator, dtype=torch.float64)
    return draw[:count, :3], draw[:count, 3:], draw[count:, :3]


def _gp(**options: float) -> infinite.GPRegression:
    x, y, _ = _data()
    return infinite.GPRegression(infinite.kernel(_model()), x, y, **{"noise": NOISE, **options})


def test_predictions_and_likelihood_are_those_of_the_joint_normal() -> None:
    x, y, new = _data()
    gp = _gp()
    matrix = gp.kernel.gram(torch.cat([x, new]))
    train = matrix[:12, :12] + NOISE * torch.eye(12, dtype=torch.float64)
    solved = torch.linalg.inv(train)
    cross = matrix[12:, :12]
    pred = gp.predict(new)
    torch.testing.assert_close(pred.mean, cross @ solved @ y, rtol=1e-9, atol=1e-12)
    epistemic = (matrix[12:, 12:] - cross @ solved @ cross.T).diagonal()[:, None].expand(5, 2)
    torch.testing.assert_close(pred.epistemic_variance, epistemic, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pred.aleatoric_variance, torch.full((5, 2), NOISE, dtype=torch.float64))
    normal = torch.distributions.MultivariateNormal(torch.zeros(12, dtype=torch.float64), train)
    expected = normal.log_prob(y.T).sum()
    torch.testing.assert_close(gp.log_marginal_likelihood().detach(), expected, rtol=1e-12, atol=0)
    assert gp.jitter == 0.0
    metrics = bp.evaluate(pred, torch.zeros(5, 2), ood=gp.predict(10 * new))
    assert metrics["auroc_ood"] > 0.9


def test_gpytorch_agrees() -> None:
    x, y, new = _data(outputs=1)

    class Exact(gpytorch.models.ExactGP):
        def __init__(
            self, kernel: gpytorch.kernels.Kernel, likelihood: gpytorch.likelihoods.Likelihood
        ) -> None:
            super().__init__(x, y[:, 0], likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

        def forward(self, rows: Tensor) -> gpytorch.distributions.MultivariateNormal:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(rows), self.covar_module(rows))

    ours = infinite.GPRegression(infinite.kernel(_model()), x, y[:, 0], noise=NOISE)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = torch.tensor(NOISE, dtype=torch.float64)
    theirs = Exact(ours.kernel, likelihood)
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, theirs)
    theirs.train()
    torch.testing.assert_close(
        12 * mll(theirs(x), y[:, 0]), ours.log_marginal_likelihood(), rtol=1e-9, atol=0
    )
    theirs.eval()
    likelihood.eval()
    with torch.no_grad():
        predicted = likelihood(theirs(new))
    torch.testing.assert_close(predicted.mean, ours.predict(new).mean[:, 0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(predicted.variance, ours.predict(new).variance[:, 0], rtol=1e-7, atol=1e-9)


def test_the_gradient_of_the_marginal_likelihood() -> None:
    gp = _gp(scale=1.3)
    gp.raw_scale.requires_grad_(True)
    gp.log_marginal_likelihood().backward()
    for parameter in gp.parameters():
        if not parameter.numel():
            continue
        for index in range(parameter.numel()):
            flat = parameter.detach().view(-1)
            ends = []
            for step in (1e-5, -1e-5):
                flat[index] += step
                ends.append(float(gp.log_marginal_likelihood().detach()))
                flat[index] -= step
            slope = float(parameter.grad.view(-1)[index])  # type: ignore[union-attr]
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7)


def test_fit_climbs_and_predictions_follow() -> None:
    x, _, new = _data(40)
    y = torch.relu(2 * x[:, :1])
    gp = infinite.GPRegression(infinite.kernel(_model()), x, y, noise=1.0)
    before, mean = float(gp.log_marginal_likelihood().detach()), gp.predict(new).mean
    assert gp.fit(30) is gp
    assert float(gp.log_marginal_likelihood().detach()) > before + 40
    assert gp.noise.item() < 0.05
    assert not torch.allclose(gp.predict(new).mean, mean)
    assert float((gp.predict(new).mean - torch.relu(2 * new[:, :1])).abs().max()) < 0.5
    gp.kernel.requires_grad_(False)
    gp.raw_noise.requires_grad_(False)
    with pytest.raises(ValueError, match="0 parameters"):
        gp.fit()


def test_a_fit_that_ends_on_a_slope_says_so() -> None:
    """Of one parameter, whose maximum few steps find; and not at the maximum."""
    x, y, _ = _data(40)
    gp = infinite.GPRegression(infinite.kernel(_model()), x, y, noise=100.0)
    gp.kernel.requires_grad_(False)
    with pytest.warns(
        UserWarning, match=r"after 1 steps the log marginal likelihood still rises by .* raise num_steps"
    ):
        gp.fit(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gp.fit(50)


def test_equal_rows_need_a_jitter_that_is_reported() -> None:
    x, y, _ = _data()
    gp = infinite.GPRegression(infinite.kernel(_model()), torch.cat([x, x]), torch.cat([y, y]), noise=1e-30)
    scale = float(gp.kernel.variance(x).mean())
    assert 0 < gp.jitter < 1e-8 * scale
    assert bool(gp.predict(x).mean.isfinite().all())


def test_the_posterior_of_a_wide_network_by_importance_sampling() -> None:
    """The posterior mean of the GP against that of a network of width 256, by self-normalised weights p(y | f) on draws from
    its prior; with 2,000 draws its standard error is estimated from the weights, and six of them allowed (1e-8 for 5 points).
    """
    x, y, new = _data(4, outputs=1)
    wide, generator = _model(256), torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = [wide.sample_prior_(generator=generator)(torch.cat([x, new]))[:, 0] for _ in range(2000)]
    f = torch.stack(outputs)
    weights = torch.softmax(-0.5 * (f[:, :4] - y[:, 0]).square().sum(1) / NOISE, 0)
    mean = weights @ f[:, 4:]
    error = (weights[:, None] ** 2 * (f[:, 4:] - mean) ** 2).sum(0).sqrt()
    gp = infinite.GPRegression(infinite.kernel(_model()), x, y, noise=NOISE)
    assert float(error.max()) < 0.2
    assert bool(((gp.predict(new).mean[:, 0] - mean).abs() < 6 * error).all())


def test_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gp, (_, _, new) = _gp(), _data()
    whole = gp.predict(new)
    monkeypatch.setattr("bnnpriors.infinite.factor.ROWS", 2)
    torch.testing.assert_close(gp.predict(new).mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(gp.predict(new).variance, whole.variance, rtol=1e-12, atol=0)
    assert gp.predict(new[:0]).num_points == 0


def test_bad_input(as_a_user_meets_it: None) -> None:
    x, y, _ = _data()
    kernel = infinite.kernel(_model())
    for bad, message in (
        ((x, y[:3], 0.1), "expected"),
        ((x, y, 0.0), "expected a positive variance"),
        ((x, y / 0, 0.1), "NaN"),
        ((x[:0], y[:0], 0.1), "expected"),
        ((x[:, :2], y, 0.1), "expects 3 features"),
    ):
        with pytest.raises(ValueError, match=message):
            infinite.GPRegression(kernel, bad[0], bad[1], noise=bad[2])
    with pytest.raises(ValueError, match="expected one shape and dtype"):
        _gp().predict(x[:, :2])
    with pytest.raises(ValueError, match="num_steps 0"):
        _gp().fit(0)


def test_a_normal_predictive() -> None:
    """Against torch.distributions.Normal, and its refusals."""
    mean = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
    pred = bp.evaluation.GaussianPredictive(
        mean, torch.tensor([[0.5], [1.0], [0.0]]).double(), torch.tensor(0.25).double()
    )
    normal = torch.distributions.Normal(mean, pred.variance.sqrt())
    y = mean + 0.7
    torch.testing.assert_close(pred.log_prob(y), normal.log_prob(y).sum(-1))
    torch.testing.assert_close(pred.cdf(y), normal.cdf(y))
    torch.testing.assert_close(pred.quantile(0.3), normal.icdf(torch.full_like(mean, 0.3)))
    low, high = pred.interval(0.95)
    torch.testing.assert_close(high - low, 2 * 1.959963984540054 * pred.variance.sqrt())
    assert pred.kind == "regression"
    for bad in (math.nan, -0.1):
        with pytest.raises(ValueError, match="variances"):
            bp.evaluation.GaussianPredictive(
                mean, torch.full((3, 2), bad).double(), torch.tensor(0.05).double()
            )
    with pytest.raises(ValueError, match="positive sum"):
        bp.evaluation.GaussianPredictive(mean, torch.zeros(3, 2).double(), torch.tensor(0.0).double())
    with pytest.raises(ValueError, match="between 0 and 1"):
        pred.quantile(1.0)
