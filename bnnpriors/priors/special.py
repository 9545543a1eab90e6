"""The two priors that are not distributions: no preference at all, and no freedom at all."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Prior


class Improper(Prior):
    """log p(w) = 0 everywhere. It cannot be sampled: chains start from the module's present value of the parameter."""

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Zero, elementwise."""
        return torch.zeros_like(w)

    def variance(self) -> float:
        """Infinite."""
        return math.inf


class Fixed(Prior):
    """The parameter keeps the value that it has: it is no latent and adds nothing to the density."""

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Zero, elementwise."""
        return torch.zeros_like(w)

    def variance(self) -> float:
        """Zero."""
        return 0.0
