"""The noise of a Gaussian likelihood at a point of the posterior: its value, another value, and that of highest evidence."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..joint import LIKELIHOOD
from ..likelihoods import Gaussian
from ..posterior import Posterior
from .curvature import Local, indices_of
from .precision import Precision


def check_noise(posterior: Posterior, noise: str) -> None:
    """Raise ValueError for another rule than "maximum" and "evidence", or where there is no noise to choose."""
    if noise not in ("maximum", "evidence"):
        raise ValueError(f"fit: noise {noise!r} given, expected 'maximum' or 'evidence'")
    likelihood = posterior.likelihood
    if noise == "evidence" and not (isinstance(likelihood, Gaussian) and likelihood.sites):
        raise ValueError(
            f"fit: noise='evidence' given with {type(likelihood).__name__}, expected a Gaussian likelihood whose scale has a "
            "prior: there is no noise to choose"
        )


def noise_at(posterior: Posterior, theta: Float[Tensor, " dim"]) -> float:
    """σ of a Gaussian likelihood at θ; 1 for others."""
    likelihood = posterior.likelihood
    if not isinstance(likelihood, Gaussian):
        return 1.0
    if likelihood.sites:
        return float(posterior.values(theta, ["likelihood.scale"])["likelihood.scale"])
    return float(likelihood.scale)


def with_noise(posterior: Posterior, theta: Float[Tensor, " dim"], noise: float) -> Float[Tensor, " dim"]:
    """θ with the latent of the likelihood's scale at the value that gives `noise`."""
    likelihood = posterior.likelihood
    own = dict(likelihood.latents())
    latent = next(site for site in likelihood.sites if site.name == "scale").latent_of(
        theta.new_tensor(noise), own
    )
    return theta.index_copy(0, indices_of(posterior, [LIKELIHOOD + "scale"]), latent.reshape(1))


def noise_of_evidence(posterior: Posterior, local: Local, precision: Precision) -> float:
    """√(Σ|y − f|²/(N − γ)), γ from the variances of the outputs: tr G(G + H)⁻¹ = Σ J(G + H)⁻¹Jᵀ/σ²."""
    x, y = posterior.data.x, posterior.data.y
    assert x is not None
    assert y is not None
    residual = determined = 0.0
    for part, outputs, rows in local.blocks(x):
        residual += float((y[part].flatten(1) - outputs).square().sum(dtype=torch.float64))
        determined += float(precision.variances(rows).sum(dtype=torch.float64))
    determined /= noise_at(posterior, local.theta) ** 2 * posterior.temperatures[0]
    return math.sqrt(residual / max(y.numel() - determined, 1.0))
