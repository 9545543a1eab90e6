"""Priors: what a weight may be."""

from .base import Prior, as_prior
from .distribution import Distribution
from .heavy_tailed import Cauchy, GeneralizedNormal, StudentT
from .location_scale import Laplace, LocationScale, Logistic, Normal
from .positive import Gamma, HalfCauchy, HalfNormal, InverseGamma, LogNormal
from .rules import ScaleRule, fan_in, fan_out, mup
from .special import Fixed, Improper
from .uniform import Uniform

__all__ = [
    "Cauchy",
    "Distribution",
    "Fixed",
    "Gamma",
    "GeneralizedNormal",
    "HalfCauchy",
    "HalfNormal",
    "Improper",
    "InverseGamma",
    "Laplace",
    "LocationScale",
    "LogNormal",
    "Logistic",
    "Normal",
    "Prior",
    "ScaleRule",
    "StudentT",
    "Uniform",
    "as_prior",
    "fan_in",
    "fan_out",
    "mup",
]
