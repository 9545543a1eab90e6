"""Samplers: one algorithm a file."""

from .base import Sampler
from .ggmc import GGMC
from .hmc import HMC
from .sgld import SGLD

__all__ = ["GGMC", "HMC", "SGLD", "Sampler"]
