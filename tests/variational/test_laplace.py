"""The Laplace approximation against a posterior that is normal, the Hessian of small networks, and laplace-torch."""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import Laplace, LinearRegression

from ..conjugate import regression

QUICK = {"num_steps": 200, "learning_rate": 0.05, "progress": False}
STRUCTURES = ("full", "diag", "kron")


def need(structure: str) -> None:
    if structure == "kron":
        pytest.importorskip("laplace", reason="needs laplace-torch: pip install 'bnnpriors[laplace]'")


def network(kind: str, prior: object, *, noise: object = 0.3, **options) -> bp.Posterior:
    """Two inputs, five tanh units; one output with noise, or three classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    size = 1 if kind == "regression" else 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, size)).double()
    if kind == "regression":
        y: Tensor = torch.sin(x[:, :1]) + 0.3 * torch.randn(30, 1, generator=generator, dtype=torch.float64)
        likelihood: bp.likelihoods.Likelihood = bp.likelihoods.Gaussian(noise)
    else:
        y, likelihood = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long(), bp.likelihoods.Categorical()
    return bp.Posterior(bp.attach(net, prior), likelihood, x, y, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("structure", ["full", "kron"])
def test_the_posterior_of_a_linear_model(structure: str, temperature: float) -> None:
    """Mode, evidence and predictive are exact; one layer with one output has an exact Kronecker factorisation."""
    need(structure)
    posterior, mean, precision = regression(temperature=temperature)
    exact = LinearRegression(posterior.data.x, posterior.data.y[:, 0], 0.25, 1.0)
    fit = Laplace(posterior, structure=structure).fit(**QUICK)
    torch.testing.assert_close(fit.mode, mean, rtol=0, atol=1e-6)
    assert fit.decrement < 1e-5
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, wanted = fit.predict(x), exact.predict(x)
    torch.testing.assert_close(found.mean, wanted.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        found.epistemic_variance, temperature * wanted.epistemic_variance, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(found.aleatoric_variance, wanted.aleatoric_variance)
    if temperature == 1:
        assert fit.log_evidence() == pytest.approx(float(exact.log_evidence()), abs=1e-5)
    draws = fit.sample(20_000, seed=1)
    # 6 standard errors of an entry of a covariance: below 1e-8 for each of the four
    covariance = temperature * torch.linalg.inv(precision)
    spread = 6 * covariance.diagonal().max() * math.sqrt(2 / 20_000)
    torch.testing.assert_close(draws.mT.cov(), covariance, rtol=0, atol=float(spread))


def test_the_diagonal_of_the_precision() -> None:
    posterior, mean, precision = regression()
    fit = Laplace(posterior, structure="diag").fit(**QUICK)
    torch.testing.assert_close(fit.mode, mean, rtol=0, atol=1e-6)
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    wanted = x.square().sum(1) / precision.diagonal()
    torch.testing.assert_close(fit.predict(x).epistemic_variance[:, 0], wanted)


def test_tempering_the_likelihood_alone_leaves_the_prior() -> None:
    """P = XᵀX/(σ²T) + I."""
    posterior, _, precision = regression(temperature=0.2, tempering="likelihood")
    identity = torch.eye(2, dtype=torch.float64)
    wanted = torch.linalg.inv((precision - identity) / 0.2 + identity)
    x = torch.eye(2, dtype=torch.float64)
    for structure in ("full", "kron") if find_spec("laplace") else ("full",):
        pred = Laplace(posterior, structure=structure).fit(**QUICK).predict(x)
        torch.testing.assert_close(pred.epistemic_variance[:, 0], wanted.diagonal())


HIERARCHY = {
    "*.weight": P.Normal(0.0, P.HalfNormal(1.0), centred=False),
    "*": P.Laplace(0.0, 1.0, normal_latent=True),
}


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("prior", [P.Normal(0.0, 1.0), HIERARCHY], ids=["normal", "hierarchy"])
def test_the_matrix_is_the_hessian_of_the_linearised_network(kind: str, prior: object) -> None:
    """At θ*, of −log p(y | f(θ*) + J(θ − θ*)) − log p(θ): another way to the same matrix; the sampled law has its inverse."""
    posterior = network(kind, prior, noise=P.HalfNormal(1.0))
    fit = Laplace(posterior).fit(**QUICK)
    names = [name for name in posterior.layout.names if not name.startswith("likelihood.")]
    size = sum(posterior.layout.unpack(fit.mode)[name].numel() for name in names)
    noise = fit.mode[size:]

    def outputs(part: Tensor) -> Tensor:
        theta = torch.cat([part, noise])
        weights, _ = posterior.weights(theta)
        return torch.func.functional_call(posterior.model.net, weights, (posterior.data.x,))

    start = fit.mode[:size]
    jacobian = torch.func.jacfwd(outputs)(start)

    def density(part: Tensor) -> Tensor:
        theta = torch.cat([part, noise])
        straight = outputs(start).detach() + jacobian @ (part - start)
        swaps = posterior.likelihood_swaps(posterior.layout.unpack(theta))
        likelihood = posterior.log_likelihood(swaps, straight, posterior.data.y).sum()
        return -likelihood - posterior.weights(theta)[1]

    matrix = torch.autograd.functional.hessian(density, start)
    unit = torch.eye(size, dtype=torch.float64)[None]
    torch.testing.assert_close(
        fit._precision.variances(unit)[0], torch.linalg.inv(matrix).diagonal(), rtol=1e-6, atol=1e-9
    )
    assert fit.sample(3)[:, size:].eq(noise).all()


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_curvature_and_evidence_are_those_of_laplace_torch(kind: str, structure: str) -> None:
    """The same network, mode, noise, prior and temperature, given to the library by hand; it rounds parts to float32."""
    library = pytest.importorskip("laplace", reason="needs laplace-torch: pip install 'bnnpriors[laplace]'")
    temperature = 0.5
    prior = {"0.*": P.Normal(0.0, 0.8), "*": P.Normal(0.0, 1.5)}
    posterior = network(kind, prior, temperature=temperature)
    fit = Laplace(posterior, structure=structure).fit(**QUICK)
    net = posterior.model.export(posterior.layout.unpack(fit.mode))
    precision = torch.tensor([0.8**-2] * 2 + [1.5**-2] * 2, dtype=torch.float64) / temperature
    other = library.Laplace(
        net, kind, subset_of_weights="all", hessian_structure=structure, prior_precision=precision,
        temperature=temperature, sigma_noise=0.3 if kind == "regression" else 1.0,
    )  # fmt: skip
    data = torch.utils.data.TensorDataset(posterior.data.x, posterior.data.y)
    other.fit(torch.utils.data.DataLoader(data, batch_size=30))
    assert fit._precision.log_det == pytest.approx(float(other.log_det_posterior_precision), rel=1e-6)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean, variance = other._glm_predictive_distribution(x)
    wanted = variance.diagonal(dim1=1, dim2=2)
    if kind == "regression":
        found = fit.predict(x)
        torch.testing.assert_close(found.mean, mean)
        torch.testing.assert_close(found.epistemic_variance, wanted, rtol=1e-5, atol=0.0)
    else:
        # 20,000 draws: 6 standard errors of a variance and of a mean, below 1e-8 for each of 18
        logits = fit.predict(x, num_draws=20_000).outputs
        torch.testing.assert_close(logits.var(0), wanted, rtol=6 * math.sqrt(2 / 20_000), atol=0.0)
        assert float(((logits.mean(0) - mean) / (wanted / 20_000).sqrt()).abs().max()) < 6


def test_networks_of_classes_and_both_predictives() -> None:
    posterior = network("classification", P.Normal(0.0, 1.0))
    fit = Laplace(posterior).fit(**QUICK)
    x, y = posterior.data.x, posterior.data.y
    for linearised in (True, False):
        assert bp.evaluate(fit.predict(x, linearised=linearised), y)["accuracy"] > 0.8
    assert fit.draws(10)["0.weight"].shape == (1, 10, 5, 2)


def test_the_last_layer_spreads_alone() -> None:
    """Its law is the posterior of a linear model on the features of the hidden units."""
    posterior = network("regression", P.Normal(0.0, 1.0))
    fit = Laplace(posterior, latents="last_layer").fit(**QUICK)
    draws = fit.draws(5)
    assert draws["0.weight"].std(1).max() == 0
    assert draws["2.weight"].std(1).min() > 0
    net = posterior.model.export(posterior.layout.unpack(fit.mode))
    hidden = net[:2]

    def features(x: Tensor) -> Tensor:
        return torch.cat([hidden(x), torch.ones_like(x[:, :1])], 1).detach()

    exact = LinearRegression(features(posterior.data.x), posterior.data.y[:, 0], 0.09, 1.0)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found, wanted = fit.predict(x), exact.predict(features(x))
    torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.epistemic_variance, wanted.epistemic_variance)


def test_the_mode_of_a_script_of_ones_own() -> None:
    posterior, mean, _ = regression()
    posterior.model.set_latents_({"weight": mean[None]})
    fit = Laplace(posterior).fit(num_steps=0, num_polish=0, init="model")
    torch.testing.assert_close(fit.mode, mean)
    posterior.model.set_latents_({"weight": mean[None] + 0.5})
    away = Laplace(posterior).fit(num_steps=0, num_polish=0, init="model")
    offset = torch.full((2,), 0.5, dtype=torch.float64)
    _, _, precision = regression()
    assert away.decrement == pytest.approx(float((offset @ precision @ offset).sqrt()), rel=1e-6)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_stiff_posterior_is_climbed_to_its_maximum(structure: str) -> None:
    """Noise of 0.02 makes curvatures of 10⁵ beside one of the prior; L-BFGS in the latents themselves leaves 0.03 to 0.3."""
    need(structure)
    posterior = network("regression", P.Normal(0.0, 1.0), noise=0.02)
    fit = Laplace(posterior, structure=structure).fit(num_steps=200, learning_rate=0.05, progress=False)
    assert fit.decrement < 1e-3
    target = posterior.target(1)
    assert float(target.value_and_gradient(fit.mode[None])[1].abs().max()) < 1e-2


@pytest.mark.parametrize("latents", ["*", "last_layer"])
def test_latents_that_are_not_spread_reach_the_maximum_too(latents: str) -> None:
    """The noise among them: at the joint maximum no latent has a gradient."""
    posterior = network("regression", HIERARCHY, noise=P.HalfNormal(1.0))
    fit = Laplace(posterior, latents=latents).fit(**QUICK)
    _, gradient = posterior.target(1).value_and_gradient(fit.mode[None])
    assert float(gradient.abs().max()) < 1e-3
    held = Laplace(posterior, latents=latents).fit(noise="evidence", **QUICK)
    _, gradient = posterior.target(1).value_and_gradient(held.mode[None])
    noise = posterior.layout.names.index("likelihood.scale")
    assert noise == len(posterior.layout.names) - 1
    assert float(gradient[0, :-1].abs().max()) < 1e-3 < float(gradient[0, -1].abs())


def test_starts_side_by_side_take_the_highest() -> None:
    posterior = network("regression", P.Normal(0.0, 1.0))
    heights = [
        float(posterior.log_density(Laplace(posterior).fit(num_starts=count, **QUICK).mode[None]))
        for count in (1, 4)
    ]
    assert heights[1] >= heights[0] - 1e-6


def test_priors_without_curvature_are_named() -> None:
    """A Laplace prior is flat but for its kink, where more latents are than the data tell of; its normal latents are not."""
    x, y = torch.ones(4, 3, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)

    def fitted(prior: P.Prior) -> Laplace:
        model = bp.attach(nn.Linear(3, 1).double(), prior)
        return Laplace(bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, y)).fit(**QUICK)

    with pytest.raises(ValueError, match="normal_latent=True"):
        fitted(P.Laplace(0.0, 1.0))
    fitted(P.Laplace(0.0, 1.0, normal_latent=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"structure": "lowrank"}, "structure 'lowrank' given"),
        ({"latents": "3.*"}, "matches none of 0.weight"),
        ({"structure": "kron", "latents": "last_layer"}, "expected '\\*'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Laplace(network("regression", P.Normal(0.0, 1.0)), **given)


def test_ladders_priors_alone_and_counts_are_refused() -> None:
    ladder, *_ = regression(temperature=[0.1, 1.0])
    with pytest.raises(ValueError, match="expected one temperature, and data"):
        Laplace(ladder)
    posterior, *_ = regression()
    with pytest.raises(RuntimeError, match="call fit"):
        Laplace(posterior).predict(posterior.data.x)
    with pytest.raises(ValueError, match="num_starts 0"):
        Laplace(posterior).fit(num_starts=0)
    with pytest.raises(ValueError, match="init 'map'"):
        Laplace(posterior).fit(init="map")


def test_what_kronecker_factors_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("laplace", reason="needs laplace-torch: pip install 'bnnpriors[laplace]'")
    with pytest.raises(ValueError, match="expected a centred Normal"):
        Laplace(network("regression", P.StudentT(3.0)), structure="kron")
    net = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 1)).double()
    model = bp.attach(net, P.Normal())
    x = torch.randn(5, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="1\\.weight of a LayerNorm"):
        Laplace(bp.Posterior(model, bp.likelihoods.Gaussian(1.0), x, x[:, :1]), structure="kron")
    monkeypatch.setitem(sys.modules, "laplace", None)
    with pytest.raises(ImportError, match="bnnpriors\\[laplace\\]"):
        Laplace(network("regression", P.Normal()), structure="kron")


def test_the_noise_of_highest_evidence() -> None:
    """Of a linear model the evidence is known for every noise: its maximum, and not that of the joint density."""
    given, *_ = regression()
    x, y = given.data.x, given.data.y
    model = bp.attach(nn.Linear(2, 1, bias=False).double(), P.Normal(0.0, 1.0))
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(P.HalfNormal(5.0)), x, y)
    fits = [Laplace(posterior).fit(noise=noise, **QUICK) for noise in ("evidence", "maximum")]
    found, joint = (float(fit.predict(x).aleatoric_variance[0, 0]) for fit in fits)

    def evidence(noise: float) -> float:
        return float(LinearRegression(x, y[:, 0], noise, 1.0).log_evidence())

    # the fixed point is reached to 1 % of σ
    assert all(evidence(found) > evidence(found * factor) for factor in (0.95, 1.05))
    assert evidence(joint) < evidence(found) - 0.01
    with pytest.raises(ValueError, match="there is no noise to choose"):
        Laplace(given).fit(noise="evidence")
    with pytest.raises(ValueError, match="noise 'map'"):
        Laplace(given).fit(noise="map")


def test_an_augmented_likelihood_is_refused() -> None:
    x = torch.zeros(4, 1, 2, 2)
    model = bp.attach(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), P.Normal(0.0, 1.0))
    likelihood = bp.likelihoods.Augmented(
        bp.likelihoods.Gaussian(0.3), bp.transforms.FlipGroup(), orbit="finite"
    )
    with pytest.raises(ValueError, match="Augmented likelihood"):
        Laplace(bp.Posterior(model, likelihood, x, torch.zeros(4, 1)))
