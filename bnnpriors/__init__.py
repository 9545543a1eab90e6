"""Bayesian neural networks with priors that say what you believe: one model definition, posteriors you can trust."""

from . import (
    checks,
    datasets,
    infinite,
    likelihoods,
    methods,
    models,
    optim,
    priors,
    samplers,
    transforms,
    variational,
)
from .cost import estimate
from .draws import Draws
from .evaluation import compare, evaluate, evaluate_shift, step_size_bias
from .evaluation.prior_predictive import prior_predictive
from .group import SamplingError
from .module import BayesianModule, attach
from .optim import potential
from .posterior import Posterior
from .priors.funnel import FunnelWarning
from .sampling import sample
from .store import StoreError

__version__ = "0.1.0"

__all__ = [
    "BayesianModule",
    "Draws",
    "FunnelWarning",
    "Posterior",
    "SamplingError",
    "StoreError",
    "__version__",
    "attach",
    "checks",
    "compare",
    "datasets",
    "estimate",
    "evaluate",
    "evaluate_shift",
    "infinite",
    "likelihoods",
    "methods",
    "models",
    "optim",
    "potential",
    "prior_predictive",
    "priors",
    "sample",
    "samplers",
    "step_size_bias",
    "transforms",
    "variational",
]
