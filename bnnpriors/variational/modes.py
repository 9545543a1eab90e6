"""Where a Laplace approximation stands: a maximum of the posterior, by Adam and then by L-BFGS."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..joint import LIKELIHOOD
from ..posterior import Posterior
from .curvature import indices_of
from .precision import Precision

AT_MAXIMUM = 1e-6
"""The gradient in coordinates of curvature one, which is a distance in standard deviations, at which a climb ends."""


def climb(
    posterior: Posterior, num_steps: int, rate: float, num_starts: int, init: str, seed: int, progress: bool
) -> Float[Tensor, " dim"]:
    """The highest of the maxima that Adam finds."""
    if not num_steps:
        generator = torch.Generator(posterior.device).manual_seed(seed)
        return posterior.current() if init == "model" else posterior.sample_prior(generator)
    from ..samplers import MAP
    from ..sampling import sample

    draws = sample(
        posterior,
        MAP(step_size=rate),
        num_samples=1,
        num_warmup=num_steps,
        num_chains=num_starts,
        seed=seed,
        init=init,
        progress=progress,
    )
    found = draws.theta[:, 0].to(posterior.device)
    return found[posterior.log_density(found).argmax()]


def polish(
    posterior: Posterior,
    theta: Float[Tensor, " dim"],
    num_steps: int,
    *,
    chosen: Int[Tensor, " size"],
    precision: Precision | None,
    hold_noise: bool = False,
) -> Float[Tensor, " dim"]:
    """Where L-BFGS leads from θ on the full data, in coordinates in which the curvature there is about one.

    Those of the chosen latents are φ, with θ = θ₀ + P^(−½)φ: in the latents themselves curvatures are from one, along directions
    that the data do not tell of, to N/σ² times that of the network, and L-BFGS stands still long before the maximum. All other
    latents, and the chosen where P is not positive, have φ/√N.

    Args:
        num_steps: iterations, at most. precision: P at θ. hold_noise: whether the latents of the likelihood stay.

    Returns:
        θ itself where nothing higher is found.
    """
    target = posterior.target(1).uncompiled()
    scale = torch.full_like(theta, target.num_data**-0.5)
    if hold_noise and (held := [name for name in posterior.layout.names if name.startswith(LIKELIHOOD)]):
        scale[indices_of(posterior, held)] = 0.0
    point = torch.nn.Parameter(torch.zeros_like(theta))
    optimiser = torch.optim.LBFGS(
        [point],
        max_iter=num_steps,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=AT_MAXIMUM,
        tolerance_change=0,
    )

    def place() -> Tensor:
        moved = scale * point
        if precision is not None:
            moved = moved.index_copy(0, chosen, precision.push(point[None, chosen])[0])
        return theta + moved

    def closure() -> Tensor:
        optimiser.zero_grad()
        at = place()
        value, gradient = target.value_and_gradient(at.detach()[None])
        at.backward(gradient[0] / posterior.temperatures[0])
        return value[0] / posterior.temperatures[0]

    optimiser.step(closure)
    found = place().detach()
    better = bool(found.isfinite().all()) and posterior.log_density(torch.stack([theta, found])).argmax() == 1
    return found if better else theta
