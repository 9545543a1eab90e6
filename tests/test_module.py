"""`attach` on any module: what is kept, what becomes a latent, what is refused."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P

ALARM = 1e-6  # false-alarm rate of each statistical test below


class Odd(nn.Module):
    """Parameters of its own, a nested block, a residual sum, a tied layer, a custom forward."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((4,), 0.5))
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4, bias=False)))
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.block[0].weight
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x: Tensor, *, twice: bool = False) -> Tensor:
        h = x + self.block(self.gain * x + self.shift)
        return 2 * self.tied(h) if twice else self.tied(h)


def _conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def _shared() -> nn.Module:
    """One layer registered under two names."""
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


NETS = {
    "shared": (_shared, (5, 3)),
    "odd": (Odd, (5, 4)),
    "conv": (_conv, (5, 1, 4, 4)),
    "root": (lambda: nn.Linear(3, 2), (5, 3)),
    "frozen_norm": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval(),
        (5, 3),
    ),
}
PRIORS = {
    "centred": P.Normal(0.0, 0.5),
    "hierarchical": P.Normal(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0))),
    "non_centred": P.StudentT(3.0, 0.1, P.HalfNormal(1.0), centred=False),
    "torch": torch.distributions.Laplace(0.0, 1.0),
}


def _case(name: str, prior: str) -> tuple[nn.Module, bp.BayesianModule, Tensor]:
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make()
    reference = copy.deepcopy(net)
    return reference, bp.attach(net, PRIORS[prior]), torch.randn(shape)


@pytest.fixture(autouse=True)
def _isolated_rng():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", NETS)
def test_attaching_changes_neither_function_nor_class_nor_keys(name: str, prior: str) -> None:
    reference, model, x = _case(name, prior)
    torch.testing.assert_close(model(x), reference(x))
    assert type(model.net) is type(reference)
    assert list(model.net.state_dict()) == list(reference.state_dict())
    keys = [key for key in model.state_dict() if not key.startswith("hyper.")]
    assert keys == list(reference.state_dict())
    assert len(model.state_dict()) - len(keys) == len(model.hyper)
    assert (len(model.hyper) > 0) == (prior in ("hierarchical", "non_centred"))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", NETS)
def test_state_dict_pickle_and_copy_keep_the_model(name: str, prior: str) -> None:
    _, model, x = _case(name, prior)
    model.sample_prior_(torch.Generator().manual_seed(1))
    expected, density = model(x), model.log_prior()
    _, other, _ = _case(name, prior)
    assert not torch.allclose(other(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(twin.log_prior(), density, rtol=0, atol=0)
        twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        copy.deepcopy(model).set_latents_({n: torch.zeros_like(v) for n, v in model.latents().items()})
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", NETS)
def test_double_precision(name: str, prior: str) -> None:
    _, model, x = _case(name, prior)
    single, density = model(x), model.log_prior()
    assert density.dtype == torch.float32
    assert model.to(torch.float64) is model
    assert model(x.double()).dtype == model.log_prior().dtype == torch.float64
    torch.testing.assert_close(model(x.double()).float(), single)
    torch.testing.assert_close(model.log_prior().float(), density)
    assert {value.dtype for value in model.sample_prior(torch.Generator()).values()} == {torch.float64}


def test_a_state_dict_of_the_plain_net_loads_and_says_what_is_missing() -> None:
    reference, model, x = _case("odd", "centred")
    model.sample_prior_(torch.Generator().manual_seed(1))
    model.load_state_dict(reference.state_dict())
    torch.testing.assert_close(model(x), reference(x))
    reference.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})


@pytest.mark.parametrize("inside", [False, True])
def test_submodules_called_net_and_hyper_keep_their_keys(inside: bool) -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.ModuleDict({"a": nn.Linear(2, 2), "net": nn.Linear(2, 2)})
            self.a = nn.Linear(2, 2)
            self.hyper = nn.ModuleDict({"net": nn.Linear(2, 2)})

    torch.manual_seed(0)
    reference = Clash()
    model = bp.attach(copy.deepcopy(reference), PRIORS["hierarchical"])
    outer: nn.Module = nn.ModuleDict({"model": model}) if inside else model
    prefix = "model." if inside else ""
    state = {key: value.clone() for key, value in outer.state_dict().items()}
    for key, value in reference.state_dict().items():
        assert torch.equal(state[prefix + key], value)
    assert len(state) == len(reference.state_dict()) + 2 * len(model.sites)
    outer.load_state_dict({key: value + 1 for key, value in state.items()})
    assert all(torch.equal(value, state[key] + 1) for key, value in outer.state_dict().items())


