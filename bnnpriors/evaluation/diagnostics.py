"""`summary`: everything worth knowing about a run before its predictions are believed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..layout import Layout
from .chains import check_convergence, subset
from .funnels import LOW_BFMI, check_funnels, energy_information
from .run_verdict import run_verdict
from .sampled import SamplePredictive
from .temperatures import check_temperatures, tensor_temperatures

_LOW_ACCEPTANCE, _HIGH_ACCEPTANCE = 0.4, 0.98
_HIGH_ENERGY_VARIANCE = 5e-3


@dataclass(frozen=True)
class Diagnostics:
    """What `summary` found. `str` gives a readable table.

    Attributes:
        figures: name -> number; NaN where it could not be computed, and then a warning says why.
        warnings: what looks wrong and what to do, in plain language. Empty means that nothing was found.
        tensors: parameter name -> share of its draws whose kinetic temperature lies inside the 99 % interval.
        tensor_temperatures: parameter name -> its kinetic and configurational temperatures as multiples of T, those recorded.
        funnels: names of the hyperparameters whose centred weights make a funnel; a warning says what to do.
    """

    figures: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    tensors: dict[str, float] = field(default_factory=dict)
    funnels: list[str] = field(default_factory=list)
    tensor_temperatures: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the run can be used, in one sentence, and the figures behind it."""
        return run_verdict(self.figures, self.funnels)

    def __str__(self) -> str:
        warm = self.tensor_temperatures.items()
        rows = [
            *self.figures.items(),
            *((f"kinetic_inside {name}", share) for name, share in self.tensors.items()),
            *((f"{kind} {name}", value) for name, found in warm for kind, value in found.items()),
        ]
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:<{width}}  {_number(value):>8}" for name, value in rows]
        heading = f"{len(self.warnings)} warnings:" if self.warnings else "No warnings."
        return "\n".join(
            [self.verdict, "", *lines, "", heading, *(f"- {warning}" for warning in self.warnings)]
        )


def summary(
    draws: Any, pred: SamplePredictive | None = None, *, max_scalars: int = 256, seed: int = 0
) -> Diagnostics:
    """Figures about a run, and warnings where they look wrong.

    Args:
        draws: an object with `theta` [chains, draws, dim], `stats` (name -> [chains, draws]) and `temperatures`
            [chains]; perhaps also `tensor_stats` (name -> [chains, draws, tensors]) and then `layout`, with the
            names and sizes of the tensors; perhaps also `sites`, the model's, where funnels are then looked for.
        pred: these draws' predictions at some inputs, with their `num_chains`. R̂ and ESS of predictions
            matter most: weights have symmetries that predictions do not.
        max_scalars: how many weights, and how many predicted numbers, to look at: a random subset fixed by
            `seed`.

    Figures, the worst over what was looked at: `rhat_*`, `rhat_share_*` (the share of scalars with R̂ >
    1.01), `ess_bulk_*` and `ess_tail_*`, for `weights` and `predictions`; `acceptance`, `divergent` (a
    share), `energy_variance` (the mean square of the energy's error over T² and the latents, where no test corrects
    for it), `bfmi` (E-BFMI, the energy's fraction of missing information, the lowest over chains);
    `kinetic_temperature` and `configurational_temperature` as multiples of each chain's T, so that 1 is
    right; `kinetic_inside` and `kinetic_inside_tensors`, the shares inside the central 99 % interval.
    """
    theta = draws.theta
    figures: dict[str, float] = dict(zip(("chains", "draws", "dim"), map(float, theta.shape), strict=True))
    stats = {name: _array(value) for name, value in draws.stats.items()}
    temperatures = _array(draws.temperatures)
    spaces = {"weights": theta}
    if pred is not None:
        points = subset(pred.num_points, max_scalars, seed)
        spaces["predictions"] = pred.predictions_by_chain(points.to(pred.outputs.device))
    notes: list[str] = []
    funnels: list[str] = []
    moves, said_of_moves = _check_moves(stats, temperatures, theta.shape[2])
    if np.all(temperatures == temperatures[0]):
        for name, samples in spaces.items():
            found, said = check_convergence(name, samples, max_scalars=max_scalars, seed=seed)
            figures |= found
            notes += said
        if getattr(draws, "sites", ()):
            divergent = stats["divergent"] > 0 if "divergent" in stats else None
            bfmi = moves.get("bfmi", math.nan)
            funnels, said = check_funnels(draws, divergent, bfmi, max_scalars=max_scalars, seed=seed)
            notes += said
    else:
        notes.append(
            "The chains have different temperatures, so R̂ and ESS over them mean nothing: use "
            "draws.at_temperature(T) for one temperature at a time."
        )
    tensor_stats = {
        name: _array(value) for name, value in (getattr(draws, "tensor_stats", None) or {}).items()
    }
    layout = draws.layout if tensor_stats else Layout(())
    sizes = np.asarray(layout.sizes, dtype=np.int64)
    warm, warnings, shares = check_temperatures(stats, tensor_stats, sizes, temperatures, theta.shape[2])
    tensors = dict(zip(layout.names, map(float, shares), strict=True)) if len(shares) else {}
    each = tensor_temperatures(tensor_stats, layout.names, temperatures)
    return Diagnostics(figures | moves | warm, notes + said_of_moves + warnings, tensors, funnels, each)


