"""Variational inference in weight space and in function space, and a benchmark whose posterior is known."""

from . import features
from .ascent import Bound
from .families import DiagonalGaussian, Family, FullGaussian, Implicit
from .flipout import Flipout
from .function_space import FunctionSpace
from .gaussian import Gaussian, IllDefinedError, functional_kl, kl_divergence, wasserstein_squared
from .gaussian_fit import GaussianFit
from .linear_fit import fit, moments
from .linear_regression import LinearRegression
from .measurement import Box
from .score import SpectralScore
from .weight_space import FullRank, LowRank, MeanField

__all__ = [
    "Bound",
    "Box",
    "DiagonalGaussian",
    "Family",
    "Flipout",
    "FullGaussian",
    "FullRank",
    "FunctionSpace",
    "Gaussian",
    "GaussianFit",
    "IllDefinedError",
    "Implicit",
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
