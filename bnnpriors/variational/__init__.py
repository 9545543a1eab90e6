"""Variational inference: its objectives in function space, and a benchmark whose posterior is known."""

from . import features
from .gaussian import Gaussian, IllDefinedError, functional_kl, kl_divergence, wasserstein_squared
from .linear_regression import LinearRegression
from .score import SpectralScore

__all__ = [
    "Gaussian",
    "IllDefinedError",
    "LinearRegression",
    "SpectralScore",
    "features",
    "functional_kl",
    "kl_divergence",
    "wasserstein_squared",
]
