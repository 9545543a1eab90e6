"""Where a fit begins: a draw from the prior, not an extreme one of its scales."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Posterior

CANDIDATES = 101
"""Draws from the prior of which a fit begins at one."""


def central_draw(posterior: Posterior, seed: int) -> Float[Tensor, " dim"]:
    """The draw of all latents, of 101 from the prior, whose hyperparameters are nearest to their medians, the likelihood's among
    them: the largest distance counts, in units of the median distance. The first draw where there are none.

    A start with an extreme scale is expensive: gradients go with 1/σ², so that under a noise of 0.01 those of the first steps
    are 10⁴ times those at the end, and Adam, which remembers squares for a thousand steps, stands nearly still long after.
    """
    generator = torch.Generator(posterior.device).manual_seed(seed)
    first = posterior.sample_prior(generator)
    weights = {name for site in posterior.model.sites for name in site.members}
    hyper = [i for i, name in enumerate(posterior.layout.names) if name not in weights]
    if not hyper:
        return first
    draws = torch.stack([first, *(posterior.sample_prior(generator) for _ in range(CANDIDATES - 1))])
    parts = list(posterior.layout.unpack(draws).values())
    values = torch.cat([parts[i].reshape(len(draws), -1) for i in hyper], 1)
    apart = (values - values.median(0).values).abs()
    return draws[(apart / apart.median(0).values.clamp_min(1e-9)).amax(1).argmin()]
