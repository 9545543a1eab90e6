"""Where a Laplace approximation stands: a maximum of the posterior, by Adam and then by L-BFGS."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..joint import LIKELIHOOD
from ..posterior import Posterior
from .curvature import indices_of


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
    posterior: Posterior, theta: Float[Tensor, " dim"], num_steps: int, *, hold_noise: bool = False
) -> Float[Tensor, " dim"]:
    """Where L-BFGS leads from θ on the full data; the latents of the likelihood stay where `hold_noise`."""
    if not num_steps:
        return theta
    target = posterior.target(1).uncompiled()
    held = [name for name in posterior.layout.names if hold_noise and name.startswith(LIKELIHOOD)]
    still = indices_of(posterior, held) if held else None
    point = torch.nn.Parameter(theta.detach().clone())
    optimiser = torch.optim.LBFGS(
        [point],
        max_iter=num_steps,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=0,
    )

    def closure() -> Tensor:
        value, gradient = target.value_and_gradient(point.detach()[None])
        point.grad = gradient[0] / target.num_data
        if still is not None:
            point.grad[still] = 0.0
        return value[0] / target.num_data

    optimiser.step(closure)
    found = point.detach()
    better = bool(found.isfinite().all()) and posterior.log_density(torch.stack([theta, found])).argmax() == 1
    return found if better else theta


def with_noise(posterior: Posterior, theta: Float[Tensor, " dim"], noise: float) -> Float[Tensor, " dim"]:
    """θ with the latent of the likelihood's scale at the value that gives `noise`."""
    likelihood = posterior.likelihood
    name = LIKELIHOOD + "scale"
    own = dict(likelihood.latents())
    latent = next(site for site in likelihood.sites if site.name == "scale").latent_of(
        theta.new_tensor(noise), own
    )
    return theta.index_copy(0, indices_of(posterior, [name]), latent.reshape(1))
