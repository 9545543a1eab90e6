"""Did a run meet a funnel? What the draws of centred weights and of their scale's hyperparameters say.

A funnel is reported where the scale s ranges widely *and* the chains show that they do not move freely in it: they disagree
about log s or hold few independent draws of it, they diverge where s is small, or E-BFMI is low. Sources: Betancourt & Girolami
1312.0906 (funnels of hierarchical models), Betancourt 1604.00695 (E-BFMI).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from ..priors.funnel import Funnel, listed, possible_funnels, remedy
from .chains import ESS_PER_CHAIN, MIN_DRAWS, RHAT_LIMIT, convergence, subset

LOW_BFMI = 0.3
_WIDE = 3.0  # least ratio of the 95 % and 5 % quantiles of a scale that makes a funnel: narrower ones need one step size
_STANDARD_ERRORS = 3.0  # how far below chance the scales of divergent draws must rank
_FEWEST_DIVERGENT = 5


class _Evidence(NamedTuple):
    factor: float
    rhat: float
    ess: float
    is_slow: bool
    diverges_in_neck: bool


def energy_information(energy: Float[np.ndarray, "chains draws"]) -> Float[np.ndarray, " chains"]:
    """E-BFMI of each chain, Σ_n (E_n − E_{n−1})² / Σ_n (E_n − Ē)² of the energies E_n = H (Betancourt 1604.00695, §6.1).

    It is near 1 where fresh momenta reach the energies of the target, and below 0.3 where its tails are heavier than that. NaN
    for fewer than four draws, or energies that never change.
    """
    if energy.shape[1] < MIN_DRAWS:
        return np.full(len(energy), np.nan)
    from arviz_stats.base import array_stats

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(array_stats.bfmi(energy, chain_axis=0, draw_axis=1), dtype=np.float64)


def check_funnels(
    draws: Any, divergent: np.ndarray | None, bfmi: float, *, max_scalars: int, seed: int
) -> tuple[list[str], list[str]]:
    """The names of the hyperparameters that head a funnel, and a warning in words that names weights and remedy.

    Args:
        draws: an object with `theta`, `layout` and `sites`, all at one temperature.
        divergent: [chains, draws], or None where the sampler does not say. bfmi: the lowest E-BFMI, or NaN.
        max_scalars, seed: as for `summary`.
    """
    found: list[tuple[Funnel, _Evidence]] = []
    for funnel in possible_funnels(draws.sites):
        log_scale = _log_scale(draws, funnel)
        log_scale = log_scale[..., subset(log_scale.shape[-1], max_scalars, seed)]
        seen = _evidence(log_scale, divergent)
        if seen.factor > _WIDE and (seen.is_slow or seen.diverges_in_neck or bfmi < LOW_BFMI):
            found.append((funnel, seen))
    if not found:
        return [], []
    signs = [f"{funnel.scale.name} ({_in_words(seen)})" for funnel, seen in found]
    energy = [f"; the energy's fraction of missing information is {bfmi:.2f}"] if bfmi < LOW_BFMI else []
    funnels = [funnel for funnel, _ in found]
    weights = list(dict.fromkeys(name for funnel in funnels for name in funnel.tensors))
    note = (
        f"A funnel: the centred weights {listed(weights)} are too narrow where their scale is small for the chains to move "
        f"freely. Scales: {listed(signs)}{''.join(energy)}. To remove it, {remedy(funnels)}."
    )
    return [funnel.scale.name for funnel in funnels], [note]


def _log_scale(draws: Any, funnel: Funnel) -> Float[Tensor, "chains draws scalars"]:
    def values(latents: dict[str, Tensor]) -> Tensor:
        found: dict[str, Tensor] = {}
        funnel.scale.evaluate(latents, found)
        return found[funnel.scale.name].log()

    theta = draws.theta
    each = vmap(values)(draws.layout.unpack(theta.flatten(0, 1)))
    return each.detach().cpu().reshape(*theta.shape[:2], -1)


def _evidence(
    log_scale: Float[Tensor, "chains draws scalars"], divergent: Bool[np.ndarray, "chains draws"] | None
) -> _Evidence:
    chains = len(log_scale)
    values = log_scale.double().numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = np.quantile(values, (0.05, 0.95), axis=(0, 1))
        factor = np.exp(high - low)
    wide = factor > _WIDE
    if not wide.any():
        return _Evidence(float(factor.max()), math.nan, math.nan, False, False)
    found = convergence(log_scale[..., torch.as_tensor(wide)], max_scalars=int(wide.sum()))
    rhat = float(np.nanmax(found.rhat)) if np.isfinite(found.rhat).any() else math.nan
    ess = np.concatenate([found.ess_bulk, found.ess_tail])
    fewest = float(np.nanmin(ess)) if np.isfinite(ess).any() else math.nan
    return _Evidence(
        float(factor[wide].max()),
        rhat,
        fewest,
        rhat > RHAT_LIMIT or fewest < ESS_PER_CHAIN * chains,
        divergent is not None and _in_neck(values.min(-1).ravel(), divergent.ravel()),
    )


def _in_neck(smallest: Float[np.ndarray, " draws"], divergent: Bool[np.ndarray, " draws"]) -> bool:
    """Whether divergent draws have small scales: their mean rank, uniform on (0, 1) by chance, is three standard errors low."""
    count = int(divergent.sum())
    if count < _FEWEST_DIVERGENT:
        return False
    from scipy.stats import rankdata

    rank = rankdata(smallest)[divergent].mean() / len(smallest)
    return bool(rank < 0.5 - _STANDARD_ERRORS / math.sqrt(12 * count))


def _in_words(seen: _Evidence) -> str:
    parts = [f"over a factor of {seen.factor:.3g}"]
    if seen.is_slow:
        parts += [] if math.isnan(seen.rhat) else [f"R̂ {seen.rhat:.2f}"]
        parts += [] if math.isnan(seen.ess) else [f"ESS {seen.ess:.0f}"]
    if seen.diverges_in_neck:
        parts.append("divergent where it is small")
    return ", ".join(parts)
