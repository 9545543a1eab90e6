"""Variational inference: its objectives in function space, and a benchmark whose posterior is known."""

from . import features
from .families import DiagonalGaussian, Family, FullGaussian, Implicit
from .function_space import fit, moments
from .gaussian import Gaussian, IllDefinedError, functional_kl, kl_divergence, wasserstein_squared
from .linear_regression import LinearRegression
from .score import SpectralScore

__all__ = [
    "DiagonalGaussian",
    "Family",
    "FullGaussian",
    "Gaussian",
    "IllDefinedError",
    "Implicit",
    "LinearRegression",
    "SpectralScore",
    "features",
    "fit",
    "functional_kl",
    "kl_divergence",
    "moments",
    "wasserstein_squared",
]
