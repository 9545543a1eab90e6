"""Where a fit begins: a draw from the prior whose scales are not extreme."""

from __future__ import annotations

import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import MeanField
from bnnpriors.variational.beginning import CANDIDATES, central_draw

from .function_space import network, wave


def hierarchical() -> bp.Posterior:
    model = bp.attach(
        nn.Linear(1, 1).double(),
        {"weight": P.Normal(0.0, P.HalfCauchy(1.0), centred=False), "bias": P.Normal(0.0, 1.0)},
    )
    return bp.Posterior(model, bp.likelihoods.Gaussian(P.HalfNormal(1.0)), *wave())


def test_its_hyperparameters_are_near_their_medians_and_it_is_a_draw() -> None:
    """Two of them, at 30 seeds: between the 20 % and 80 % quantiles of the prior, where a third of all draws are."""
    posterior = hierarchical()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([posterior.sample_prior(generator) for _ in range(2000)])
    assert torch.equal(central_draw(posterior, 0), MeanField(posterior).loc)
    assert bool((draws[:CANDIDATES] == central_draw(posterior, 0)).all(1).any())
    hyper = [i for i, name in enumerate(posterior.layout.names) if name.endswith("scale")]
    low, high = draws[:, hyper].quantile(torch.tensor([0.2, 0.8], dtype=torch.float64), 0)
    starts = torch.stack([central_draw(posterior, seed) for seed in range(30)])
    assert bool(((starts[:, hyper] > low) & (starts[:, hyper] < high)).all())
    assert float(starts[:, 0].std()) > 0.3


def test_without_hyperparameters_it_is_the_first_draw() -> None:
    posterior = bp.Posterior(network(3, nn.Tanh()), bp.likelihoods.Gaussian(0.5), *wave())
    first = posterior.sample_prior(torch.Generator().manual_seed(4))
    assert torch.equal(central_draw(posterior, 4), first)
