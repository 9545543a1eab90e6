"""Normal distributions over weights or function values, and how far apart two of them are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RANK_TOLERANCE = 1e-10
"""Eigenvalues below this share of the largest count as zero."""


class IllDefinedError(ValueError):
    """A divergence that is infinite, with the reason and what to do."""


class Gaussian(NamedTuple):
    """N(mean, covariance), perhaps without a density: covariances may be singular.

    Attributes:
        mean: [dim]. covariance: [dim, dim].
    """

    mean: Tensor
    covariance: Tensor

    def image(self, features: Float[Tensor, "points dim"]) -> Gaussian:
        """The law of features · w for w of this law: of function values at points, f = Φw."""
        return Gaussian(features @ self.mean, features @ self.covariance @ features.mT)

    def noisy(self, scale: float) -> Gaussian:
        """The law after independent normal noise of this standard deviation in each coordinate."""
        identity = torch.eye(len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return Gaussian(self.mean, self.covariance + scale**2 * identity)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count dim"]:
        """Independent draws, with gradients in the mean and the covariance where that is positive definite."""
        noise = torch.randn(
            count, len(self.mean), generator=generator, dtype=self.mean.dtype, device=self.mean.device
        )
        return self.mean + noise @ root(self.covariance).mT

    def log_prob(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, " *batch"]:
        """Log density; torch's `LinAlgError` where there is none."""
        law = torch.distributions.MultivariateNormal(self.mean, self.covariance, validate_args=False)
        return law.log_prob(x)


def root(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """A with AAᵀ = covariance: the Cholesky factor, or where the covariance is singular eigenvectors times √eigenvalue."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    if not bool(info):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def kl_divergence(q: Gaussian, p: Gaussian) -> Float[Tensor, ""]:
    """KL(q‖p) = ½ [tr B⁻¹A + δᵀB⁻¹δ − d + log |B|/|A|] for covariances A of q and B of p, δ the difference of means; in nats.

    Where B is singular both laws must live in its range, of dimension d, and all terms are taken there: it is the divergence of
    coordinates in that range. With gradients.

    Raises:
        IllDefinedError: the divergence is infinite: q has mass where p has none, or A is singular in the range of B.
    """
    values, vectors = torch.linalg.eigh(p.covariance.detach())
    kept = values > RANK_TOLERANCE * values[-1]
    rank = int(kept.sum())
    if rank < len(values):
        _check_range(q, p, vectors[:, ~kept], float(values[-1]))
        q, p = q.image(vectors[:, kept].mT), p.image(vectors[:, kept].mT)
    own = torch.linalg.eigvalsh(q.covariance.detach())
    own_rank = int((own > RANK_TOLERANCE * own[-1]).sum())
    if own_rank < rank:
        raise IllDefinedError(
            f"KL(q‖p) is infinite: q has rank {own_rank} in the {rank} dimensions where p has a density, as a model of "
            f"{own_rank} weights has against a non-degenerate Gaussian process. Give noise to the function values (jitter), "
            "take a prior of the same weights, or at most as many measurement points as q has weights"
        )
    return regular_divergence(q, p)


def _check_range(q: Gaussian, p: Gaussian, outside: Tensor, scale: float) -> None:
    """Raise IllDefinedError where q has mass in directions in which p has none."""
    spread = (outside.mT @ q.covariance @ outside).diagonal().sum()
    strays = spread + (outside.mT @ (q.mean - p.mean)).square().sum()
    if float(strays.detach()) > 1e3 * RANK_TOLERANCE * scale * len(p.mean):
        raise IllDefinedError(
            f"KL(q‖p) is infinite: p has rank {len(p.mean) - outside.shape[1]} in {len(p.mean)} dimensions and q has mass "
            "outside its range. Use a prior with a density there (a GP kernel of full rank), or fewer measurement points"
        )


def regular_divergence(q: Gaussian, p: Gaussian) -> Float[Tensor, ""]:
    """`kl_divergence` of laws that both have densities, without looking whether they do."""
    factor, other = torch.linalg.cholesky(q.covariance), torch.linalg.cholesky(p.covariance)
    white = torch.linalg.solve_triangular(other, factor, upper=False)
    moved = torch.linalg.solve_triangular(other, (q.mean - p.mean)[:, None], upper=False)
    log_ratio = 2 * (other.diagonal().log() - factor.diagonal().log()).sum()
    return 0.5 * (white.square().sum() + moved.square().sum() - len(q.mean) + log_ratio)


def wasserstein_squared(q: Gaussian, p: Gaussian) -> Float[Tensor, ""]:
    """W₂² = |δ|² + tr(A + B − 2 (B^½ A B^½)^½) (Givens & Shortt 1984), in the squared unit of x; with
    singular covariances too."""
    half = root(p.covariance)
    cross = torch.linalg.eigvalsh(half.mT @ q.covariance @ half).clamp_min(0).sqrt().sum()
    traces = q.covariance.diagonal().sum() + p.covariance.diagonal().sum()
    return ((q.mean - p.mean).square().sum() + traces - 2 * cross).clamp_min(0)


def functional_kl(q: Gaussian, p: Gaussian, *, jitter: float = 0.0) -> Float[Tensor, ""]:
    """KL_X̃ = KL(q(f_X̃)‖p(f_X̃)) between function values at measurement points (Sun et al. 1903.05779; Burt et al. 2011.09421).

    Args:
        q, p: laws of the function values at the points, such as `weights.image(features)`, or a GP prior's.
        jitter: standard deviation η of noise that both laws are given: A + η²I and B + η²I. Where q has rank r below the number n
            of points and p has full rank, the divergence is infinite without it, and grows by (n − r) ln 10 for every factor of
            ten by which η falls: it then says more about η than about q.

    Raises:
        ValueError: a negative jitter. IllDefinedError: the divergence is infinite.
    """
    if not jitter >= 0:
        raise ValueError(f"functional_kl: jitter {jitter} given, expected a standard deviation from 0")
    return regular_divergence(q.noisy(jitter), p.noisy(jitter)) if jitter else kl_divergence(q, p)
