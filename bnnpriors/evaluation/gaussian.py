"""`GaussianPredictive`: independent normal outputs, as exact Gaussian-process regression gives them."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .predictive import Kind, Predictive


class GaussianPredictive(Predictive):
    """y ~ N(mean, epistemic_variance + aleatoric_variance), each output of each input by itself.

    Args:
        mean: [batch, out], in the units of the targets.
        epistemic_variance: the variance of the function, [batch, out] or what broadcasts to it.
        aleatoric_variance: the variance of the noise, likewise.

    Raises `ValueError` for means that are not [batch, out] or not finite, or variances that are negative, not
    finite, or zero in sum.
    """

    def __init__(
        self,
        mean: Float[Tensor, "batch out"],
        epistemic_variance: Float[Tensor, "*one"],
        aleatoric_variance: Float[Tensor, "*other"],
    ) -> None:
        self._mean = mean
        self._epistemic = epistemic_variance.expand_as(mean)
        self._aleatoric = aleatoric_variance.expand_as(mean)
        parts = (self._epistemic, self._aleatoric)
        if not all(bool(part.isfinite().all()) for part in (mean, *parts)):
            raise ValueError("means or variances hold NaN or infinite values")
        if any(bool((part < 0).any()) for part in parts) or not bool((self.variance > 0).all()):
            raise ValueError("variances: expected none below zero, and a positive sum of both")

    @property
    def kind(self) -> Kind:
        return "regression"

    @property
    def num_points(self) -> int:
        return self._mean.shape[0]

    @property
    def mean(self) -> Float[Tensor, "batch out"]:
        return self._mean

    @property
    def epistemic_variance(self) -> Float[Tensor, "batch out"]:
        return self._epistemic

    @property
    def aleatoric_variance(self) -> Float[Tensor, "batch out"]:
        return self._aleatoric

    def log_prob(self, y: Shaped[Tensor, "batch *out"]) -> Float[Tensor, " batch"]:
        """Σ_out log N(y; mean, variance)."""
        squares = (self.targets(y) - self.mean).square() / self.variance
        return -0.5 * (squares + self.variance.log() + math.log(2 * math.pi)).sum(-1)

    def cdf(self, y: Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        return torch.special.ndtr((self.targets(y) - self.mean) / self.variance.sqrt())

    def quantile(self, probability: float | Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        goal = torch.as_tensor(probability).to(self.mean).expand_as(self.mean)
        if not ((goal > 0) & (goal < 1)).all():
            raise ValueError("probability: expected values strictly between 0 and 1")
        return self.mean + self.variance.sqrt() * torch.special.ndtri(goal)
