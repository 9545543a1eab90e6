"""One prior on several tensors: a tuple of patterns as the key of `attach`."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import scipy.stats
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()


FACTOR = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double()
COVARIANCE = FACTOR @ FACTOR.T / 9 + torch.eye(9).double()


def _model(layer: Any) -> bp.BayesianModule:
    return bp.attach(_net(), {("0.weight", "0.bias"): layer, "*": P.Normal()})


def test_a_joint_distribution_over_a_layer() -> None:
    model = _model(torch.distributions.MultivariateNormal(torch.zeros(9).double(), COVARIANCE))
    assert list(model.latents()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert str(model.named_priors()["0.bias"]).startswith("Distribution(MultivariateNormal")
    weights = model.weights()
    flat = torch.cat([weights["0.weight"].flatten(), weights["0.bias"]]).detach().numpy()
    expected = scipy.stats.multivariate_normal([0.0] * 9, COVARIANCE.numpy()).logpdf(flat)
    expected += sum(
        scipy.stats.norm.logpdf(weights[n].detach().numpy()).sum() for n in ("2.weight", "2.bias")
    )
    assert model.log_prior().item() == pytest.approx(expected, abs=1e-9)
    posterior = bp.Posterior(model)
    theta = torch.stack([posterior.sample_prior(torch.Generator().manual_seed(seed)) for seed in range(3)])
    each = torch.stack([model.log_prior(posterior.layout.unpack(row)) for row in theta])
    torch.testing.assert_close(posterior.log_density(theta), each)


def test_draws_have_the_joint_law() -> None:
    """2000 draws, whitened: every one of the nine coordinates is standard normal."""
    model = _model(torch.distributions.MultivariateNormal(torch.zeros(9).double(), COVARIANCE))
    generator = torch.Generator().manual_seed(0)
    rows = [model.sample_prior(generator) for _ in range(2000)]
    flat = torch.stack([torch.cat([row["0.weight"].flatten(), row["0.bias"]]) for row in rows])
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(COVARIANCE), flat.T, upper=False)
    for coordinate in white:
        assert scipy.stats.kstest(coordinate.numpy(), scipy.stats.norm.cdf).pvalue > ALARM


@pytest.mark.parametrize("centred", [True, False])
def test_a_whole_module_with_one_hyperparameter(centred: bool) -> None:
    net = _net()
    x = torch.ones(4, 2).double()
    expected = net(x)
    model = bp.attach(net, {("*",): P.Laplace(0.0, P.HalfNormal(1.0), centred=centred)})
    torch.testing.assert_close(model(x), expected)
    assert list(model.hyper) == ["joint/*/scale"]
    model.sample_prior_(torch.Generator().manual_seed(0))
    values, density = model.values()
    s = values["joint.*.scale"]
    wanted = scipy.stats.halfnorm.logpdf(s.item()) + s.log().item()
    for name, latent in model.latents().items():
        if not name.startswith("joint"):
            law = scipy.stats.laplace(0.0, s.item() if centred else 1.0)
            wanted += law.logpdf(latent.detach().numpy()).sum()
            torch.testing.assert_close(values[name], latent if centred else s * latent)
    assert density.item() == pytest.approx(wanted, abs=1e-9)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)
    other = bp.attach(_net(), {("*",): P.Laplace(0.0, P.HalfNormal(1.0), centred=centred)})
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)
    torch.testing.assert_close(model.export()(x), model(x))


def test_sampling_keeps_the_tensors_apart() -> None:
    posterior = bp.Posterior(_model(P.Horseshoe(0.3)))
    draws = bp.sample(
        posterior,
        bp.samplers.HMC(step_size=0.05, num_steps=3),
        num_samples=3,
        num_warmup=0,
        num_chains=2,
        seed=0,
    )
    assert draws["0.weight"].shape == (2, 3, 3, 2)
    assert draws["0.bias"].shape == (2, 3, 3)
    assert math.isfinite(draws.stats["potential"].sum().item())


def test_order_fixed_parameters_and_refusals() -> None:
    model = bp.attach(
        _net(), {("2.*",): P.Fixed(), "0.bias": P.Cauchy(), ("*.weight", "*.bias"): P.Laplace()}
    )
    kinds = {name: type(prior).__name__ for name, prior in model.named_priors().items()}
    assert kinds == {"0.weight": "Laplace", "0.bias": "Cauchy"}
    with pytest.raises(ValueError, match=r"no parameter matches \['3\.\*'\]"):
        bp.attach(_net(), {("2.*", "3.*"): P.Normal(), "*": P.Normal()})
    with pytest.raises(ValueError, match=r"attach: joint\.0\.\*\+2\.bias \(10,\): fan_in has no meaning"):
        bp.attach(_net(), {("0.*", "2.bias"): P.Normal(0.0, P.fan_in()), "*": P.Normal()})
    with pytest.raises(ValueError, match=r"latents of shape \(8,\) for a parameter of shape \(9,\)"):
        _model(torch.distributions.Dirichlet(torch.ones(9)))
