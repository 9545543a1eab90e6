"""The potential against computations by hand, its gradients, its minibatch estimates, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.func import functional_call

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.posterior import Target
from bnnpriors.programs import Plan
from bnnpriors.streams import Streams
from bnnpriors.tracing import rational_tanh

N, CHAINS = 23, 4
WHOLE = Plan(CHAINS, N, False)


def _net(out: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, out)).double()


def _conv(out: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Unflatten(1, (1, 3)),
            nn.Conv1d(1, 2, 2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(4, out),
        )
        return net.double()


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = _randn(N, 3)
Y = _randn(N, 2, seed=1)
LABELS = torch.arange(N) % 2
FLAT = P.Normal(0.0, 0.7)
HIERARCHY = {
    "*.weight": P.Normal(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0))),
    "*.bias": P.StudentT(3.0, 0.1, P.HalfNormal(1.0), centred=False),
}


class AbsoluteError:
    """A likelihood that is no class of ours and no module."""

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return -(outputs - y).abs().sum(1) - 2 * math.log(2)


CASES: dict[str, tuple[Any, Any, Tensor]] = {
    "gaussian": (FLAT, bp.likelihoods.Gaussian(0.5), Y),
    "learnt": (FLAT, bp.likelihoods.Gaussian(P.HalfCauchy(2.0)), Y),
    "learnt_twice": (HIERARCHY, bp.likelihoods.Gaussian(P.HalfNormal(P.Gamma(2.0, 1.0))), Y),
    "categorical": (HIERARCHY, bp.likelihoods.Categorical(), LABELS),
    "own": (P.Laplace(0.0, 0.5), AbsoluteError(), Y),
    "torch_prior": (torch.distributions.Gamma(2.0, 1.0), bp.likelihoods.Gaussian(0.5), Y),
    "fixed_covariance": (
        {
            "0.weight": torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.5),
            "2.weight": torch.distributions.Uniform(-3.0, 3.0),
            "*": P.Improper(),
        },
        bp.likelihoods.Gaussian(0.5),
        Y,
    ),
}


def _posterior(case: str, net: nn.Module | None = None, **settings: Any) -> bp.Posterior:
    priors, likelihood, y = CASES[case]
    return bp.Posterior(bp.attach(_net() if net is None else net, priors), likelihood, X, y, **settings)


def _theta(posterior: bp.Posterior, chains: int = CHAINS) -> Tensor:
    return 0.4 * _randn(chains, posterior.dim, seed=2)


def _by_hand(
    posterior: bp.Posterior, theta: Tensor, index: Tensor | slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """log likelihoods and log priors, chain by chain, through the model's own methods and plain calls."""
    likelihood, x, y = posterior.likelihood, posterior.data.x[index], posterior.data.y[index]
    fits, priors = [], []
    for row in theta:
        latents = posterior.layout.unpack(row)
        weights, prior = posterior.model.values(latents)
        outputs = functional_call(
            posterior.model.net, {s.name: weights[s.name] for s in posterior.model.sites}, (x,)
        )
        own = {name[len("likelihood.") :]: v for name, v in latents.items() if name.startswith("likelihood.")}
        if own:
            values, above = likelihood.values(own)
            noise = torch.distributions.Normal(outputs, values["scale"])
            fits.append(noise.log_prob(y).sum())
            prior = prior + above
        else:
            fits.append(likelihood.log_prob(outputs, y).sum())
        priors.append(prior)
    return torch.stack(fits), torch.stack(priors)


def test_a_gaussian_posterior_by_scipy() -> None:
    posterior = _posterior("gaussian")
    theta = _theta(posterior)
    expected = []
    for row in theta.numpy():
        w0, b0, w1, b1 = row[:15].reshape(5, 3), row[15:20], row[20:30].reshape(2, 5), row[30:]
        outputs = np.tanh(X.numpy() @ w0.T + b0) @ w1.T + b1
        expected.append(
            scipy.stats.norm(outputs, 0.5).logpdf(Y.numpy()).sum()
            + scipy.stats.norm(0, 0.7).logpdf(row).sum()
        )
    torch.testing.assert_close(posterior.log_density(theta), torch.tensor(expected, dtype=torch.float64))
    assert posterior.layout.names == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert posterior.dim == 32


