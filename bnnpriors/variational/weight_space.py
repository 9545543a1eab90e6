"""Gaussian families over the flat latents of a posterior: diagonal, full and low rank."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn

from ..counts import as_integer
from ..posterior import Posterior
from .gaussian_fit import GaussianFit


class MeanField(GaussianFit):
    """q = N(μ, diag σ²): every latent by itself (Blundell et al. 1505.05424)."""

    is_diagonal = True

    def law(self) -> distributions.Distribution:
        """See `GaussianFit`."""
        return distributions.Independent(
            distributions.Normal(self.loc, self.raw_scale.exp(), False), 1, False
        )

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws dim"]:
        """μ + σ ε."""
        return self.loc + self.raw_scale.exp() * noise

    def spread(self, jacobian: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows size"]:
        """J diag σ."""
        return jacobian * self.raw_scale.exp()


class FullRank(GaussianFit):
    """q = N(μ, LLᵀ), L = diag σ (I + B), B lower triangular; it has dim² numbers, so for up to a few thousand latents."""

    def __init__(
        self, posterior: Posterior, *, scale: float = 0.05, init: str = "prior", seed: int = 0
    ) -> None:
        super().__init__(posterior, scale=scale, init=init, seed=seed)
        dim = posterior.dim
        self.below = nn.Parameter(torch.zeros(dim, dim, dtype=self.loc.dtype, device=self.loc.device))

    def factor(self) -> Float[Tensor, "dim dim"]:
        """L."""
        unit = torch.eye(len(self.loc), dtype=self.loc.dtype, device=self.loc.device)
        return self.raw_scale.exp()[:, None] * (unit + self.below.tril(-1))

    def law(self) -> distributions.Distribution:
        """See `GaussianFit`."""
        return distributions.MultivariateNormal(self.loc, scale_tril=self.factor(), validate_args=False)

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws dim"]:
        """μ + L ε."""
        return self.loc + noise @ self.factor().mT

    def spread(self, jacobian: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows size"]:
        """J L."""
        return jacobian @ self.factor()


class LowRank(GaussianFit):
    """q = N(μ, diag σ² + VVᵀ), V = diag σ C, C [dim, rank] (Ong, Nott & Smith 2018): correlations for networks of any size.

    Args:
        rank: columns of C. Others as for `GaussianFit`.
    """

    def __init__(
        self, posterior: Posterior, *, rank: int = 10, scale: float = 0.05, init: str = "prior", seed: int = 0
    ) -> None:
        super().__init__(posterior, scale=scale, init=init, seed=seed)
        count = as_integer(rank)
        if count is None or not 1 <= count <= posterior.dim:
            raise ValueError(f"LowRank: rank {rank!r} given, expected an integer from 1 to {posterior.dim}")
        generator = torch.Generator(posterior.device).manual_seed(seed)
        start = torch.empty(posterior.dim, count, dtype=self.loc.dtype, device=self.loc.device)
        self.columns = nn.Parameter(0.1 * start.normal_(generator=generator))

    def factor(self) -> Float[Tensor, "dim rank"]:
        """V."""
        return self.raw_scale.exp()[:, None] * self.columns

    def noise_size(self) -> int:
        """See `GaussianFit`."""
        return len(self.loc) + self.columns.shape[1]

    def law(self) -> distributions.Distribution:
        """See `GaussianFit`."""
        return distributions.LowRankMultivariateNormal(
            self.loc, self.factor(), (2 * self.raw_scale).exp(), validate_args=False
        )

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws dim"]:
        """μ + σ ε + V z."""
        own, shared = noise.split([len(self.loc), self.columns.shape[1]], 1)
        return self.loc + self.raw_scale.exp() * own + shared @ self.factor().mT

    def spread(self, jacobian: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows size"]:
        """(J diag σ, J V)."""
        return torch.cat([jacobian * self.raw_scale.exp(), jacobian @ self.factor()], 1)
