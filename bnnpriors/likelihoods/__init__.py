"""Likelihoods: log p(y | outputs)."""

from .base import Likelihood
from .categorical import Categorical
from .gaussian import Gaussian

__all__ = ["Categorical", "Gaussian", "Likelihood"]
