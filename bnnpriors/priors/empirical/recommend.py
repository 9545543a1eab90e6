"""From held-out likelihoods to one prior, with the reason in words."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp

from ..base import Prior
from .families import FAMILIES, MAX_DF, Interval, Parameters
from .spatial import KERNELS, Spatial

ALARM = 1e-7
"""False-alarm rate of one comparison of two families; a layer has at most nine, so its rate stays below 1e-6."""


class Candidate(NamedTuple):
    """A family on one layer.

    Attributes:
        name: of the family or kernel. parameters: of the prior, fitted to all weights.
        density: held-out log density per weight of each unit (a filter of a convolution, otherwise a weight).
        folds: Σ of the held-out log densities of each fold.
        ceiling: the largest Σ that the family reaches on each fold, fitted to that fold itself.
    """

    name: str
    parameters: Parameters
    density: Float64[np.ndarray, " units"]
    folds: Float64[np.ndarray, " folds"]
    ceiling: Float64[np.ndarray, " folds"]

    @property
    def log_likelihood(self) -> float:
        """Nats per held-out weight."""
        return float(self.density.mean())

    def above(self, other: Candidate) -> tuple[float, float]:
        """Nats per held-out weight by which this one exceeds `other`, and the standard error, paired over units."""
        difference = self.density - other.density
        return float(difference.mean()), float(difference.std(ddof=1)) / math.sqrt(len(difference))

    def log_evidence_against(self, other: Candidate) -> float:
        """log e, for e = (1/K) Σ_k Π_{w in fold k} p(w | fitted elsewhere) / max Π p_other(w): the cross-fit likelihood ratio.

        If the weights are independent draws of any member of `other`, E e ≤ 1 and P(log e ≥ log 1/α) ≤ α, at any number of
        weights and however heavy the tails (Wasserman, Ramdas & Balakrishnan 2020, 1912.11436, Theorem 3 and section 4).
        """
        return float(logsumexp(self.folds - other.ceiling)) - math.log(len(self.folds))

    def beats(self, other: Candidate) -> bool:
        """Whether `other` can be dismissed at the false-alarm rate `ALARM`."""
        return self.log_evidence_against(other) > -math.log(ALARM)

    @property
    def num_parameters(self) -> int:
        """Scale, and shape or lengthscale; the location is not counted."""
        return 1 if self.name in FAMILIES and FAMILIES[self.name].shape is None else 2

    @property
    def title(self) -> str:
        """The prior with its shape, in short."""
        shapes = {key: value for key, value in self.parameters.items() if key not in ("loc", "scale")}
        inside = ", ".join(f"{key} {value:.3g}" for key, value in shapes.items())
        if self.name in KERNELS:
            return f"CorrelatedNormal({self.name}, {inside})"
        return f"{self.name}({inside})" if inside else self.name


class Choice(NamedTuple):
    """name: of the candidate; prior: None for a constant parameter; evidence: in words."""

    name: str
    prior: Prior | None
    evidence: str


def recommend(
    weights: Float64[np.ndarray, " weights"],
    shape: tuple[int, ...],
    candidates: dict[str, Candidate],
    spatial: Spatial | None,
    df: Interval | None,
    scale: str,
    constant: bool,
) -> Choice:
    """Normal, until held-out weights dismiss it; see `choose`."""
    if constant:
        return Choice(
            "none",
            None,
            f"every weight is {weights[0]:g}: nothing to learn from (was it trained?), so there is no prior",
        )
    if not candidates:
        spread = math.sqrt(float(weights @ weights) / weights.size)
        text = (
            f"only {weights.size} weights, too few to tell families apart: Normal with their root mean square"
        )
        return Choice("Normal", build_prior("Normal", {"loc": 0.0, "scale": spread}, shape, scale), text)
    usable = [candidate for candidate in candidates.values() if _family_class(candidate.name) is not None]
    best = choose(usable)
    ideal = choose(list(candidates.values()))
    evidence = _evidence(best, usable, candidates, spatial, df)
    if ideal.name != best.name:
        evidence += f"; {ideal.title} would be better still, but this version has no such prior"
    zeros = float((weights == 0).mean())
    if zeros > 0.01:
        evidence += f"; {zeros:.0%} of the weights are exactly zero (pruned?), which no density of this list describes"
    off = float(weights.mean())
    if best.parameters.get("loc", 0.0) == 0.0 and abs(off) > 0.1 * float(weights.std()) > 0:
        evidence += f"; the mean {off:.2g} is off zero, where these priors are centred: location=True fits it"
    return Choice(best.name, build_prior(best.name, best.parameters, shape, scale), evidence)


def choose(candidates: list[Candidate]) -> Candidate:
    """Normal, or the best family with a scale alone that beats Normal, or the best with a shape too that beats that one."""
    (best,) = (candidate for candidate in candidates if candidate.name == "Normal")
    for count in (1, 2):
        better = [c for c in candidates if c.num_parameters == count and c is not best and c.beats(best)]
        best = max([best, *better], key=lambda candidate: candidate.log_likelihood)
    return best


def build_prior(name: str, parameters: Parameters, shape: tuple[int, ...], scale: str) -> Prior:
    """The prior object. Its scale is a number, or `fan_in(gain)` with gain = s √fan_in where the tensor has a fan-in."""
    from bnnpriors.priors import fan_in

    family = _family_class(name)
    assert family is not None
    values: dict[str, object] = {key: _rounded(value) for key, value in parameters.items()}
    if scale == "fan_in" and len(shape) >= 2:
        values["scale"] = fan_in(_rounded(parameters["scale"] * math.sqrt(math.prod(shape[1:]))))
    if name in KERNELS:
        values["kernel"] = name
    return family(**values)


def _family_class(name: str) -> type[Prior] | None:
    from bnnpriors import priors

    return getattr(priors, "CorrelatedNormal" if name in KERNELS else name, None)


def _evidence(
    best: Candidate,
    usable: list[Candidate],
    candidates: dict[str, Candidate],
    spatial: Spatial | None,
    df: Interval | None,
) -> str:
    normal = candidates["Normal"]
    parts = []
    if best is normal:
        rival = max((c for c in usable if c is not normal), key=lambda candidate: candidate.log_likelihood)
        gain, error = rival.above(normal)
        parts.append(
            f"held-out weights do not dismiss it (nearest: {rival.title}, {gain:+.4f} ± {error:.4f} nats a weight, "
            f"log e = {rival.log_evidence_against(normal):.3g})"
        )
    else:
        gain, error = best.above(normal)
        parts.append(
            f"{gain:+.4f} ± {error:.4f} nats per held-out weight over Normal, which log e = "
            f"{best.log_evidence_against(normal):.3g} dismisses ({-math.log(ALARM):.0f} needed)"
        )
    if df is not None:
        parts.append(f"tails {tails(df)}")
    if spatial is not None and spatial.correlated:
        kernel = max((candidates[name] for name in KERNELS), key=lambda candidate: candidate.log_likelihood)
        gain, error = kernel.above(normal)
        parts.append(
            f"adjacent taps correlate (r = {spatial.neighbours:.2f}, false alarm < {max(spatial.false_alarm, 1e-99):.0e}); "
            f"{kernel.title} is {gain:+.4f} ± {error:.4f} over independent Normal taps"
        )
    elif spatial is not None:
        parts.append(f"no sign that adjacent taps correlate (r = {spatial.neighbours:.2f})")
    return "; ".join(parts)


def tails(df: Interval) -> str:
    """Degrees of freedom in words."""
    if math.isinf(df.high):
        return f"Gaussian or lighter (df above {df.low:.3g})"
    value = f"{df.value:.3g}" if df.value < MAX_DF else f"> {MAX_DF:g}"
    word = "heavy" if df.high < 10 else "nearly Gaussian" if df.low > 30 else "mildly heavy"
    return f"{word} (df {value} [{df.low:.3g}, {df.high:.3g}])"


def _rounded(value: float) -> float:
    """Six digits: more than any of these figures has."""
    return float(f"{value:.6g}")
