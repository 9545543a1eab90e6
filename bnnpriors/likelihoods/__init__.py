"""Likelihoods: log p(y | outputs)."""

from .augmented import Augmented
from .base import Likelihood
from .categorical import Categorical
from .gaussian import Gaussian

__all__ = ["Augmented", "Categorical", "Gaussian", "Likelihood"]