def _check_moves(
    stats: Mapping[str, np.ndarray], temperatures: np.ndarray, dim: int
) -> tuple[dict[str, float], list[str]]:
    """Acceptance, or the energy's error where nothing is refused; divergences; the energy's fraction of missing information."""
    figures: dict[str, float] = {}
    notes: list[str] = []
    acceptance = stats.get("acceptance")
    if acceptance is not None and np.isfinite(acceptance).any(1).all():
        by_chain = np.nanmean(acceptance, axis=1)
        figures["acceptance"] = float(by_chain.mean())
        low = np.flatnonzero(by_chain < _LOW_ACCEPTANCE).tolist()
        if low:
            notes.append(
                f"Acceptance of chains {low} is below {_LOW_ACCEPTANCE} (lowest {by_chain.min():.2f}): use "
                "a smaller step_size."
            )
        elif figures["acceptance"] > _HIGH_ACCEPTANCE:
            notes.append(
                f"Acceptance is {figures['acceptance']:.3f}, which is correct but slow: a larger step_size "
                "would explore faster."
            )
    if "energy_error" in stats and acceptance is None:
        warm = temperatures > 0
        ratio = stats["energy_error"][warm] / temperatures[warm, None]
        figures["energy_variance"] = float(np.mean(ratio**2)) / dim if warm.any() else math.nan
        if figures["energy_variance"] > _HIGH_ENERGY_VARIANCE:
            notes.append(
                f"The energy's error has a mean square of {figures['energy_variance']:.2g} T² a latent, and no test corrects "
                "for it: lower step_size or energy_variance, or pass steps_per_test."
            )
    if "divergent" in stats:
        count = int(np.nansum(stats["divergent"]))
        figures["divergent"] = count / stats["divergent"].size
        if count:
            notes.append(
                f"{count} draws diverged (their energy error exploded), so a region is not explored: use a "
                "smaller step_size."
            )
    if "energy" in stats:
        figures["bfmi"] = float(np.min(energy_information(stats["energy"])))
        if figures["bfmi"] < LOW_BFMI:
            notes.append(
                f"The energy's fraction of missing information is {figures['bfmi']:.2f}, below {LOW_BFMI}: "
                "the chains move slowly between energies, as in funnels and heavy tails; sample longer, or in other latents "
                "(centred=False)."
            )
    return figures, notes


def _array(values: Any) -> np.ndarray:
    values = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=np.float64)


def _number(value: float) -> str:
    if math.isnan(value):
        return "—"
    return f"{value:.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3f}"
