"""Does the sampler hold its temperature? Kinetic and configurational temperatures.

A wrong kinetic temperature says that the momenta are not simulated exactly (too large a step, too noisy a gradient); a
wrong configurational one that the positions are not, or have not converged. Source: Wenzel et al. 2020 (2002.02405),
the appendix on diagnostics.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .chains import MIN_DRAWS

LEVEL = 0.99
_EXPECTED_SHARE = 0.95  # below this, and beyond chance, the share inside the 99 % interval is worth a warning


def kinetic_temperature_interval(
    num_dims: int | Int[np.ndarray, "*dims"], temperature: float = 1.0, level: float = LEVEL
) -> tuple[float | Float[np.ndarray, "*dims"], float | Float[np.ndarray, "*dims"]]:
    """Where T̂_K = mᵀM⁻¹m/d lies with probability `level` if the momenta are exact.

    T·[χ²_{d,(1−level)/2}, χ²_{d,(1+level)/2}]/d; for d = 1000, T = 1 and level .99 this is [.8886, 1.1189].

    Raises `ValueError` for fewer than one dimension, a negative temperature or a level outside (0, 1).
    """
    if not (np.all(np.asarray(num_dims) >= 1) and temperature >= 0 and 0 < level < 1):
        raise ValueError(
            f"num_dims {num_dims}, temperature {temperature}, level {level}: expected at least one "
            "dimension, a temperature of 0 or more and a level between 0 and 1"
        )
    from scipy.stats import chi2

    low, high = chi2.ppf((1 - level) / 2, num_dims), chi2.ppf((1 + level) / 2, num_dims)
    return temperature * low / num_dims, temperature * high / num_dims


def check_temperatures(
    stats: Mapping[str, Float[np.ndarray, "chains draws"]],
    tensor_stats: Mapping[str, Float[np.ndarray, "chains draws tensors"]],
    tensor_sizes: Int[np.ndarray, " tensors"],
    temperatures: Float[np.ndarray, " chains"],
    num_dims: int,
) -> tuple[dict[str, float], list[str], Float[np.ndarray, " shares"]]:
    """Figures, warnings, and the share of draws inside the kinetic interval for each tensor (empty without
    them).

    Temperatures are reported as multiples of each chain's own T, so that 1 is right at any temperature;
    chains at T = 0 have none.
    """
    figures: dict[str, float] = {}
    notes: list[str] = []
    warm = temperatures > 0
    scale = temperatures[warm, None]
    shares = np.zeros(0)
    if not warm.any():
        return figures, notes, shares
    if "kinetic_temperature" in stats:
        ratio = stats["kinetic_temperature"][warm] / scale
        figures["kinetic_temperature"] = float(ratio.mean())
        inside = _inside(ratio, num_dims)
        figures["kinetic_inside"] = float(inside.mean())
        notes += _note_kinetic("", inside)
    if "kinetic_temperature" in tensor_stats:
        inside = _inside(tensor_stats["kinetic_temperature"][warm] / scale[..., None], tensor_sizes)
        shares = inside.mean((0, 1))
        figures["kinetic_inside_tensors"] = float(inside.mean())
        notes += _note_kinetic(" of the tensors", inside)
    if "configurational_temperature" in stats:
        ratio = stats["configurational_temperature"][warm] / scale
        figures["configurational_temperature"] = mean = float(ratio.mean())
        figures["configurational_temperature_se"] = error = _standard_error(ratio)
        if abs(mean - 1) > max(4 * error, 0.01):
            notes.append(
                f"The configurational temperature is {mean:.3f} ± {error:.3f} times the temperature asked "
                "for, and 1 was expected: warm up longer, or use a smaller step_size or larger batches."
            )
    return figures, notes, shares


def tensor_temperatures(
    tensor_stats: Mapping[str, Float[np.ndarray, "chains draws tensors"]],
    names: Sequence[str],
    temperatures: Float[np.ndarray, " chains"],
) -> dict[str, dict[str, float]]:
    """Tensor -> the mean of each of its temperatures over chains and draws, as multiples of T; chains at T = 0 have none."""
    warm = temperatures > 0
    if not warm.any():
        return {}
    means = {
        kind: (values[warm] / temperatures[warm, None, None]).mean((0, 1))
        for kind, values in tensor_stats.items()
    }
    return {name: {kind: float(mean[k]) for kind, mean in means.items()} for k, name in enumerate(names)}


def _inside(ratio: np.ndarray, num_dims: Any) -> np.ndarray:
    low, high = kinetic_temperature_interval(num_dims)
    return (ratio >= low) & (ratio <= high)


def _note_kinetic(what: str, inside: np.ndarray) -> list[str]:
    from scipy.stats import binom

    outside = int((~inside).sum())
    share = float(inside.mean())
    if share >= _EXPECTED_SHARE or outside <= binom.isf(1e-3, inside.size, 1 - LEVEL):
        return []
    return [
        f"The kinetic temperature{what} is inside its {LEVEL:.0%} interval for only {share:.0%} of the "
        "draws: the momenta are not at the temperature asked for; use a smaller step_size or larger "
        "batches."
    ]


def _standard_error(values: Float[np.ndarray, "chains draws"]) -> float:
    """Of the mean, with autocorrelation counted; NaN for fewer than four draws."""
    if values.shape[1] < MIN_DRAWS or not np.isfinite(values).all() or np.ptp(values) == 0:
        return math.nan
    from arviz_stats.base import array_stats

    return float(array_stats.mcse(values, method="mean", chain_axis=0, draw_axis=1))
