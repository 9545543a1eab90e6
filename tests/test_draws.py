"""Draws: weights themselves by name, rungs of a ladder, predictions, and stores opened with and without a model."""

import copy
import pickle

import pytest
import torch
from torch.func import vmap

import bnnpriors as bp
from bnnpriors import store
from bnnpriors.priors.site import Site
from bnnpriors.samplers import HMC, SGLD
from bnnpriors.store import StoreError


def posterior(**options):
    """A regression with a non-centred hierarchical weight, a centred bias and a latent noise scale."""
    x = torch.linspace(-1, 1, 10)[:, None]
    priors = {
        "weight": bp.priors.Normal(0.5, bp.priors.Gamma(2.0, 1.0), centred=False),
        "bias": bp.priors.Laplace(0.0, 1.0),
    }
    model = bp.attach(torch.nn.Linear(1, 1), priors)
    return bp.Posterior(model, bp.likelihoods.Gaussian(bp.priors.HalfCauchy(1.0)), x, 2 * x, **options)


def sample(given, **options):
    options = {"num_samples": 6, "num_chains": 2} | options
    return bp.sample(given, HMC(step_size=0.05, num_steps=3), progress=False, **options)


def test_names_give_values_and_not_latents():
    """w = loc + s·z and positive quantities exp(u)."""
    draws = sample(posterior())
    assert draws.names == ("weight", "bias", "weight.scale", "likelihood.scale")
    z, bias, log_scale, log_noise = draws.theta.unbind(-1)
    torch.testing.assert_close(draws["weight.scale"], log_scale.exp())
    torch.testing.assert_close(draws["weight"][..., 0, 0], 0.5 + log_scale.exp() * z)
    torch.testing.assert_close(draws["bias"][..., 0], bias)
    torch.testing.assert_close(draws["likelihood.scale"], log_noise.exp())
    assert draws["weight"].shape == (2, 6, 1, 1)
    with pytest.raises(KeyError, match=r"no such parameter; the names are weight, bias, weight\.scale"):
        draws["0.weight"]


def test_ladder():
    draws = sample(posterior(temperature=[0.1, 1.0, 3.0]))
    assert draws.temperatures.tolist() == [0.1, 0.1, 1.0, 1.0, 3.0, 3.0]
    rung = draws.at_temperature(1.0)
    assert (rung.num_chains, rung.num_draws) == (2, 6)
    assert torch.equal(rung.theta, draws.theta[2:4])
    assert torch.equal(rung["weight"], draws["weight"][2:4])
    assert torch.equal(rung.stats["potential"], draws.stats["potential"][2:4])
    assert torch.equal(
        rung.tensor_stats["kinetic_temperature"], draws.tensor_stats["kinetic_temperature"][2:4]
    )
    assert torch.equal(rung.at_temperature(1.0).theta, rung.theta)
    with pytest.raises(
        ValueError, match=r"no chain has temperature 0\.3; the ladder is \[0\.1, 1\.0, 3\.0\]"
    ):
        draws.at_temperature(0.3)
    with pytest.raises(ValueError, match=r"mix temperatures \[0\.1, 1\.0, 3\.0\]; use draws\.at_temperature"):
        draws.predict(torch.zeros(2, 1))
    assert rung.predict(torch.zeros(2, 1)).num_draws == 12


