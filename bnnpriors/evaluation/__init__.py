"""How good a predictive distribution is, and whether the sampler that made it can be trusted.

Everything here takes a `Predictive`: it does not care whether draws, a Gaussian process or a variational fit
made it.
"""

from .bias import StepSizeBias, step_size_bias
from .chains import Convergence, convergence
from .compare import Comparison, compare
from .diagnostics import Diagnostics, summary
from .gaussian import GaussianPredictive
from .kernel_comparison import KernelComparison
from .logistic_normal import LogisticNormalPredictive
from .metrics import evaluate
from .predictive import Predictive
from .prior_predictive import PriorPredictive, inputs_between
from .sampled import SamplePredictive
from .shift import evaluate_shift, shift_curves
from .temperatures import kinetic_temperature_interval

__all__ = [
    "Comparison",
    "Convergence",
    "Diagnostics",
    "GaussianPredictive",
    "KernelComparison",
    "LogisticNormalPredictive",
    "Predictive",
    "PriorPredictive",
    "SamplePredictive",
    "StepSizeBias",
    "compare",
    "convergence",
    "evaluate",
    "evaluate_shift",
    "inputs_between",
    "kinetic_temperature_interval",
    "shift_curves",
    "step_size_bias",
    "summary",
]
