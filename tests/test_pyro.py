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
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return bp.Posterior(
        bp.attach(net, PRIORS[prior]), LIKELIHOODS[likelihood][0], X, LIKELIHOODS[likelihood][1]
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("prior", PRIORS)
def test_the_potential_in_unconstrained_space_is_ours(prior: str, likelihood: str) -> None:
    posterior = _posterior(prior, likelihood)
    model = posterior.model.to_pyro(LIKELIHOODS[likelihood][0])
    initial, potential, _, _ = initialize_model(model, (X, LIKELIHOODS[likelihood][1]))
    centred = {site.name for site in posterior.model.sites if site.prior.centred}
    names = {
        name: name if name in centred or name not in posterior.model.weights() else f"{name}.standard"
        for name in posterior.layout.names
    }
    assert set(names.values()) == set(initial)
    for seed in range(3):
        theta = 0.5 * torch.randn(
            1, posterior.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        latents = posterior.layout.unpack(theta[0])
        ours = -posterior.log_density(theta).item()
        theirs = potential({names[name]: value for name, value in latents.items()})
        assert theirs.item() == pytest.approx(ours, rel=1e-9)


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
