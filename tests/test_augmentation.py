"""Augmented likelihoods in posteriors, with every kind of sampler, in stores, training scripts and predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors import transforms as T
from bnnpriors.fingerprint import describe
from bnnpriors.likelihoods import Augmented, Categorical, Gaussian
from bnnpriors.planning import default_plan
from bnnpriors.programs import Plan
from bnnpriors.streams import Streams

AVERAGES = ("probs", "logits", "losses")
WIDE = T.Compose([T.Rotation(40.0), T.CropWithPadding(1)])


def _data(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=generator)


def _model(conv: bool = False) -> bp.BayesianModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = [nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)]
        dense = [nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3)]
        return bp.attach(nn.Sequential(*(first if conv else dense)).double(), P.Normal(0.0, 1.0))


def _aug(transform: Any = WIDE, num_samples: int | None = 3, **options: Any) -> Augmented:
    return Augmented(Categorical(), transform, num_samples, **options)


def _finite(average: str = "probs", transform: T.Finite | None = None) -> Augmented:
    return _aug(transform or T.FlipGroup(vertical=True), None, average=average, orbit="finite")


def _by_hand(model: bp.BayesianModule, theta: Tensor, average: str, orbit: list[Tensor], y: Tensor) -> Tensor:
    """U = −Σ_i log p(y_i) − log p(θ), copy after copy."""
    latents = bp.Posterior(model).layout.unpack(theta)
    weights, log_prior = model.weights(latents), model.log_prior(latents)
    f = torch.stack([torch.func.functional_call(model.net, weights, (x,)) for x in orbit], 1)
    log_p = torch.log_softmax(f, -1)
    forms = {
        "probs": log_p.exp().mean(1).log(),
        "logits": torch.log_softmax(f.mean(1), -1),
        "losses": log_p.mean(1),
    }
    return -forms[average].gather(1, y[:, None]).sum() - log_prior


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("conv", [False, True])
def test_the_finite_potential_and_gradient_are_those_written_by_hand(average: str, conv: bool) -> None:
    """N is the number of images, not of copies; alike for any number of chains and examples a call, and on minibatches."""
    x, y = _data()
    model = _model(conv)
    post = bp.Posterior(model, _finite(average), x, y)
    orbit = [x, x.flip(-1), x.flip(-2), x.flip((-2, -1))]
    theta = 0.5 * torch.randn(3, post.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.stack([_by_hand(model, row, average, orbit, y) for row in theta])
    gradient = torch.func.vmap(torch.func.grad(lambda row: _by_hand(model, row, average, orbit, y)))(theta)
    torch.testing.assert_close(-post.log_density(theta), expected)
    torch.testing.assert_close(-post.log_density(theta.clone().requires_grad_()), expected)
    for plan in (Plan(3, 12, False), Plan(2, 5, False), Plan(1, 1, False)):
        value, slope = post.target(3, plan).value_and_gradient(theta)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(slope, gradient)
    small = bp.Posterior(model, _finite(average), x, y, batch_size=4)
    streams = Streams(0, [(0, 0)] * 3, dtype=torch.float64, device=torch.device("cpu"))
    index = Streams(0, [(0, 0)], dtype=torch.float64, device=torch.device("cpu")).integers(12, 4)[0]
    estimate = small.target(3).gradient_estimate(theta, streams)
    rows = [copy[index] for copy in orbit]
    for chain in range(3):
        own = torch.func.grad(
            lambda row: (
                3 * _by_hand(model, row, average, rows, y[index])
                + 2 * model.log_prior(small.layout.unpack(row))
            )
        )(theta[chain])
        torch.testing.assert_close(estimate[chain], own)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("shared", [False, True])
def test_a_full_orbit_transforms_by_each_chains_own_stream(
    batch_size: int | None, average: str, shared: bool
) -> None:
    """The gradient is the one of the copies that the chain's generator makes, whatever the chunks and blocks."""
    x, y = _data()
    model, aug = _model(), _aug(average=average, shared=shared)
    post = bp.Posterior(model, aug, x, y, batch_size=batch_size)
    theta = 0.5 * torch.randn(2, post.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    keys = [(0, 0), (0, 1)]
    found = []
    for plan in (Plan(2, 12, False), Plan(1, 3, False)):
        streams = Streams(3, keys, dtype=torch.float64, device=torch.device("cpu"))
        found.append(post.target(2, plan).gradient_estimate(theta, streams))
    torch.testing.assert_close(found[0], found[1])
    for chain in range(2):
        generator = Streams(3, keys, dtype=torch.float64, device=torch.device("cpu")).generators[chain]
        rows = torch.arange(12) if batch_size is None else torch.randint(12, (5,), generator=generator)
        noise = aug.noise(x[rows], generator)
        assert noise is not None
        copies = list(aug.copies(x[rows], noise).unbind(1))

        def estimate(row: Tensor, copies: list[Tensor] = copies, rows: Tensor = rows) -> Tensor:
            scale = 12 / len(rows)
            prior = model.log_prior(post.layout.unpack(row))
            return scale * _by_hand(model, row, average, copies, y[rows]) + (scale - 1) * prior

        own = torch.func.grad(estimate)(theta[chain])
        torch.testing.assert_close(found[0][chain], own)


def test_copies_are_no_data() -> None:
    """Identical copies change nothing: with K of them the potential is that of N images, not of N·K."""
    x, y = _data()
    model = _model()
    plain = bp.Posterior(model, Categorical(), x, y)
    theta = plain.sample_prior(torch.Generator().manual_seed(0))[None]
    for average in AVERAGES:
        many = bp.Posterior(model, _finite(average, T.Listed([lambda images: images] * 7)), x, y)
        assert many.num_data == 12
        torch.testing.assert_close(many.log_density(theta), plain.log_density(theta))


def test_the_full_orbits_bound_grows_with_the_number_of_copies() -> None:
    """E L_K < E L_{2K} for "probs" and "logits", and E of "losses" is the same: differences of means of 4000 draws, each at 5.5
    standard errors (false alarm below 10⁻⁷)."""
    x, y = _data(6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(3, 16, generator=torch.Generator().manual_seed(2)))
    means, errors = {}, {}
    for average in AVERAGES:
        for copies in (1, 2, 4, 8):
            aug = _aug(num_samples=copies, average=average)
            generator = torch.Generator().manual_seed(copies)
            with torch.no_grad():
                totals = (
                    aug.combine(aug.outputs(net, x.repeat(4000, 1, 1, 1), generator), y.repeat(4000))
                    .view(4000, 6)
                    .sum(1)
                )
            means[average, copies], errors[average, copies] = totals.mean(), totals.std() / 4000**0.5
    for average in AVERAGES:
        for copies in (1, 2, 4):
            gain = means[average, 2 * copies] - means[average, copies]
            error = math.hypot(errors[average, copies], errors[average, 2 * copies])
            assert abs(gain) < 5.5 * error if average == "losses" else gain > 5.5 * error, (average, copies)


@pytest.mark.parametrize("average", AVERAGES)
def test_predictions_are_invariant_under_a_group(average: str) -> None:
    x, y = _data()
    group = T.Product([T.RotationGroup(), T.FlipGroup()])
    post = bp.Posterior(_model(conv=True), _finite(average, group), x, y)
    draws = bp.sample(post, bp.samplers.HMC(0.02, 3), num_samples=4, num_chains=2, progress=False)
    pred = draws.predict(x)
    for element in range(1, group.size):
        moved = draws.predict(group.element(element, x))
        torch.testing.assert_close(moved.log_probs, pred.log_probs, rtol=1e-12, atol=1e-12)
    plain = bp.Posterior(post.model, Categorical(), x, y)
    outputs = [plain.outputs(draws.theta.flatten(0, 1), group.element(k, x)) for k in range(group.size)]
    if average == "probs":
        expected = torch.stack([torch.softmax(f, -1).mean(0) for f in outputs]).mean(0)
    else:
        expected = torch.softmax(torch.stack(outputs).mean(0), -1).mean(0)
    torch.testing.assert_close(pred.probs, expected)
    assert bp.evaluate(pred, y)["nll"] == pytest.approx(float(-expected[range(12), y].log().mean()))


def test_predictions_of_a_full_orbit_use_their_own_number_of_copies_and_seed() -> None:
    x, y = _data(5)
    post = bp.Posterior(_model(), _aug(num_samples=2, num_test_samples=6, seed=4), x, y)
    draws = bp.sample(post, bp.samplers.SGHMC(0.01), num_samples=3, num_chains=2, progress=False)
    aug = post.augmented
    assert aug is not None
    copies = aug.draw(x, torch.Generator().manual_seed(4), test=True)
    assert copies.shape[1] == 6
    outputs = bp.Posterior(post.model, Categorical(), x, y).outputs(
        draws.theta.flatten(0, 1), copies.flatten(0, 1)
    )
    expected = torch.softmax(outputs, -1).unflatten(1, (5, 6)).mean((0, 2))
    torch.testing.assert_close(draws.predict(x).probs, expected)
    assert torch.equal(draws.predict(x).probs, draws.predict(x).probs)
    assert {"accuracy", "nll", "ece", "brier"} <= set(bp.evaluate(draws.predict(x), y))


def test_regression_with_a_latent_scale_predicts_a_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 1, 4, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    aug = Augmented(Gaussian(P.HalfNormal(1.0)), T.FlipGroup(), orbit="finite")
    post = bp.Posterior(bp.attach(net, P.Normal(0.0, 1.0)), aug, x, y)
    draws = bp.sample(post, bp.samplers.HMC(0.02, 5), num_samples=4, num_chains=2, progress=False)
    pred = draws.predict(x)
    scale = draws["likelihood.scale"].flatten()
    theta = draws.theta.flatten(0, 1)
    plain = bp.Posterior(post.model, Gaussian(1.0), x, y)
    means = torch.stack([plain.outputs(theta[:, :-1], x), plain.outputs(theta[:, :-1], x.flip(-1))])
    density = torch.distributions.Normal(means, scale[:, None, None]).log_prob(y).sum(-1)
    expected = torch.logsumexp(density.flatten(0, 1), 0) - math.log(2 * len(theta))
    torch.testing.assert_close(pred.log_prob(y), expected)
    torch.testing.assert_close(pred.mean, means.mean((0, 1)))
    assert bp.evaluate(pred, y)["rmse"] > 0
    assert bool((pred.interval(0.9)[0] < pred.interval(0.9)[1]).all())


EXACT = [
    bp.samplers.GGMC(0.02, steps_per_test=3),
    bp.samplers.AMAGOLD(0.02, steps_per_test=3),
    bp.samplers.HMC(0.02, 3),
    bp.samplers.ChEES(0.02),
    bp.samplers.MCLMC(0.05),
    bp.samplers.NUTS(0.05, max_tree_depth=3),
    bp.samplers.Layerwise(bp.samplers.GGMC(0.02, steps_per_test=3)),
]
NOISY = [
    bp.samplers.SGLD(0.01),
    bp.samplers.SGHMC(0.01),
    bp.samplers.GGMC(0.01),
    bp.samplers.BAOAB(0.01),
    bp.samplers.SGNHT(0.01),
    bp.samplers.PSGLD(0.01),
    bp.samplers.SWAG(0.01),
    bp.samplers.MAP(0.01),
    bp.samplers.Layerwise(bp.samplers.SGHMC(0.01)),
]


def _run(posterior: bp.Posterior, sampler: Any, **options: Any) -> bp.Draws:
    settings = {"num_samples": 3, "num_warmup": 2, "num_chains": 2, "progress": False} | options
    return bp.sample(posterior, sampler, **settings)


@pytest.mark.parametrize("sampler", EXACT, ids=lambda s: type(s).__name__)
def test_exact_samplers_take_finite_orbits_and_refuse_full_ones(sampler: Any) -> None:
    x, y = _data()
    draws = _run(bp.Posterior(_model(), _finite(), x, y), sampler)
    assert bool(draws.theta.isfinite().all())
    with pytest.raises(
        ValueError, match=r"needs the exact potential.*FlipGroup.*Frozen\(transform, num_samples=8\)"
    ):
        _run(bp.Posterior(_model(), _aug(), x, y), sampler)


@pytest.mark.parametrize("sampler", NOISY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_samplers_without_a_test_take_full_orbits_at_every_temperature(
    sampler: Any, batch_size: int | None
) -> None:
    x, y = _data()
    post = bp.Posterior(_model(), _aug(), x, y, batch_size=batch_size, temperature=[0.1, 1.0])
    draws = _run(post, sampler, num_warmup=40 if isinstance(sampler, bp.samplers.SWAG) else 2)
    assert bool(draws.theta.isfinite().all())
    assert bool(draws.at_temperature(0.1).predict(x).log_probs.isfinite().all())


def test_noisy_densities_are_refused_wherever_an_exact_one_is_asked_for() -> None:
    x, y = _data()
    post = bp.Posterior(_model(), _aug(), x, y, temperature=[0.5, 1.0])
    theta = torch.zeros(2, post.dim, dtype=torch.float64)
    for ask in (
        post.log_density,
        lambda t: post.log_density(t.clone().requires_grad_()),
        post.target(2).potential,
        post.target(2).value_and_gradient,
    ):
        with pytest.raises(ValueError, match="its potential is random"):
            ask(theta)
    with pytest.raises(ValueError, match="ReplicaExchange needs the exact potential"):
        _run(post, bp.samplers.ReplicaExchange(bp.samplers.SGHMC(0.01)))


def test_acceptance_of_ggmc_is_that_of_a_potential_written_by_hand() -> None:
    """The same chain, acceptance for acceptance, where the orbit is written into the network itself."""

    class Orbit(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return (
                self.net(x) + self.net(x.flip(-1)) + self.net(x.flip(-2)) + self.net(x.flip((-1, -2)))
            ) / 4

    x, y = _data()
    ours = bp.Posterior(
        _model(conv=True),
        _aug(T.FlipGroup(vertical=True), None, average="logits", orbit="finite"),
        x,
        y,
        batch_size=6,
    )
    hand = bp.Posterior(
        bp.attach(Orbit(_model(conv=True).net), P.Normal(0.0, 1.0)), Categorical(), x, y, batch_size=6
    )
    sampler = bp.samplers.GGMC(0.12, momentum_decay=0.9, steps_per_test=4)
    one, other = (_run(post, sampler, num_samples=40, num_warmup=0, seed=1) for post in (ours, hand))
    torch.testing.assert_close(one.theta, other.theta)
    torch.testing.assert_close(one.stats["acceptance"], other.stats["acceptance"])
    assert 0.1 < float(one.stats["acceptance"].mean()) < 0.95


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, batch_size: int | None) -> None:
    """The transformations come from the chains' own streams, which checkpoints hold."""
    x, y = _data()

    def run(where: str | None, count: int) -> bp.Draws:
        post = bp.Posterior(_model(), _aug(), x, y, batch_size=batch_size, temperature=[0.5, 1.0])
        store = None if where is None else tmp_path / where
        return _run(post, bp.samplers.SGHMC(0.01), num_samples=count, store=store, resume=store is not None)

    run("a", 4)
    assert torch.equal(run("a", 9).theta, run(None, 9).theta)
    assert torch.equal(bp.Draws.open(tmp_path / "a").at_temperature(1.0).predict(x).log_probs,
                       run("a", 9).at_temperature(1.0).predict(x).log_probs)  # fmt: skip
    other = bp.Posterior(
        _model(), _aug(T.Rotation(20.0)), x, y, batch_size=batch_size, temperature=[0.5, 1.0]
    )
    with pytest.raises(bp.StoreError, match="likelihood"):
        _run(other, bp.samplers.SGHMC(0.01), num_samples=9, store=tmp_path / "a", resume=True)


def test_a_chain_depends_on_its_own_place_alone() -> None:
    x, y = _data()
    post = bp.Posterior(_model(), _aug(), x, y, batch_size=4)
    two, three = (_run(post, bp.samplers.SGHMC(0.01), num_chains=n).theta for n in (2, 3))
    torch.testing.assert_close(two, three[:2])
    assert not torch.allclose(two[0], two[1])


def test_the_fingerprint_has_every_setting() -> None:
    texts = {
        describe(aug)
        for aug in (
            _aug(),
            _aug(num_samples=4),
            _aug(num_test_samples=4),
            _aug(average="logits"),
            _aug(shared=True),
            _aug(seed=1),
            _aug(T.Compose([T.Rotation(41.0), T.CropWithPadding(1)])),
            _finite(),
            _finite(transform=T.Frozen(WIDE, 4)),
            _finite(transform=T.Frozen(WIDE, 4, seed=1)),
        )
    }
    assert len(texts) == 10
    assert describe(_aug()) == describe(_aug())


def test_blocks_hold_as_many_images_as_without_copies() -> None:
    x, y = torch.zeros(4000, 1, 4, 4), torch.zeros(4000, dtype=torch.long)
    net = nn.Sequential(nn.Conv2d(1, 400, 3, padding=1), nn.Flatten(), nn.Linear(6400, 2))
    model = bp.attach(net, P.Normal(0.0, 1.0))
    plain = default_plan(bp.Posterior(model, Categorical(), x, y), 1).block_size
    eight = default_plan(bp.Posterior(model, _aug(T.HorizontalFlip(), 8), x, y), 1).block_size
    assert plain < 4000
    assert eight == plain // 8


@pytest.mark.parametrize("average", AVERAGES)
def test_a_training_script(average: str) -> None:
    """`bp.potential` is the minibatch potential over N; copies some at a time give the same value and gradient."""
    x, y = _data()
    model, aug = _model(conv=True), _aug(average=average)
    losses, gradients = [], []
    for at_once in (None, 1, 2):
        model.zero_grad()
        loss = bp.potential(
            model, aug, x, y, num_data=100, generator=torch.Generator().manual_seed(5), copies_at_once=at_once
        )
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    copies = aug.draw(x, torch.Generator().manual_seed(5))
    expected = -(
        aug.combine(model(copies.flatten(0, 1)).unflatten(0, (12, 3)), y).mean() + model.log_prior() / 100
    )
    for loss, gradient in zip(losses, gradients, strict=True):
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(gradient, gradients[0])
    optimizer = bp.optim.SGHMC(model.parameters(), lr=0.01, num_data=100)
    optimizer.step()
    finite = bp.potential(model, _finite(average), x, y, num_data=12)
    theta = bp.Posterior(model).current()[None]
    exact = -bp.Posterior(model, _finite(average), x, y).log_density(theta)[0] / 12
    torch.testing.assert_close(finite.detach(), exact)
    with pytest.raises(ValueError, match="no generator was given"):
        bp.potential(model, aug, x, y, num_data=100)
    with pytest.raises(ValueError, match="copies_at_once 0 given"):
        bp.potential(model, aug, x, y, num_data=100, generator=torch.Generator(), copies_at_once=0)


def test_memory_of_a_training_step_is_that_of_the_copies_at_once() -> None:
    """Activations kept for the backward pass, counted as they are packed: without recomputation those of all copies."""
    x, y = _data()
    model = _model(conv=True)
    aug = _aug(num_samples=8)
    kept = {}
    for at_once in (None, 1):
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            bp.potential(
                model,
                aug,
                x,
                y,
                num_data=12,
                generator=torch.Generator().manual_seed(0),
                copies_at_once=at_once,
            )
        kept[at_once] = sum(sizes)
    assert kept[1] < 0.35 * kept[None]


def test_pyros_model_has_the_same_density() -> None:
    import pyro

    x, y = _data()
    model, aug = _model(), _finite()
    program = model.to_pyro(aug)
    trace = pyro.poutine.trace(program).get_trace(x, y)
    latents = {name: trace.nodes[name]["value"] for name in model.layout.names}
    post = bp.Posterior(model, aug, x, y)
    expected = post.log_density(post.layout.pack(latents)[None])[0]
    torch.testing.assert_close(trace.log_prob_sum().double(), expected)
    with pytest.raises(ValueError, match="no generator was given"):
        model.to_pyro(_aug())(x, y)


YAML = """
name: tiny
model: {class_path: bnnpriors.models.mlp, init_args: {hidden: [4]}}
likelihood:
  class_path: bnnpriors.likelihoods.Augmented
  init_args:
    base: {class_path: bnnpriors.likelihoods.Categorical}
    transform:
      class_path: bnnpriors.transforms.Compose
      init_args:
        transforms:
          - {class_path: bnnpriors.transforms.CropWithPadding, init_args: {padding: 1}}
          - {class_path: bnnpriors.transforms.Rotation, init_args: {degrees: 15.0}}
    num_samples: 2
    image_shape: [1, 8, 8]
priors: {Normal: {"*": {class_path: bnnpriors.priors.Normal, init_args: {scale: 0.3}}}}
temperatures: [0.1, 1.0]
sampler: {class_path: bnnpriors.samplers.SGHMC, init_args: {step_size: 0.005}}
batch_size: 16
num_samples: 4
num_warmup: 2
num_chains: 2
"""


def test_the_command_line_reads_it_from_yaml_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bnnpriors.cli import main

    config = tmp_path / "sweep.yaml"
    config.write_text(YAML)
    arguments = [
        "sweep",
        "--config",
        str(config),
        "--likelihood.average",
        "logits",
        "--output",
        str(tmp_path / "run"),
    ]
    assert not main(arguments)
    draws = bp.Draws.open(next((tmp_path / "run").rglob("zarr.json")).parent)
    likelihood = draws._joint.likelihood if draws._joint is not None else None
    assert isinstance(likelihood, Augmented)
    assert (likelihood.average, likelihood.num_samples) == ("logits", 2)
    assert [type(part) for part in likelihood.transform.transforms] == [T.CropWithPadding, T.Rotation]
    assert not main(arguments)
    changed = [*arguments, "--likelihood.average", "probs"]
    assert main(changed)
    assert "likelihood" in capsys.readouterr().err
