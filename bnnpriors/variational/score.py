"""The score of a distribution that only its samples are known of: the spectral Stein gradient estimator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .gaussian import RANK_TOLERANCE, Gaussian

Score = Callable[[Tensor], Tensor]


class SpectralScore:
    """SSGE (Shi, Sun & Zhu 2018, 1806.02925, eq. 9 and 14): ∇ log q(x) ≈ Σ_{j ≤ J} β_j ψ_j(x).

    With the Gram matrix of the M samples under k(x, x') = exp(−|x − x'|²/(2ℓ²)), its eigenpairs λ_j, u_j, ψ_j(x) = (√M/λ_j) Σ_m
    u_jm k(x, x_m) and β_j = −(1/M) Σ_m ∇ψ_j(x_m). J is the least number whose eigenvalues have a `share` of the sum.

    The estimate is biased, and worse in more dimensions: of a standard normal in two, the median of its root mean square error,
    relative to that of zero, is 0.58 with 50 samples, 0.42 with 100 and 0.23 with 400.

    Args:
        samples: [samples, dim], two at least.
        lengthscale: ℓ; the median distance between samples if not given. share: of the sum of eigenvalues, in (0, 1].

    Raises:
        ValueError: fewer than two samples, samples that are all one, or numbers out of range.
    """

    def __init__(
        self,
        samples: Float[Tensor, "samples dim"],
        *,
        lengthscale: float | None = None,
        share: float = 0.99,
    ) -> None:
        if samples.ndim != 2 or len(samples) < 2 or not 0 < share <= 1:
            raise ValueError(
                f"SpectralScore: samples {tuple(samples.shape)} and share {share} given, expected [samples, dim] of two at "
                "least, and a share in (0, 1]"
            )
        self.samples = samples.detach().double()
        distances = torch.cdist(self.samples, self.samples)
        count = len(self.samples)
        if lengthscale is None:
            lengthscale = float(torch.pdist(self.samples).median())
        if not lengthscale > 0:
            raise ValueError(
                f"SpectralScore: lengthscale {lengthscale} (the median distance if not given), expected a positive number: "
                "give one, or samples that differ"
            )
        self.lengthscale = lengthscale
        gram = torch.exp(-0.5 * (distances / lengthscale).square())
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        self.rank = int((values.cumsum(0) < share * values.sum()).sum()) + 1
        self._values, vectors = values[: self.rank], vectors[:, : self.rank]
        self._weights = vectors * (count**0.5 / self._values)  # of k(x, x_m) in ψ_j(x)
        # Σ_m ∇ψ_j(x_m) = Σ_m Σ_l weights_lj ∇_x k(x, x_l) at x = x_m, with ∇_x k = −(x − x_l) k/ℓ²
        sums = (
            self.samples * gram.sum(0)[:, None] - gram @ self.samples
        )  # Σ_m (x_l − x_m) k(x_m, x_l), for each l
        self._coefficients = -(self._weights.mT @ sums) / lengthscale**2 / count

    def __call__(self, x: Float[Tensor, "points dim"]) -> Float[Tensor, "points dim"]:
        """∇ log q at points, [points, dim], in the dtype of `x`."""
        gram = torch.exp(-0.5 * (torch.cdist(x.double(), self.samples) / self.lengthscale).square())
        return (gram @ self._weights @ self._coefficients).to(x.dtype)


def divergence_surrogate(
    values: Float[Tensor, "samples points"],
    prior: Gaussian | Score,
    *,
    jitter: float,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """A number whose gradient is SSGE's of KL_X̃, E[(∇ log q(f) − ∇ log p(f)) ∂f] (Sun et al. 1903.05779, §3).

    Without jitter, and where a normal prior is singular, values and scores are coordinates in its range.

    Args:
        values: f at the measurement points, draws of q with gradients. prior: the law of f, or the score of f plus
            the jitter. jitter: standard deviation of the noise that both are given.
    """
    if jitter:
        noise = torch.randn(values.shape, generator=generator, dtype=values.dtype, device=values.device)
        values = values + jitter * noise
    if not isinstance(prior, Gaussian):
        fixed = values.detach()
        return ((SpectralScore(fixed)(fixed) - prior(fixed)) * values).sum(1).mean()
    if jitter:
        prior = prior.noisy(jitter)
    else:
        scales, vectors = torch.linalg.eigh(prior.covariance)
        basis = vectors[:, scales > RANK_TOLERANCE * scales[-1]]
        values, prior = values @ basis, prior.image(basis.mT)
    fixed = values.detach()
    target = -torch.cholesky_solve((fixed - prior.mean).mT, torch.linalg.cholesky(prior.covariance)).mT
    return ((SpectralScore(fixed)(fixed) - target) * values).sum(1).mean()
