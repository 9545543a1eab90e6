"""The latents whose prior is normal with fixed parameters: their part of E_q[−log p(θ)] has a closed form for a Gaussian q."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..posterior import Posterior
from ..priors import Normal


class NormalPart(NamedTuple):
    """Latents under N(loc, scale²), independently; other latents are not in it.

    Attributes:
        places: of these latents in θ. loc, scale: of each.
    """

    places: Int[Tensor, " part"]
    loc: Float[Tensor, " part"]
    scale: Float[Tensor, " part"]

    def energy(self, theta: Float[Tensor, "draws dim"]) -> Float[Tensor, " draws"]:
        """Σ (θ − loc)²/(2 scale²): −log p without its constant."""
        return 0.5 * ((theta[:, self.places] - self.loc) / self.scale).square().sum(1)

    def gradient(self, theta: Float[Tensor, "draws dim"]) -> Float[Tensor, "draws dim"]:
        """That of `energy`, zero for latents that are not in it."""
        found = torch.zeros_like(theta)
        found[:, self.places] = (theta[:, self.places] - self.loc) / self.scale**2
        return found

    def expected(self, mean: Float[Tensor, " dim"], variance: Float[Tensor, " dim"]) -> Float[Tensor, ""]:
        """E[energy] = Σ ((mean − loc)² + variance)/(2 scale²) for a law of these moments, with gradients."""
        squares = (mean[self.places] - self.loc).square() + variance[self.places]
        return 0.5 * (squares / self.scale**2).sum()


def normal_part(posterior: Posterior) -> NormalPart | None:
    """These latents of a model, if any: of normal priors with fixed parameters, and z of the non-centred form loc + scale z."""
    starts, place = {}, 0
    for name, size in zip(posterior.layout.names, posterior.layout.sizes, strict=True):
        starts[name] = range(place, place + size)
        place += size
    places: list[int] = []
    loc: list[Tensor] = []
    scale: list[Tensor] = []
    for site in posterior.model.sites:
        prior = site.prior
        if type(prior) is not Normal or (prior.centred and site.children):
            continue
        numbers = (prior.loc, prior.scale) if prior.centred else (0.0, 1.0)
        for column, value in zip((loc, scale), numbers, strict=True):
            full = torch.as_tensor(value, dtype=posterior.dtype, device=posterior.device)
            column.append(full.expand(site.shape).reshape(-1))
        places += [i for name in site.members for i in starts[name]]
    if not places:
        return None
    return NormalPart(torch.tensor(places, device=posterior.device), torch.cat(loc), torch.cat(scale))
