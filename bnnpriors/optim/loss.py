"""The loss that the optimizers of this package take."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..counts import as_integer
from ..likelihoods import Augmented, Likelihood
from ..module import BayesianModule


def potential(
    model: BayesianModule,
    likelihood: Any,
    x: Any,
    y: Any,
    *,
    num_data: int,
    generator: torch.Generator | None = None,
    copies_at_once: int | None = None,
) -> Float[Tensor, ""]:
    """Û(θ)/N = −(1/B) Σ_batch log p(y_i | x_i, θ) − log p(θ)/N: the potential for each of N data, estimated on a batch.

    This is the loss of `bp.optim`, on the scale of a deep-learning loss; Û = N · loss, summed over all data, is what is sampled.

    Args:
        model: from `bp.attach`, at its present latents. likelihood: as for `bp.Posterior`; where it has latents of its own, their
            prior is included: give `[*model.parameters(), *likelihood.parameters()]` to the optimizer.
        x: inputs [batch, ...]. y: targets [batch, ...], as the likelihood's `log_prob` takes them.
        num_data: N, examples in the training set, not in the batch; copies under an augmented likelihood are no data.
        generator: of the transformations of an augmented likelihood over a full orbit; save its state with the model's.
        copies_at_once: how many copies of each example an augmented likelihood holds in memory; the forward pass of each part is
            then done again in the backward pass. None holds all.

    Raises:
        ValueError: num_data or copies_at_once that is no integer from 1, log likelihoods that are not one number an example, or
            random transformations without a generator.
    """
    count = as_integer(num_data)
    if count is None or count < 1:
        raise ValueError(
            f"potential: num_data {num_data!r} given, expected the size of the training set, an integer from 1"
        )
    if isinstance(likelihood, Augmented):
        each = _augmented(model, likelihood, x, y, generator, copies_at_once)
    else:
        each = likelihood.log_prob(model(x), y)
    if each.shape != (len(x),):
        raise ValueError(
            f"potential: log_prob returned shape {tuple(each.shape)} for {len(x)} examples, expected ({len(x)},): one number each"
        )
    log_prior = model.log_prior()
    if isinstance(likelihood, Likelihood) and likelihood.sites:
        log_prior = log_prior + likelihood.log_prior()
    return -(each.mean() + log_prior / count)


def _augmented(
    model: BayesianModule,
    likelihood: Augmented,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator | None,
    copies_at_once: int | None,
) -> Float[Tensor, " batch"]:
    """The average over copies, all of them at once or some at a time."""
    if copies_at_once is None:
        return likelihood.combine(likelihood.outputs(model, x, generator), y)
    size = as_integer(copies_at_once)
    if size is None or size < 1:
        raise ValueError(f"potential: copies_at_once {copies_at_once!r} given, expected an integer from 1")
    copies = likelihood.draw(x, generator)
    parts = [checkpoint(model, part.flatten(0, 1), use_reentrant=False) for part in copies.split(size, dim=1)]
    outputs = [part.unflatten(0, (len(x), -1)) for part in parts]
    return likelihood.combine(torch.cat(outputs, dim=1), y)
