"""Call one method of a likelihood for every posterior draw, with that draw's latents in place."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..likelihoods import Likelihood


def per_draw(
    likelihood: Any,
    method: str,
    latents: Mapping[str, Tensor],
    outputs: Float[Tensor, "draws batch *out"],
    *shared: Tensor,
) -> Float[Tensor, "draws *result"]:
    """`likelihood.method(outputs[s], *shared)` for every draw s, stacked.

    A module goes through `torch.func.vmap`, with `latents` (parameter name -> [draws, *shape]) substituted;
    any other object is called draw by draw, so its code need not be traceable. Raises `TypeError` where
    there is no such method.
    """
    call = getattr(likelihood, method, None)
    if call is None:
        raise TypeError(
            f"likelihood {type(likelihood).__name__} has no method {method!r}: define it in your class to "
            "get this figure"
        )
    if not isinstance(likelihood, nn.Module):
        return torch.stack([call(output, *shared) for output in outputs])
    module = _Method(likelihood, method)
    named = {f"likelihood.{name}": value for name, value in latents.items()}

    def one(latent: dict[str, Tensor], output: Tensor) -> Tensor:
        return torch.func.functional_call(module, latent, (output, *shared))

    return torch.func.vmap(one)(named, outputs)


def checked_latents(likelihood: Any, latents: Mapping[str, Tensor], num_draws: int) -> dict[str, Tensor]:
    """Latents by the name of the parameter that they replace, each [draws, *shape].

    Accepts the names of `likelihood.latents()` or of the parameters. Raises `ValueError` for unknown names,
    a shape that is not [draws, *shape], or a likelihood that is not an `nn.Module`.
    """
    if not latents:
        return {}
    if not isinstance(likelihood, nn.Module):
        raise ValueError(
            f"latents {sorted(latents)} for {type(likelihood).__name__}: only an nn.Module can take latents "
            "draw by draw; make the likelihood one, with those parameters"
        )
    known = dict(likelihood.named_parameters())
    if isinstance(likelihood, Likelihood) and not set(latents) <= set(known):
        latents = likelihood.swaps(latents)
    for name, value in latents.items():
        if name not in known:
            raise ValueError(f"latent {name!r}: expected one of the likelihood's parameters, {sorted(known)}")
        expected = (num_draws, *known[name].shape)
        if tuple(value.shape) != expected:
            raise ValueError(
                f"latent {name!r} {tuple(value.shape)}: expected {expected}, one value of the parameter a "
                "draw"
            )
    return dict(latents)


class _Method(nn.Module):
    """A module whose forward is one method of the likelihood, so that `functional_call` reaches it."""

    def __init__(self, likelihood: nn.Module, method: str) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.method = method

    def forward(self, *args: Tensor) -> Tensor:
        return getattr(self.likelihood, self.method)(*args)
