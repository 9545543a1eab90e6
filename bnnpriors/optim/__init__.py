"""The stochastic gradient samplers as `torch.optim.Optimizer`s, for a training script of your own."""

from .base import SamplingOptimizer
from .loss import potential
from .rules import BAOAB, GGMC, PSGLD, SGHMC, SGLD, SGNHT
from .temperatures import Temperatures

__all__ = [
    "BAOAB",
    "GGMC",
    "PSGLD",
    "SGHMC",
    "SGLD",
    "SGNHT",
    "SamplingOptimizer",
    "Temperatures",
    "potential",
]
