"""Methods behind one interface, and the table that compares them on the same network, priors, data and metrics."""

from .base import Fitted, Method, NotApplicableError
from .comparing import compare
from .fitted import FunctionSpace, Laplace, LowRank, MeanField
from .infinite import InfiniteWidth
from .sampled import MCMC, DeepEnsemble
from .table import MethodTable

__all__ = [
    "MCMC",
    "DeepEnsemble",
    "Fitted",
    "FunctionSpace",
    "InfiniteWidth",
    "Laplace",
    "LowRank",
    "MeanField",
    "Method",
    "MethodTable",
    "NotApplicableError",
    "compare",
]
