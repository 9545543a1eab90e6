"""The Pyro model has the same density in the same latents, and Pyro's own samplers run on it."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.poutine
import pytest
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P

X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PRIORS: dict[str, Any] = {
    "centred": P.StudentT(3.0, 0.0, 0.7),
    "hierarchical": P.Normal(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0))),
    "non_centred": P.Laplace(0.2, P.HalfNormal(1.0), centred=False),
    "positive": P.HalfNormal(P.Gamma(2.0, 1.0)),
    "families": {
        "0.weight": P.Logistic(
            0.0, P.InverseGamma(3.0, P.LogNormal(), centred=False).per("input"), matched="variance"
        ),
        "0.bias": P.GeneralizedNormal(0.1, 0.5, P.Gamma(3.0, 2.0)),
        "2.weight": P.Cauchy(0.0, P.LogNormal(P.Normal(), 0.5, centred=False).per("output"), centred=False),
        "*": P.Uniform(-2.0, 3.0),
    },
    "shared": {
        "2.weight": P.Normal(0.0, P.HalfCauchy(P.HalfCauchy().shared("tau")).per("input").shared("unit")),
        "0.*": P.Normal(
            0.0, P.HalfCauchy(P.HalfCauchy().shared("tau")).per("output").shared("unit"), centred=False
        ),
        "*": P.Normal(0.0, P.HalfCauchy().shared("tau")),
    },
    "horseshoe": {"0.*": P.RegularizedHorseshoe(0.5), "*": P.Horseshoe(0.5, groups="output")},
    "mixture": {
        "0.weight": P.Mixture(
            [P.Laplace(), P.Normal(0.0, P.HalfNormal())], P.Dirichlet(P.Gamma()).per("output")
        ),
        "*": P.ScaleMixture((0.1, 1.0), P.Dirichlet(), selection="tensor"),
    },
    "matrix": {
        "0.weight": P.MatrixNormal(P.HalfNormal().per("input"), centred=False),
        "2.weight": P.MatrixNormal(0.5, torch.eye(4) + 0.5, P.LKJCholesky(P.Gamma())),
        "*": P.Normal(),
    },
    "joint": {
        ("0.*",): P.Normal(0.0, P.HalfCauchy(), centred=False),
        ("2.weight", "2.bias"): torch.distributions.MultivariateNormal(torch.zeros(10), torch.eye(10) + 0.5),
    },
    "correlated": {
        "1.weight": P.CorrelatedNormal(P.HalfNormal(), "matern32", P.Gamma().per("output")),
        "*": P.Normal(),
    },
    "correlated_non_centred": {
        "1.weight": P.CorrelatedStudentT(P.Gamma(), 0.5, "rbf", P.Gamma(), centred=False),
        "*": P.Normal(),
    },
    "torch": {
        "0.weight": torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.5),
        "2.weight": torch.distributions.Gamma(2.0, 1.0),
        "*": torch.distributions.Uniform(-2.0, 2.0),
    },
}
LIKELIHOODS: dict[str, tuple[Any, Tensor]] = {
    "gaussian": (bp.likelihoods.Gaussian(0.5), Y),
    "learnt": (bp.likelihoods.Gaussian(P.HalfCauchy(P.Gamma(2.0, 1.0))), Y),
    "categorical": (bp.likelihoods.Categorical(), torch.arange(9) % 2),
}


@pytest.fixture(autouse=True)
def _isolated_rng():
    with torch.random.fork_rng():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        yield


def _posterior(prior: str, likelihood: str) -> bp.Posterior:
    net: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    if prior.startswith("correlated"):
        net = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 2))
    net = net.double()
    return bp.Posterior(
        bp.attach(net, PRIORS[prior]), LIKELIHOODS[likelihood][0], X, LIKELIHOODS[likelihood][1]
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("prior", PRIORS)
def test_the_potential_in_unconstrained_space_is_ours(prior: str, likelihood: str) -> None:
    posterior = _posterior(prior, likelihood)
    model = posterior.model.to_pyro(LIKELIHOODS[likelihood][0])
    initial, potential, _, _ = initialize_model(model, (X, LIKELIHOODS[likelihood][1]))
    own = [(site, "") for site in posterior.model.sites]
    own += [(site, "likelihood.") for site in getattr(posterior.likelihood, "sites", ())]
    parts = [(part, prefix) for site, prefix in own for part in site.walk()]
    for seed in range(3):
        theta = 0.5 * torch.randn(
            1, posterior.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        latents = posterior.layout.unpack(theta[0])
        given = {}
        for part, prefix in parts:
            ours = {name: latents[prefix + name] for name in part.members}
            given[f"{prefix}{part.name}{'' if part.prior.centred else '.standard'}"] = part.join(ours)
        assert set(given) == set(initial)
        assert potential(given).item() == pytest.approx(-posterior.log_density(theta).item(), rel=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
def test_traces_hold_the_weights(prior: str) -> None:
    posterior = _posterior(prior, "learnt")
    model = posterior.model.to_pyro(posterior.likelihood)
    pyro.set_rng_seed(0)
    trace = pyro.poutine.trace(model).get_trace(X, Y)
    weights = {name: trace.nodes[name]["value"] for name in posterior.model.weights()}
    outputs = trace.nodes["_RETURN"]["value"]
    torch.testing.assert_close(outputs, torch.func.functional_call(posterior.model.net, weights, (X,)))
    assert bool(trace.log_prob_sum().isfinite())
    assert {"likelihood.scale", "likelihood.scale.scale"} <= set(trace.nodes)
    pyro.set_rng_seed(0)
    again = pyro.poutine.trace(model).get_trace(X, Y)
    assert all(torch.equal(again.nodes[name]["value"], value) for name, value in weights.items())


def test_without_data_the_model_samples_the_prior() -> None:
    posterior = _posterior("hierarchical", "gaussian")
    values = posterior.model.to_pyro()()
    assert set(values) == set(posterior.model.latents())
    assert posterior.model.to_pyro()(X).shape == (9, 2)
    with pytest.raises(ValueError, match=r"y given without a likelihood; use model\.to_pyro\(likelihood\)"):
        posterior.model.to_pyro()(X, Y)


@pytest.mark.parametrize("prior", ["hierarchical", "non_centred"])
def test_nuts_runs(prior: str) -> None:
    posterior = _posterior(prior, "learnt")
    before = posterior.current()
    kernel = NUTS(posterior.model.to_pyro(posterior.likelihood), max_tree_depth=3)
    run = MCMC(kernel, num_samples=3, warmup_steps=3, disable_progbar=True)
    run.run(X, Y)
    draws = run.get_samples()
    assert draws["likelihood.scale"].shape == (3,)
    assert bool((draws["likelihood.scale"] > 0).all())
    assert all(bool(value.isfinite().all()) for value in draws.values())
    assert torch.equal(posterior.current(), before)


def test_a_user_prior_in_pyro_is_drawn_one_sample_at_a_time() -> None:
    from bnnpriors.pyro_bridge import PriorDistribution

    distribution = PriorDistribution(P.Normal(), (2,), torch.zeros(1))
    with pytest.raises(ValueError, match=r"draw in a loop or under pyro\.plate"):
        distribution.sample(torch.Size([3]))
