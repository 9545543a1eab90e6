"""Draws of networks of unusual make: those that vmap cannot batch, and those that use our names for their own parts."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import HMC


def sample(given, **options):
    return bp.sample(
        given,
        HMC(step_size=0.05, num_steps=3),
        progress=False,
        **{"num_samples": 3, "num_chains": 2} | options,
    )


class Recurrent(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.memory, self.out = kind(1, 2, batch_first=True), torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.out(self.memory(x[..., None])[0][:, -1])


class Branching(torch.nn.Module):
    """Another function where the weights are large."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        h = self.layer(x)
        return h if self.layer.weight.abs().max() < 1 else h.tanh()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "branching"])
def test_networks_that_cannot_be_batched(name):
    """Sampling, prediction and export, against the network called with each draw's weights."""
    torch.manual_seed(0)
    net = Branching() if name == "branching" else Recurrent(getattr(torch.nn, name))
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    model = bp.attach(net, bp.priors.Normal(0.0, 0.7))
    given = bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True))
    draws = sample(given)
    together = sample(given, chunk_size=2)
    torch.testing.assert_close(together.theta, draws.theta, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        expected = torch.stack(
            [model.export(given.layout.unpack(row))(x) for row in draws.theta.flatten(0, 1)]
        )
    torch.testing.assert_close(draws.predict(x).outputs_by_chain().flatten(0, 1), expected)
    assert draws.to_arviz(num_prior=2).posterior_predictive["y"].shape == (2, 3, 6, 1)


class Own(torch.nn.Module):
    """A network with a submodule or parameter of its own called `likelihood`."""

    def __init__(self, **parts):
        super().__init__()
        self.likelihood = torch.nn.Module()
        for name, part in parts.items():
            setattr(self.likelihood, name, part)

    def forward(self, x):
        h = x * self.likelihood.scale if hasattr(self.likelihood, "scale") else x
        return self.likelihood.head(h)


@pytest.mark.parametrize("noise", [0.5, bp.priors.HalfCauchy(1.0)])
def test_a_submodule_called_likelihood(noise):
    """The run of the same network under another name."""
    x = torch.linspace(-1, 1, 10)[:, None]
    found = []
    for net in (Own(head=torch.nn.Linear(1, 1)), torch.nn.Sequential(torch.nn.Linear(1, 1))):
        model = bp.attach(net, bp.priors.Normal(0.0, bp.priors.Gamma(2.0, 1.0)))
        draws = sample(bp.Posterior(model, bp.likelihoods.Gaussian(noise), x, 2 * x))
        tree = draws.to_arviz(num_prior=2)
        found.append((draws, draws.predict(x), tree.log_likelihood["y"].to_numpy()))
    (ours, prediction, density), (theirs, expected, other) = found
    assert ours.names[:2] == ("likelihood.head.weight", "likelihood.head.bias")
    assert ("likelihood.scale" in ours.names) is not isinstance(noise, float)
    assert torch.equal(ours["likelihood.head.weight"], theirs["0.weight"])
    assert torch.equal(prediction.mean, expected.mean)
    assert torch.equal(prediction.variance, expected.variance)
    assert (density == other).all()


def test_a_parameter_with_the_name_of_a_latent_of_the_likelihood_is_refused():
    x = torch.ones(3, 1)
    net = Own(head=torch.nn.Linear(1, 1), scale=torch.nn.Parameter(torch.ones(1)))
    model = bp.attach(net, bp.priors.Normal())
    with pytest.raises(ValueError, match=r"both have a parameter 'likelihood\.scale'.*rename the network's"):
        bp.Posterior(model, bp.likelihoods.Gaussian(bp.priors.HalfCauchy(1.0)), x, x)
    assert bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x).dim == 3
