"""Priors: what a weight may be."""

from .base import Prior, ScaleRule, as_prior, fan_in
from .distribution import Distribution
from .empirical import fit
from .location_scale import Laplace, LocationScale, Normal, StudentT
from .positive import Gamma, HalfCauchy, HalfNormal
from .special import Fixed, Improper

__all__ = [
    "Distribution",
    "Fixed",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "Improper",
    "Laplace",
    "LocationScale",
    "Normal",
    "Prior",
    "ScaleRule",
    "StudentT",
    "as_prior",
    "fan_in",
    "fit",
]
