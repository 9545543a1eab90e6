"""The loss that the optimizers of this package take."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..counts import as_integer
from ..likelihoods import Likelihood
from ..module import BayesianModule


def potential(model: BayesianModule, likelihood: Any, x: Any, y: Any, *, num_data: int) -> Float[Tensor, ""]:
    """Û(θ)/N = −(1/B) Σ_batch log p(y_i | x_i, θ) − log p(θ)/N: the potential for each of N data, estimated on a batch.

    This is the loss of `bp.optim`, on the scale of a deep-learning loss; Û = N · loss, summed over all data, is what is sampled.

    Args:
        model: from `bp.attach`, at its present latents. likelihood: as for `bp.Posterior`; where it has latents of its own, their
            prior is included: give `[*model.parameters(), *likelihood.parameters()]` to the optimizer.
        x: inputs [batch, ...]. y: targets [batch, ...], as the likelihood's `log_prob` takes them.
        num_data: N, examples in the training set, not in the batch.

    Raises:
        ValueError: num_data that is no integer from 1, or log likelihoods that are not one number an example.
    """
    count = as_integer(num_data)
    if count is None or count < 1:
        raise ValueError(
            f"potential: num_data {num_data!r} given, expected the size of the training set, an integer from 1"
        )
    each = likelihood.log_prob(model(x), y)
    if each.shape != (len(x),):
        raise ValueError(
            f"potential: log_prob returned shape {tuple(each.shape)} for {len(x)} examples, expected ({len(x)},): one number each"
        )
    log_prior = model.log_prior()
    if isinstance(likelihood, Likelihood) and likelihood.sites:
        log_prior = log_prior + likelihood.log_prior()
    return -(each.mean() + log_prior / count)