def test_tied_parameters_count_once_and_match_by_either_name() -> None:
    model = bp.attach(
        Odd(), {"gain": P.Normal(), "tied.*": P.Normal(0.0, 2.0), "block.*": P.Normal(0.0, 3.0)}
    )
    assert list(model.latents()) == [
        "gain",
        "block.0.weight",
        "block.0.bias",
        "block.1.1.weight",
        "tied.bias",
    ]
    assert model.layout.dim == 4 + 16 + 4 + 16 + 4
    assert {name: prior.scale for name, prior in model.named_priors().items()} == {
        "gain": 1.0, "block.0.weight": 2.0, "block.0.bias": 3.0, "block.1.1.weight": 3.0, "tied.bias": 2.0
    }  # fmt: skip
    model.sample_prior_(torch.Generator().manual_seed(0))
    assert model.net.tied.weight is model.net.block[0].weight


def test_the_first_match_wins_and_rules_are_resolved() -> None:
    net = nn.Sequential(nn.Linear(16, 3), nn.Linear(3, 2))
    model = bp.attach(
        net, {"0.weight": P.Laplace(0.0, P.fan_in(2.0)), "*.weight": P.StudentT(), "*": P.Normal()}
    )
    kinds = {name: type(prior).__name__ for name, prior in model.named_priors().items()}
    assert kinds == {"0.weight": "Laplace", "0.bias": "Normal", "1.weight": "StudentT", "1.bias": "Normal"}
    assert model.named_priors()["0.weight"].scale == 0.5


def test_log_prior_by_hand() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    weights = {name: value.detach().clone().numpy() for name, value in net.named_parameters()}
    model = bp.attach(
        net,
        {
            "0.weight": P.StudentT(3.0, 0.0, P.fan_in(2**0.5)),
            "1.weight": P.Normal(0.0, P.HalfCauchy(1.0)),
            "1.bias": P.Normal(0.0, P.HalfNormal(2.0), centred=False),
            "*": torch.distributions.Normal(0.0, 2.0),
        },
    )
    u, v = 0.4, -0.3
    latents: dict[str, Tensor] = {name: value.detach() for name, value in model.latents().items()}
    latents |= {"1.weight.scale": torch.tensor(u).double(), "1.bias.scale": torch.tensor(v).double()}
    expected = scipy.stats.t(3.0, scale=math.sqrt(2 / 4)).logpdf(weights["0.weight"]).sum()
    expected += scipy.stats.norm(0, 2.0).logpdf(weights["0.bias"]).sum()
    expected += scipy.stats.norm(0, math.exp(u)).logpdf(weights["1.weight"]).sum()
    expected += scipy.stats.halfcauchy.logpdf(math.exp(u)) + u
    expected += scipy.stats.norm.logpdf(latents["1.bias"].numpy()).sum()
    expected += scipy.stats.halfnorm(scale=2.0).logpdf(math.exp(v)) + v
    assert model.log_prior(latents).item() == pytest.approx(expected, abs=1e-6)
    model.set_latents_(latents)
    assert model.log_prior().item() == pytest.approx(expected, abs=1e-6)
    assert model.layout.names[-2:] == ("1.weight.scale", "1.bias.scale")


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", NETS)
def test_export_holds_the_weights_themselves(name: str, prior: str) -> None:
    reference, model, x = _case(name, prior)
    model.sample_prior_(torch.Generator().manual_seed(1))
    plain = model.export()
    assert type(plain) is type(reference)
    torch.testing.assert_close(plain(x), model(x))
    for key, value in model.weights().items():
        torch.testing.assert_close(plain.get_parameter(key), value)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in plain.parameters())


def test_forward_passes_keywords() -> None:
    for prior in ("centred", "non_centred"):
        _, model, x = _case("odd", prior)
        torch.testing.assert_close(model(x, twice=True), 2 * model(x))


