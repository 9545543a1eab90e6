"""Warnings of settings under which a fit in function space is too sure."""

from __future__ import annotations

import warnings

from jaxtyping import Float
from torch import Tensor

from ..likelihoods import Gaussian
from ..posterior import Posterior
from .noise import noise_at

SMALL_JITTER = 0.25
"""The share of the noise of the observations up to which a jitter hides little: its square is a sixteenth of their variance."""


def warn_of_few_points(posterior: Posterior, points: Tensor) -> None:
    """Say so where there are fewer measurement points than data, and fewer values there than latents of the network."""
    x, latents = posterior.data.x, posterior.model.layout.dim
    assert x is not None
    if len(points) < len(x) and len(points) * posterior.model(x[:1]).numel() < latents:
        warnings.warn(
            f"FunctionSpace: {len(points)} measurement points for {len(x)} training inputs and {latents} latents of the network: "
            "the likelihood counts all data, the divergence these points alone, so q over-fits and is too sure. Take "
            "measurement='training' where it can be afforded, or as many points as you can, and judge by held-out data",
            stacklevel=3,
        )


def warn_of_jitter(posterior: Posterior, theta: Float[Tensor, " dim"], jitter: float) -> None:
    """Say so where the jitter is not small against the noise of a Gaussian likelihood at θ."""
    if not isinstance(posterior.likelihood, Gaussian):
        return
    noise = noise_at(posterior, theta.detach()) * posterior.temperatures[0] ** 0.5
    if jitter > SMALL_JITTER * noise:
        warnings.warn(
            f"FunctionSpace: jitter {jitter:g} for observations whose noise is {noise:.2g}: the divergence does not see what is "
            f"smaller than its jitter, and the likelihood does, so q over-fits and the objective can be above the log evidence. "
            f"Take a jitter of {SMALL_JITTER * noise:.1g} or less",
            stacklevel=3,
        )
