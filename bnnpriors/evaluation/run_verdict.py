"""One run in one sentence: have its chains converged, and which figures say so?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .report_verdict import grade, reasons

_SHOWN = {
    "acceptance": "acceptance {:.2f}",
    "divergent": "{:.1%} of the draws divergent",
    "bfmi": "E-BFMI {:.2f}",
    "kinetic_inside_tensors": "{:.1%} of the tensors' kinetic temperatures inside their 99 % interval",
    "configurational_temperature": "configurational temperature {:.3f} T",
}


def run_verdict(figures: Mapping[str, float], funnels: Sequence[str]) -> str:
    """The verdict on one run, by the rules of the report (`report_verdict.RULES`), and the figures behind it.

    Args:
        figures: those of `summary`. funnels: the hyperparameters that head a funnel.
    """
    if "rhat_weights" not in figures:
        return "Not judged: the chains have several temperatures; look at draws.at_temperature(T) for each."
    if "rhat_predictions" not in figures:
        return f"Not judged: convergence shows in predictions; give inputs, draws.summary(x). {_figures(figures)}"
    row = {**figures, "funnels": list(funnels)}
    kind = grade(row)
    if kind == "poor":
        return f"Not converged: {'; '.join(reasons(row))}. {_figures(figures)}"
    words = {"good": "Converged.", "fair": "Nearly converged: read the warnings, and sample longer."}
    return f"{words[kind]} {_figures(figures)}"


def _figures(figures: Mapping[str, float]) -> str:
    space = "predictions" if "rhat_predictions" in figures else "weights"
    rhat, *ess = (figures[f"{name}_{space}"] for name in ("rhat", "ess_bulk", "ess_tail"))
    parts = [] if math.isnan(rhat) else [f"R̂ of the {space} at most {rhat:.3f}"]
    if not any(map(math.isnan, ess)):
        parts.append(f"at least {min(ess):.0f} effective draws")
    shown = {name: figures.get(name, math.nan) for name in _SHOWN}
    parts += [_SHOWN[name].format(value) for name, value in shown.items() if not math.isnan(value)]
    return f"Figures: {', '.join(parts)}." if parts else ""