@pytest.mark.parametrize("prior", [*PRIORS, "positive"])
def test_a_plain_training_loop(prior: str) -> None:
    torch.manual_seed(0)
    given = P.HalfNormal(1.0) if prior == "positive" else PRIORS[prior]
    model = bp.attach(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), given)
    x = torch.randn(64, 2)
    y = x.abs().sum(1, keepdim=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    likelihood = bp.likelihoods.Gaussian(0.3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = -(likelihood.log_prob(model(x), y).sum() + model.log_prior())
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_frozen_and_fixed_parameters_keep_their_values() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].weight.requires_grad_(False)
    model = bp.attach(net, {"0.bias": P.Fixed(), "*": P.Normal()})
    assert list(model.latents()) == ["1.weight", "1.bias"]
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    model.sample_prior_(torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    (model(torch.ones(1, 2)).sum() + model.log_prior()).backward()
    optimiser.step()
    kept = {name for name, value in net.named_parameters() if torch.equal(value, before[name])}
    assert kept == {"0.weight", "0.bias"}


def test_a_model_with_nothing_to_infer() -> None:
    model = bp.attach(nn.Linear(2, 1), P.Fixed())
    assert model.log_prior().item() == 0.0
    assert model(torch.ones(3, 2)).shape == (3, 1)
    with pytest.raises(ValueError, match="there is nothing to sample"):
        bp.Posterior(model)


def test_a_weight_outside_its_support_starts_at_a_prior_draw_and_others_stay() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        net[1].weight.abs_()
    kept = net[1].weight.detach().clone()
    before = torch.get_rng_state()
    model = bp.attach(
        net,
        {"0.weight": P.HalfNormal(P.Gamma(9.0, 3.0)), "1.weight": P.HalfNormal(P.Gamma()), "*": P.Normal()},
    )
    assert torch.equal(before, torch.get_rng_state())
    weights = model.weights()
    assert (weights["0.weight"] > 0).all()
    torch.testing.assert_close(weights["1.weight"], kept)
    assert model.latents()["0.weight.scale"].item() != 0.0
    x = torch.randn(2, 3)
    torch.testing.assert_close(model(x), model.export()(x))


def test_prior_draws_have_the_priors_law() -> None:
    """300 draws of the module; Kolmogorov-Smirnov tests at the stated alarm rate."""
    model = bp.attach(
        nn.Linear(3, 2),
        {"weight": P.StudentT(3.0, 0.0, P.fan_in()), "bias": P.Normal(1.0, P.Gamma(2.0, 2.0), centred=False)},
    )
    generator = torch.Generator().manual_seed(0)
    draws = [model.sample_prior(generator) for _ in range(300)]
    weight = torch.stack([d["weight"] for d in draws]).flatten()
    assert scipy.stats.kstest(weight.numpy(), scipy.stats.t(3.0, scale=1 / math.sqrt(3)).cdf).pvalue > ALARM
    scale = torch.stack([d["bias.scale"] for d in draws]).exp()
    assert scipy.stats.kstest(scale.numpy(), scipy.stats.gamma(2.0, scale=0.5).cdf).pvalue > ALARM
    bias = torch.stack([model.weights(d)["bias"] for d in draws])
    standard = (bias - 1.0) / scale[:, None]
    assert scipy.stats.kstest(standard.flatten().numpy(), scipy.stats.norm.cdf).pvalue > ALARM


def test_prior_draws_follow_the_generator_alone() -> None:
    _, model, _ = _case("odd", "hierarchical")
    before = torch.get_rng_state()
    first = model.sample_prior(torch.Generator().manual_seed(5))
    again = model.sample_prior(torch.Generator().manual_seed(5))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert model.sample_prior_(torch.Generator().manual_seed(5)) is model
    assert all(torch.equal(value, first[name]) for name, value in model.latents().items())


@pytest.mark.gpu
@pytest.mark.parametrize("prior", PRIORS)
def test_an_accelerator_gives_the_same_density(prior: str) -> None:
    _, model, x = _case("odd", prior)
    single, density = model(x), model.log_prior()
    model.cuda()
    torch.testing.assert_close(model(x.cuda()).cpu(), single, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.log_prior().cpu(), density, rtol=1e-4, atol=1e-4)
    latents = model.sample_prior(torch.Generator("cuda").manual_seed(0))
    assert {value.device.type for value in latents.values()} == {"cuda"}
