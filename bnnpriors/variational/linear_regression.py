"""Bayesian linear regression on features: a model whose posterior is known, to measure approximations against."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..evaluation import GaussianPredictive
from .gaussian import Gaussian, functional_kl


class LinearRegression:
    """y = Φw + ε, w ~ N(0, diag(prior_scale²)), ε ~ N(0, noise · I): posterior, evidence and predictive in closed form (Bishop
    2006, §3.3 and §3.5; the benchmark of Burt et al. 2011.09421).

    With S₀ the prior covariance and σ² the noise: S* = (S₀⁻¹ + ΦᵀΦ/σ²)⁻¹, m* = S*Φᵀy/σ², log Z = log N(y; 0, ΦS₀Φᵀ + σ²I).

    Args:
        features: Φ, [n, p]; computed in float64. y: [n].
        noise: σ², a variance in the unit of y². prior_scale: standard deviation of each weight, a number or [p].

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a noise or a scale that is not positive.
    """

    def __init__(
        self,
        features: Float[Tensor, "n p"],
        y: Float[Tensor, " targets"],
        noise: float,
        prior_scale: float | Tensor = 1.0,
    ) -> None:
        if features.ndim != 2 or y.shape != features.shape[:1] or not features.numel():
            raise ValueError(
                f"LinearRegression: features {tuple(features.shape)} and targets {tuple(y.shape)} given, expected [n, p] and [n]"
            )
        if not (bool(features.isfinite().all()) and bool(y.isfinite().all())):
            raise ValueError(
                "LinearRegression: features or targets hold NaN or infinite values: remove those rows"
            )
        scale = torch.as_tensor(prior_scale, dtype=torch.float64, device=features.device)
        if not 0 < noise < math.inf or not bool(((scale > 0) & scale.isfinite()).all()):
            raise ValueError(
                f"LinearRegression: noise {noise} and prior_scale {prior_scale} given, expected positive finite numbers"
            )
        if scale.shape not in ((), features.shape[1:]):
            raise ValueError(
                f"LinearRegression: prior_scale of shape {tuple(scale.shape)} given, expected a number or [{features.shape[1]}]"
            )
        self.features, self.y, self.noise = features.double(), y.double(), float(noise)
        variances = scale.square().expand(features.shape[1])
        self.prior = Gaussian(torch.zeros_like(variances), variances.diag())

    def posterior(self) -> Gaussian:
        """p(w | y), mean [p] and covariance [p, p]."""
        scale = self.prior.covariance.diagonal().sqrt()
        scaled = self.features * scale
        identity = torch.eye(len(scale), dtype=torch.float64, device=scale.device)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(identity + scaled.mT @ scaled / self.noise))
        covariance = scale[:, None] * inverse * scale
        return Gaussian(covariance @ self.features.mT @ self.y / self.noise, covariance)

    def log_evidence(self) -> Float[Tensor, ""]:
        """log Z = log p(y), in nats."""
        return self.prior.image(self.features).noisy(math.sqrt(self.noise)).log_prob(self.y)

    def predict(
        self, features: Float[Tensor, "batch p"], weights: Gaussian | None = None
    ) -> GaussianPredictive:
        """The predictive distribution at new features, under the posterior or another law of the weights."""
        law = (weights or self.posterior()).image(self._checked(features))
        variance = law.covariance.diagonal().clamp_min(0)
        noise = torch.tensor(self.noise, dtype=torch.float64, device=variance.device)
        return GaussianPredictive(law.mean[:, None], variance[:, None], noise)

    def expected_log_likelihood(self, q: Gaussian) -> Float[Tensor, ""]:
        """E_q log p(y | w) = −n/2 log 2πσ² − (|y − Φm|² + tr ΦSΦᵀ)/(2σ²), with gradients."""
        residual = self.y - self.features @ q.mean
        spread = ((self.features @ q.covariance) * self.features).sum()
        constant = len(self.y) * math.log(2 * math.pi * self.noise)
        return -0.5 * (constant + (residual.square().sum() + spread) / self.noise)

    def objective(
        self,
        q: Gaussian,
        measurements: Float[Tensor, "points p"] | None = None,
        *,
        prior: Gaussian | None = None,
        jitter: float = 0.0,
    ) -> Float[Tensor, ""]:
        """L = E_q log p(y | w) − KL_X̃, what function-space inference maximises, with gradients.

        log Z − L = KL(q(f_X̃)‖p(f_X̃ | y)) ≥ 0 where the measurement points hold all training inputs; elsewhere L is no bound, and
        may be above log Z.

        Args:
            q: a law of the weights. measurements: features of X̃; those of the data if not given.
            prior: the law of the function values at X̃, such as a Gaussian process's; the model's own if not given.
            jitter: as for `functional_kl`.
        """
        points = self.features if measurements is None else self._checked(measurements)
        law = self.prior.image(points) if prior is None else prior
        return self.expected_log_likelihood(q) - functional_kl(q.image(points), law, jitter=jitter)

    def _checked(self, features: Tensor) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"LinearRegression: features {tuple(features.shape)} given, expected [points, {self.features.shape[1]}]"
            )
        return features.to(self.features)
