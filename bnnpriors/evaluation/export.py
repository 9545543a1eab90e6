"""Draws as an ArviZ `DataTree`, for ArviZ's own tables, plots and model comparison."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from ..posterior import Posterior
from ..priors import Improper
from .per_draw import per_draw
from .sampled import SamplePredictive

if TYPE_CHECKING:
    from ..draws import Draws
    from ..joint import Joint

Group = dict[str, NDArray[Any]]

ARVIZ_NAMES = {"acceptance": "acceptance_rate", "divergent": "diverging"}
DRAWS_AT_ONCE = 16


def to_arviz(draws: Draws, joint: Joint, *, seed: int = 0, num_prior: int = 500) -> Any:
    """A `DataTree` of `draws`, which must be of one temperature.

    Groups: `posterior` (weights and hyperparameters themselves, not latents); `sample_stats` with ArviZ's names
    `acceptance_rate`, `diverging`, `energy`, `step_size`, and `lp` = −U/T, the log density that the chains target up to a
    constant; `prior`, `num_prior` draws, without parameters under an improper prior. Where `joint` is a posterior with
    data, also `observed_data` (the training targets `y`), `log_likelihood` of each of them [chains, draws, N], and
    `posterior_predictive`, one new `y` a draw, if the likelihood can be sampled (see `SamplePredictive`).

    Args:
        seed: fixes the draws of `prior` and `posterior_predictive`.
    """
    import arviz_base

    generator = torch.Generator(joint.device).manual_seed(seed)
    groups = {
        "posterior": {name: _array(value) for name, value in draws.values().items()},
        "sample_stats": _sample_stats(draws),
        "prior": _prior(joint, num_prior, generator),
    }
    if isinstance(joint, Posterior) and joint.data.x is not None and joint.data.y is not None:
        groups |= _data_groups(draws, joint, joint.data.x, joint.data.y, generator)
    elif joint.likelihood is not None:
        warnings.warn(
            "to_arviz: a store holds no training data, so the groups posterior_predictive, log_likelihood and observed_data are "
            f"left out; open it with bp.Draws.open({str(draws.path)!r}, posterior=post) to have them",
            stacklevel=3,
        )
    return arviz_base.from_dict({name: group for name, group in groups.items() if group})


def _sample_stats(draws: Draws) -> Group:
    stats = {ARVIZ_NAMES.get(name, name): _array(value) for name, value in draws.stats.items()}
    if "potential" in stats:
        stats["lp"] = -stats.pop("potential") / _array(draws.temperatures)[:, None]
    return stats


def _prior(joint: Joint, count: int, generator: torch.Generator) -> Group:
    sites = [site for top in joint.model.sites for site in top.walk()]
    improper = {site.name for site in sites if isinstance(site.prior, Improper)}
    theta = torch.stack([joint.sample_prior(generator) for _ in range(count)])
    values: Mapping[str, Tensor] = vmap(joint.values)(theta)
    return {name: _array(value[None]) for name, value in values.items() if name not in improper}


def _data_groups(
    draws: Draws, posterior: Posterior, x: Tensor, y: Tensor, generator: torch.Generator
) -> dict[str, Group]:
    """Groups on the training data, a few draws at a time: the network's outputs of all draws may not fit the memory."""
    predicted, log_likelihood = [], []
    likelihood = posterior.test_likelihood
    for theta in draws.theta.flatten(0, 1).to(posterior.device).split(DRAWS_AT_ONCE):
        outputs = posterior.outputs(theta, x)
        latents = posterior.likelihood_swaps(draws.layout.unpack(theta))
        log_likelihood.append(per_draw(likelihood, "log_prob", latents, outputs, y).cpu())
        if _can_sample(likelihood):
            predicted += [
                _new_targets(posterior, outputs, latents, draw, generator) for draw in range(len(theta))
            ]
    groups = {
        "observed_data": {"y": _array(y)},
        "log_likelihood": _by_chain(draws, torch.cat(log_likelihood)),
    }
    return groups | ({"posterior_predictive": _by_chain(draws, torch.cat(predicted))} if predicted else {})


def _can_sample(likelihood: Any) -> bool:
    needed = {"regression": ("mean", "variance"), "classification": ("log_probs",)}
    kind = getattr(likelihood, "kind", None)
    return kind in needed and all(hasattr(likelihood, name) for name in needed[kind])


def _new_targets(
    posterior: Posterior,
    outputs: Float[Tensor, "draws batch *out"],
    latents: Mapping[str, Tensor],
    draw: int,
    generator: torch.Generator,
) -> Tensor:
    own = {name: value[draw : draw + 1] for name, value in latents.items()}
    one = SamplePredictive(outputs[draw : draw + 1], posterior.test_likelihood, own)
    return one.sample(1, generator=generator).cpu()


def _by_chain(draws: Draws, values: Tensor) -> Group:
    return {"y": _array(values.unflatten(0, (draws.num_chains, -1)))}


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().cpu().numpy()