def test_predictions_are_those_of_the_weights():
    draws = sample(posterior())
    x = torch.tensor([[0.3], [-2.0], [1.0]])
    pred = draws.predict(x)
    functions = draws["weight"][..., 0, 0, None] * x[:, 0] + draws["bias"]
    torch.testing.assert_close(pred.mean[:, 0], functions.mean((0, 1)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pred.outputs_by_chain()[..., 0], functions)
    noise = draws["likelihood.scale"].square().mean()
    torch.testing.assert_close(pred.aleatoric_variance, noise.expand(3, 1))
    y = torch.tensor([[0.1], [0.2], [-0.4]])
    each = torch.distributions.Normal(functions, draws["likelihood.scale"][..., None]).log_prob(y[:, 0])
    expected = each.flatten(0, 1).logsumexp(0) - torch.tensor(12.0).log()
    torch.testing.assert_close(pred.log_prob(y), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stored", [False, True])
def test_all_values_take_one_pass_in_pieces(stored, tmp_path, monkeypatch):
    """Two draws a chunk: every chunk is read once and no more than its draws are evaluated together."""
    monkeypatch.setattr(store, "CHUNK_BYTES", 64)
    draws = sample(posterior(), num_samples=5, store=tmp_path / "a" if stored else None)
    expected = vmap(draws._joint.values)(draws.theta.flatten(0, 1))
    reads = []
    read = store.Store.read
    monkeypatch.setattr(
        store.Store, "read", lambda self, name, part: reads.append((name, part)) or read(self, name, part)
    )
    values = draws.values()
    assert reads == [("theta", slice(0, 2)), ("theta", slice(2, 4)), ("theta", slice(4, 5))]
    assert tuple(values) == draws.names
    for name, value in values.items():
        assert torch.equal(value, expected[name].unflatten(0, (2, 5)))
        assert torch.equal(draws[name], value)
    reads.clear()
    draws.to_arviz(num_prior=2)
    assert [part for name, part in reads if name == "theta"].count(slice(0, 2)) == 1
    assert set(draws.values(["bias", "likelihood.scale"])) == {"bias", "likelihood.scale"}
    with pytest.raises(KeyError, match="'nothing': no such parameter"):
        draws.values(["bias", "nothing"])


def test_one_name_costs_its_own_tensors_alone(monkeypatch):
    draws = sample(posterior())
    evaluated = []
    evaluate = Site.evaluate
    monkeypatch.setattr(
        Site,
        "evaluate",
        lambda self, latents, values: evaluated.append(self.name) or evaluate(self, latents, values),
    )
    for name, needed in {
        "bias": ["bias"],
        "weight": ["weight", "weight.scale"],
        "weight.scale": ["weight", "weight.scale"],
        "likelihood.scale": ["scale"],
    }.items():
        evaluated.clear()
        draws[name]
        assert evaluated == needed


COPIES = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("stored", [False, True])
def test_copies_give_the_same_draws_and_predictions(how, stored, tmp_path):
    x = torch.tensor([[0.3], [-2.0]])
    draws = sample(posterior(), store=tmp_path / "a" if stored else None)
    expected = draws.predict(x)
    again = COPIES[how](draws)
    assert torch.equal(again.theta, draws.theta)
    assert torch.equal(again["weight"], draws["weight"])
    assert torch.equal(again.stats["acceptance"], draws.stats["acceptance"])
    assert torch.equal(again.predict(x).mean, expected.mean)


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_posterior_stand_on_their_own(how):
    """The copy's frozen bias is the copy's alone."""
    net = torch.nn.Linear(1, 1)
    x = torch.ones(3, 1)
    given = bp.Posterior(
        bp.attach(net, {"bias": bp.priors.Fixed(), "weight": bp.priors.Normal()}),
        bp.likelihoods.Gaussian(bp.priors.HalfCauchy(1.0)), x, x,
    )  # fmt: skip
    theta = torch.tensor([[0.5, 0.1], [1.0, 0.2]])
    before = given.log_density(theta)
    again = COPIES[how](given)
    assert torch.equal(again.log_density(theta), before)
    with torch.no_grad():
        again.model.net.bias.add_(1.0)
    fresh = bp.Posterior(again.model, again.likelihood, x, x)
    other = COPIES[how](again)
    assert torch.equal(other.log_density(theta), fresh.log_density(theta))
    assert not torch.equal(other.log_density(theta), before)
    assert torch.equal(given.log_density(theta), before)


def test_stats_are_a_mapping():
    draws = sample(posterior())
    assert "acceptance" in draws.stats
    assert len(draws.stats) == len(list(draws.stats)) == len(dict(draws.stats))
    assert draws.stats.get("nothing") is None
    with pytest.raises(KeyError, match="'nothing' was not recorded; there are acceptance"):
        draws.stats["nothing"]
    assert draws.tensor_names == draws.layout.names


def test_open_with_and_without_a_model(tmp_path):
    given = posterior(temperature=[0.5, 1.0])
    draws = sample(given, store=tmp_path / "a")
    x = torch.tensor([[0.3], [-2.0]])
    for opened in (bp.Draws.open(tmp_path / "a"), bp.Draws.open(str(tmp_path / "a"), posterior=given)):
        assert opened.path == tmp_path / "a"
        assert torch.equal(opened.temperatures, draws.temperatures)
        assert torch.equal(opened["weight"], draws["weight"])
        expected = draws.at_temperature(0.5).predict(x).mean
        assert torch.equal(opened.at_temperature(0.5).predict(x).mean, expected)
    (tmp_path / "a" / "model.pt").unlink()
    alone = bp.Draws.open(tmp_path / "a")
    assert torch.equal(alone.theta, draws.theta)
    with pytest.raises(StoreError, match=r"holds no model: pass Draws\.open"):
        alone["weight"]
    with pytest.raises(StoreError, match="no store here"):
        bp.Draws.open(tmp_path / "b")


def test_sampling_leaves_the_model_as_it_was():
    given = posterior()
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    sample(given)
    for name, value in given.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_repr_says_what_there_is(tmp_path):
    assert repr(sample(posterior())) == "Draws(2 chains × 6 draws × 4 latents, in memory)"
    assert str(tmp_path) in repr(sample(posterior(), store=tmp_path / "a"))


def test_summary_of_weights_and_predictions():
    found = sample(posterior(), num_samples=20).summary(torch.zeros(3, 1))
    assert "weights" in str(found)
    assert "predictions" in str(found)


def test_draws_of_sgld_have_no_acceptance():
    draws = bp.sample(posterior(), SGLD(step_size=0.01), num_samples=4, progress=False)
    assert "acceptance" not in draws.stats
    assert draws.theta.shape == (4, 4, 4)
