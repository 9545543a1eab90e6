"""This library's ChEES-HMC, which leaves nothing to set; compiled, since its length is not known when a plan is chosen."""

from __future__ import annotations

import bnnpriors as bp
from benchmarks.contenders.ess_ours import Ours
from benchmarks.regression import Regression


def build(regression: Regression, chains: int, warmup: int, draws: int) -> Ours:
    """A `benchmarks.prediction_ess.Sampled`."""
    return Ours(regression, bp.samplers.ChEES(step_size=0.01), chains, warmup, draws, compile=True)
