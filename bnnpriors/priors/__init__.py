"""Priors: what a weight may be."""

from .base import Prior, as_prior, hyperprior
from .constrained import Dirichlet, LKJCholesky
from .correlated import CorrelatedNormal, CorrelatedStudentT
from .distribution import Distribution
from .empirical import fit
from .heavy_tailed import Cauchy, GeneralizedNormal, StudentT
from .horseshoe import Horseshoe, RegularizedHorseshoe
from .location_scale import LocationScale, Normal
from .matrix_normal import MatrixNormal
from .mixture import Mixture, ScaleMixture
from .positive import Gamma, HalfCauchy, HalfNormal, InverseGamma, LogNormal
from .quantile import Laplace, Logistic
from .rules import ScaleRule, fan_in, fan_out, mup
from .special import Fixed, Improper
from .uniform import Uniform

__all__ = [
    "Cauchy",
    "CorrelatedNormal",
    "CorrelatedStudentT",
    "Dirichlet",
    "Distribution",
    "Fixed",
    "Gamma",
    "GeneralizedNormal",
    "HalfCauchy",
    "HalfNormal",
    "Horseshoe",
    "Improper",
    "InverseGamma",
    "LKJCholesky",
    "Laplace",
    "LocationScale",
    "LogNormal",
    "Logistic",
    "MatrixNormal",
    "Mixture",
    "Normal",
    "Prior",
    "RegularizedHorseshoe",
    "ScaleMixture",
    "ScaleRule",
    "StudentT",
    "Uniform",
    "as_prior",
    "fan_in",
    "fan_out",
    "fit",
    "hyperprior",
    "mup",
]
