"""Variational inference in weight space and in function space, and a benchmark whose posterior is known."""

from . import features
from .families import DiagonalGaussian, Family, FullGaussian, Implicit
from .function_space import fit, moments
from .gaussian import Gaussian, IllDefinedError, functional_kl, kl_divergence, wasserstein_squared
from .laplace import Laplace
from .linear_regression import LinearRegression
from .score import SpectralScore
from .weight_space import FullRank, LowRank, MeanField

__all__ = [
    "DiagonalGaussian",
    "Family",
    "FullGaussian",
    "FullRank",
    "Gaussian",
    "IllDefinedError",
    "Implicit",
    "Laplace",
    "LinearRegression",
    "LowRank",
    "MeanField",
    "SpectralScore",
    "features",
    "fit",
    "functional_kl",
    "kl_divergence",
    "moments",
    "wasserstein_squared",
]
