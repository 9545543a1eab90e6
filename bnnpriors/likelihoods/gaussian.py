"""Regression with independent Gaussian noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..priors import Prior, as_prior
from ..priors.parameters import check_support
from .base import Likelihood


class Gaussian(Likelihood):
    """log p(y|f) = Σ_k −(y_k − f_k)²/(2σ²) − log(σ √(2π)), summed over output dimensions k.

    Args:
        scale: the noise standard deviation σ, in the units of y: a positive number, or a prior, which makes σ a latent.
    """

    kind = "regression"

    def __init__(self, scale: float | Prior | torch.distributions.Distribution = 1.0) -> None:
        super().__init__()
        if isinstance(scale, torch.distributions.Distribution):
            scale = as_prior(scale)
        if isinstance(scale, Prior):
            check_support("Gaussian: scale", scale)
        elif not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
            raise ValueError(f"Gaussian: scale {scale!r} given, expected a positive number or a prior on one")
        self.add_parameter("scale", scale)

    @property
    def scale(self) -> float | Tensor:
        """σ at the present latent."""
        return self.parameter_value("scale")

    def log_prob(
        self, outputs: Float[Tensor, "batch *out"], y: Float[Tensor, "batch *out"]
    ) -> Float[Tensor, " batch"]:
        """Log density of each example."""
        scale = torch.as_tensor(self.scale, dtype=outputs.dtype, device=outputs.device)
        z = (y - outputs) / scale
        each = -0.5 * z * z - scale.log() - 0.5 * math.log(2 * math.pi)
        return each.flatten(1).sum(1) if each.ndim > 1 else each

    def mean(self, outputs: Float[Tensor, "batch *out"]) -> Float[Tensor, "batch *out"]:
        """E[y | outputs]."""
        return outputs

    def variance(self, outputs: Float[Tensor, "batch *out"]) -> Float[Tensor, "batch *out"]:
        """Var[y | outputs] = σ²."""
        scale = torch.as_tensor(self.scale, dtype=outputs.dtype, device=outputs.device)
        return (scale * scale).expand_as(outputs)

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Floating targets in the model's dtype."""
        if y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"Gaussian: targets of dtype {y.dtype} given, expected real numbers")
        return y.to(dtype)

    def check(self, outputs_shape: tuple[int, ...], y: Tensor) -> None:
        """Outputs and targets must have one shape: broadcasting [N, 1] against [N] would pair every point with every other."""
        if len(outputs_shape) < 2 or tuple(outputs_shape) != tuple(y.shape):
            raise ValueError(
                f"Gaussian: outputs {tuple(outputs_shape)} but targets {tuple(y.shape)}: expected two equal "
                "shapes (batch, outputs); for one output let the model return [batch, 1] and pass y[:, None]"
            )