@pytest.mark.parametrize(
    ("case", "make"),  # patterns of fixed_covariance name the layers of the dense net
    [(case, make) for case in CASES for make in (_net, _conv) if (case, make) != ("fixed_covariance", _conv)],
)
def test_log_density_and_its_gradient(case: str, make: Any) -> None:
    posterior = _posterior(case, make())
    theta = _theta(posterior).requires_grad_()
    fits, priors = _by_hand(posterior, theta)
    expected = fits + priors
    (gradient,) = torch.autograd.grad(expected.sum(), theta)
    plain = theta.detach()
    torch.testing.assert_close(posterior.log_density(plain), expected.detach())
    value, slope = posterior.target(CHAINS, WHOLE).value_and_gradient(plain)
    torch.testing.assert_close(value, -expected.detach())
    torch.testing.assert_close(slope, -gradient)
    density = posterior.log_density(theta)
    torch.testing.assert_close(torch.autograd.grad(density.sum(), theta)[0], gradient)


@pytest.mark.parametrize("case", ["learnt_twice", "categorical"])
def test_gradients_equal_finite_differences(case: str) -> None:
    posterior = _posterior(case)
    target, theta = posterior.target(1, Plan(1, N, False)), _theta(posterior, 1)
    _, gradient = target.value_and_gradient(theta)
    step = 1e-5 * torch.eye(posterior.dim, dtype=torch.float64)
    differences = [(target.potential(theta + e) - target.potential(theta - e)) / 2e-5 for e in step]
    torch.testing.assert_close(gradient[0], torch.cat(differences), rtol=1e-6, atol=1e-7)


def test_temperatures() -> None:
    ladder = (0.1, 1.0)
    for tempering in ("posterior", "likelihood"):
        for temperature in (0.1, ladder):
            posterior = _posterior("learnt", temperature=temperature, tempering=tempering)
            theta = _theta(posterior)
            fits, priors = _by_hand(posterior, theta)
            t = torch.tensor(
                [0.1, 0.1, 1.0, 1.0] if temperature == ladder else 4 * [0.1], dtype=torch.float64
            )
            expected = (fits + priors) / t if tempering == "posterior" else fits / t + priors
            torch.testing.assert_close(posterior.log_density(theta), expected.detach())
            target = posterior.target(CHAINS)
            assert torch.equal(target.temperature, t)
            torch.testing.assert_close(-target.value_and_gradient(theta)[0] / t, expected.detach())


def test_the_prior_alone() -> None:
    posterior = bp.Posterior(bp.attach(_net(), HIERARCHY), temperature=0.5)
    theta = _theta(posterior)
    expected = torch.stack(
        [posterior.model.values(posterior.layout.unpack(row))[1] for row in theta]
    ).detach()
    torch.testing.assert_close(posterior.log_density(theta), expected / 0.5)
    assert posterior.num_data == 0


