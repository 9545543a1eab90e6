"""R̂ and effective sample sizes of any array of draws, through arviz-stats.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021 (1903.08008).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

MIN_DRAWS = 4
RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100


class Convergence(NamedTuple):
    """One figure for each scalar that was looked at; NaN where it is not defined, and then `reason` says
    why.
    """

    rhat: Float[np.ndarray, " scalars"]
    ess_bulk: Float[np.ndarray, " scalars"]
    ess_tail: Float[np.ndarray, " scalars"]
    reason: str


def convergence(samples: Shaped[Tensor, "..."], *, max_scalars: int = 256, seed: int = 0) -> Convergence:
    """Rank-normalised split R̂, bulk ESS and tail ESS (5 % and 95 % quantiles) of each scalar of [chains, draws, ...].

    R̂ is the larger of the bulk and the folded form. Of
    more than `max_scalars` scalars a random subset is taken, fixed by `seed`. R̂ needs two chains, and
    everything four draws a chain; a scalar that never moves or is not finite has neither.

    Raises `ValueError` for fewer than two dimensions.
    """
    if samples.ndim < 2:
        raise ValueError(f"samples {tuple(samples.shape)}: expected (chains, draws, ...)")
    chains, draws = samples.shape[:2]
    flat = samples.reshape(chains, draws, -1)
    values = flat[:, :, subset(flat.shape[2], max_scalars, seed)].detach().cpu().double().numpy()
    rhat, bulk, tail = (np.full(values.shape[2], np.nan) for _ in range(3))
    if draws < MIN_DRAWS:
        return Convergence(rhat, bulk, tail, f"{draws} draws a chain, and at least {MIN_DRAWS} are needed")
    from arviz_stats.base import array_stats

    moves = np.isfinite(values).all((0, 1)) & (np.ptp(values, axis=(0, 1)) > 0)
    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    if moves.any():
        bulk[moves] = array_stats.ess(values[:, :, moves], method="bulk", **axes)
        tail[moves] = array_stats.ess(values[:, :, moves], method="tail", prob=(0.05, 0.95), **axes)
        if chains > 1:
            with np.errstate(divide="ignore", invalid="ignore"):
                rhat[moves] = array_stats.rhat(values[:, :, moves], method="rank", **axes)
    reasons = ["R̂ needs two chains or more"] if chains == 1 else []
    if not moves.all():
        reasons.append(f"{int((~moves).sum())} of {len(moves)} scalars never move or are not finite")
    return Convergence(rhat, bulk, tail, "; ".join(reasons))


def check_convergence(
    name: str, samples: Shaped[Tensor, "chains draws *scalars"], *, max_scalars: int, seed: int
) -> tuple[dict[str, float], list[str]]:
    """The worst figures over the scalars called `name`, and what is wrong with them in words."""
    found = convergence(samples, max_scalars=max_scalars, seed=seed)
    notes = _broken_chains(name, samples)
    if found.reason:
        notes.append(f"Some convergence figures of the {name} are missing: {found.reason}.")
    rhat, bulk, tail = _worst(found.rhat, max), _worst(found.ess_bulk, min), _worst(found.ess_tail, min)
    defined = found.rhat[~np.isnan(found.rhat)]
    share = float((defined > RHAT_LIMIT).mean()) if len(defined) else math.nan
    if rhat > RHAT_LIMIT:
        advice = (
            "this is common, because weights have symmetries: judge by the predictions"
            if name == "weights"
            else "the chains disagree: sample longer, or warm up longer"
        )
        notes.append(
            f"R̂ of the {name} reaches {rhat:.3f}, above {RHAT_LIMIT} for {share:.0%} of them: {advice}."
        )
    enough = ESS_PER_CHAIN * samples.shape[0]
    for kind, value in (("Bulk", bulk), ("Tail", tail)):
        if value < enough:
            notes.append(f"{kind} ESS of the {name} is as low as {value:.0f}, below {enough}: sample longer.")
    figures = {"rhat": rhat, "rhat_share": share, "ess_bulk": bulk, "ess_tail": tail}
    return {f"{key}_{name}": value for key, value in figures.items()}, notes


def subset(count: int, limit: int, seed: int) -> Tensor:
    """All of 0 … count − 1, or `limit` of them at random, sorted, fixed by `seed`."""
    if count <= limit:
        return torch.arange(count)
    return torch.as_tensor(np.sort(np.random.default_rng(seed).choice(count, limit, replace=False)))


def _broken_chains(name: str, samples: Tensor) -> list[str]:
    advice = "use a smaller step_size"
    broken = [c for c, chain in enumerate(samples) if not bool(torch.isfinite(chain).all())]
    stuck = [c for c, chain in enumerate(samples) if len(chain) > 1 and bool((chain == chain[:1]).all())]
    notes = []
    if broken:
        notes.append(f"The {name} of chains {broken} hold NaN or infinite values, they diverged: {advice}.")
    if stuck:
        notes.append(f"The {name} of chains {stuck} never move, every proposal was refused: {advice}.")
    return notes


def _worst(values: np.ndarray, choose: Any) -> float:
    defined = values[~np.isnan(values)]
    return float(choose(defined)) if len(defined) else math.nan