@pytest.mark.parametrize(
    ("plan", "make"), [(Plan(1, N, False), _net), (Plan(3, 10, False), _net), (Plan(3, 10, False), _conv)]
)
def test_chunks_and_blocks_change_nothing(plan: Plan, make: Any) -> None:
    posterior = _posterior("learnt", make(), temperature=(0.5, 1.0), tempering="likelihood", batch_size=11)
    theta = _theta(posterior)
    whole, parts = posterior.target(CHAINS, WHOLE), posterior.target(CHAINS, plan)
    value, gradient = whole.value_and_gradient(theta)
    part_value, part_gradient = parts.value_and_gradient(theta)
    torch.testing.assert_close(part_value, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part_gradient, gradient, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(parts.potential(theta), value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        parts.gradient_estimate(theta, _streams()),
        whole.gradient_estimate(theta, _streams()),
        rtol=1e-10,
        atol=1e-10,
    )


def _streams(seed: int = 0, chains: int = CHAINS) -> Streams:
    return Streams(seed, [(0, k) for k in range(chains)], dtype=torch.float64, device=torch.device("cpu"))


def test_a_minibatch_gradient_by_hand() -> None:
    """ĝ = −(N/B) Σ_batch ∇ log p(y|x,θ) − ∇ log p(θ), a batch of its own for each chain."""
    posterior = _posterior("learnt_twice", batch_size=5)
    theta = _theta(posterior).requires_grad_()
    index = _streams().integers(N, 5)
    assert len({tuple(row.tolist()) for row in index}) == CHAINS
    total = 0.0
    for chain in range(CHAINS):
        fit, prior = _by_hand(posterior, theta[chain : chain + 1], index[chain])
        total = total - N / 5 * fit.sum() - prior.sum()
    expected = torch.autograd.grad(total, theta)[0]
    estimate = posterior.target(CHAINS, WHOLE).gradient_estimate(theta.detach(), _streams())
    torch.testing.assert_close(estimate, expected)


def _unbiased(target: Target, theta: Tensor, exact: Tensor, draws: int) -> bool:
    """Whether the mean of `draws` estimates lies within 6.2 standard errors of `exact` in each of its 35 coordinates.

    False-alarm rate 35 · 6e-10 < 1e-6 for the nearly normal mean of `draws` estimates. Each chain has the same θ.
    """
    streams = _streams(chains=theta.shape[0])
    estimates = torch.cat([target.gradient_estimate(theta, streams) for _ in range(draws // theta.shape[0])])
    error = (estimates.mean(0) - exact) / (estimates.std(0) / math.sqrt(len(estimates)))
    return bool((error.abs() < 6.2).all())


def test_minibatch_gradients_are_unbiased_and_a_wrong_scale_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    chains = 250
    plan = Plan(chains, N, False)
    posterior = _posterior("learnt", batch_size=4)
    assert posterior.dim < 35
    theta = _theta(posterior, 1).repeat(chains, 1)
    target = posterior.target(chains, plan)
    exact = target.value_and_gradient(theta)[1][0]
    assert _unbiased(target, theta, exact, 10_000)
    original = bp.Posterior.potential

    def wrongly_scaled(self: bp.Posterior, *args: Any, scale: float, **rest: Any) -> Tensor:
        return original(self, *args, scale=scale / 1.15, **rest)

    monkeypatch.setattr(bp.Posterior, "potential", wrongly_scaled)
    assert not _unbiased(_posterior("learnt", batch_size=4).target(chains, plan), theta, exact, 10_000)


def test_without_a_batch_size_the_estimate_is_exact() -> None:
    for batch_size in (None, N):
        posterior = _posterior("gaussian", batch_size=batch_size)
        target, theta = posterior.target(CHAINS, WHOLE), _theta(posterior)
        assert torch.equal(target.gradient_estimate(theta, _streams()), target.value_and_gradient(theta)[1])


class InPlace(nn.Module):
    """Writes to a tensor of its own making, which a program that keeps constants must not turn into a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(x), 1, dtype=x.dtype)
        total += x.sum(1, keepdim=True)
        return self.layer(x) + total


def test_repeated_calls_agree_where_the_network_works_in_place() -> None:
    posterior = _posterior("gaussian", InPlace().double())
    target, theta = posterior.target(CHAINS, WHOLE), _theta(posterior)
    first = target.value_and_gradient(theta)
    fits, priors = _by_hand(posterior, theta)
    for value, gradient in (target.value_and_gradient(theta), target.value_and_gradient(theta)):
        torch.testing.assert_close(value, -(fits + priors).detach())
        assert torch.equal(gradient, first[1])


def test_networks_with_control_flow_on_data_run_untraced() -> None:
    class Branch(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if bool((x.sum() > -1e9).item()) else x

    posterior = _posterior("gaussian", Branch(3, 2).double())
    theta = _theta(posterior)
    fits, priors = _by_hand(posterior, theta)
    torch.testing.assert_close(posterior.log_density(theta), (fits + priors).detach())


@pytest.mark.slow
def test_compiled_programs_equal_traced_ones() -> None:
    """In float32, where compiling also replaces tanh; tolerances are a few units of its rounding."""
    posterior = bp.Posterior(bp.attach(_net().float(), HIERARCHY), CASES["learnt"][1], X, Y)
    theta = _theta(posterior).float()
    value, gradient = posterior.target(CHAINS, WHOLE).value_and_gradient(theta)
    compiled, slope = posterior.target(CHAINS, Plan(CHAINS, N, True)).value_and_gradient(theta)
    torch.testing.assert_close(compiled, value, rtol=2e-6, atol=1e-4)
    torch.testing.assert_close(slope, gradient, rtol=1e-5, atol=1e-4)


def test_the_rational_tanh() -> None:
    x = torch.linspace(-12, 12, 200_001)
    assert (rational_tanh(x).double() - x.double().tanh()).abs().max() < 4e-7


def test_arrays_and_other_dtypes_are_taken() -> None:
    posterior = _posterior("gaussian")
    other = bp.Posterior(posterior.model, posterior.likelihood, X.numpy(), Y.tolist())
    assert torch.equal(other.data.x, X)
    single = bp.Posterior(bp.attach(_net().float(), FLAT), bp.likelihoods.Gaussian(0.5), X, Y)
    assert single.data.x.dtype == single.data.y.dtype == torch.float32
    theta = _theta(posterior)
    torch.testing.assert_close(other.log_density(theta), posterior.log_density(theta))
    torch.testing.assert_close(
        single.log_density(theta.float()), posterior.log_density(theta), rtol=1e-4, atol=1e-4
    )
    assert single.target(CHAINS, WHOLE).value_and_gradient(theta.float())[1].dtype == torch.float32


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_later_changes_to_the_users_data_change_nothing(kind: Any) -> None:
    x, y = kind(X.tolist()), kind(Y.tolist())
    model = bp.attach(_net().to(torch.as_tensor(x).dtype), P.Normal())
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(), x, y)
    theta = posterior.sample_prior(torch.Generator().manual_seed(0))[None]
    before = posterior.log_density(theta)
    x *= 5
    y *= 5
    assert torch.equal(posterior.log_density(theta), before)


@pytest.mark.gpu
@pytest.mark.parametrize("make", [_net, _conv])
def test_an_accelerator_gives_the_same_potential(make: Any) -> None:
    priors, likelihood, y = CASES["learnt_twice"]
    here = bp.Posterior(bp.attach(make(), priors), likelihood, X, y)
    there = bp.Posterior(bp.attach(make().cuda(), priors), likelihood, X, y)
    theta = _theta(here)
    value, gradient = here.target(CHAINS).value_and_gradient(theta)
    other, slope = there.target(CHAINS).value_and_gradient(theta.cuda())
    torch.testing.assert_close(other.cpu(), value)
    torch.testing.assert_close(slope.cpu(), gradient)


@pytest.mark.parametrize("case", ["learnt_twice", "torch_prior"])
def test_prior_draws_and_present_latents_are_flat(case: str) -> None:
    posterior = _posterior(case)
    first = posterior.sample_prior(torch.Generator().manual_seed(0))
    again = posterior.sample_prior(torch.Generator().manual_seed(0))
    assert first.shape == (posterior.dim,)
    assert torch.equal(first, again)
    assert bool(posterior.log_density(first[None]).isfinite())
    present = posterior.layout.unpack(posterior.current())
    for name, value in posterior.model.latents().items():
        assert torch.equal(present[name], value)
    values = posterior.values(first)
    weights = posterior.model.weights(posterior.layout.unpack(first))
    assert all(torch.equal(values[name], weights[name]) for name in weights)
    if case == "learnt_twice":
        torch.testing.assert_close(
            values["likelihood.scale"], posterior.layout.unpack(first)["likelihood.scale"].exp()
        )
