"""From held-out likelihoods to one prior, with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp

from ..base import Prior
from .families import FAMILIES, Interval, Parameters
from .multivariate_t import STUDENT_KERNELS
from .spatial import KERNELS, Spatial
from .student import MAX_DF

CORRELATED = (*KERNELS, *STUDENT_KERNELS)
"""The families of whole filters."""

ALARM = 1e-6 / (len(FAMILIES) + len(CORRELATED) - 1)
"""False-alarm rate of one comparison of two families. The true family of a layer, be it Normal or a richer one, faces at most
all the others, thirteen, so that it is dismissed with a probability below 1e-6."""


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
        """Scale; shape or lengthscale; or both. The location is not counted."""
        if self.name in FAMILIES:
            return 1 if FAMILIES[self.name].shape is None else 2
        return 2 if self.name in KERNELS else 3

    @property
    def title(self) -> str:
        """The prior with its shape, in short."""
        shapes = {key: value for key, value in self.parameters.items() if key not in ("loc", "scale")}
        inside = ", ".join(f"{key} {value:.3g}" for key, value in shapes.items())
        family, kernel = prior_of(self.name)
        inside = ", ".join(part for part in (kernel, inside) if part)
        return f"{family}({inside})" if inside else family


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
    best = choose(list(candidates.values()))
    evidence = _evidence(best, candidates, spatial, df)
    zeros = float((weights == 0).mean())
    if zeros > 0.01:
        evidence += f"; {zeros:.0%} of the weights are exactly zero (pruned?), which no density of this list describes"
    off = float(weights.mean())
    if best.parameters.get("loc", 0.0) == 0.0 and abs(off) > 0.1 * float(weights.std()) > 0:
        evidence += f"; the mean {off:.2g} is off zero, where "
        evidence += (
            "these priors are centred: location=True fits it"
            if "loc" in best.parameters
            else "this prior is centred"
        )
    return Choice(best.name, build_prior(best.name, best.parameters, shape, scale), evidence)


def choose(candidates: list[Candidate]) -> Candidate:
    """Normal, or the best family with a scale alone that beats Normal, or the best with a shape or lengthscale too that beats
    that one, or the best with both that beats that one."""
    (best,) = (candidate for candidate in candidates if candidate.name == "Normal")
    for count in (1, 2, 3):
        better = [c for c in candidates if c.num_parameters == count and c is not best and c.beats(best)]
        best = _best([best, *better])
    return best


def build_prior(name: str, parameters: Parameters, shape: tuple[int, ...], scale: str) -> Prior:
    """The prior object. Its scale is a number, or `fan_in(gain)` with gain = s √fan_in where the tensor has a fan-in."""
    from bnnpriors import priors

    family, kernel = prior_of(name)
    values: dict[str, object] = {key: _rounded(value) for key, value in parameters.items()}
    if scale == "fan_in" and len(shape) >= 2:
        values["scale"] = priors.fan_in(_rounded(parameters["scale"] * math.sqrt(math.prod(shape[1:]))))
    if kernel is not None:
        values["kernel"] = kernel
    prior: Prior = getattr(priors, family)(**values)
    return prior


def prior_of(name: str) -> tuple[str, str | None]:
    """The class of the prior, and its kernel where it has one."""
    if name in KERNELS:
        return "CorrelatedNormal", name
    if name in STUDENT_KERNELS:
        return "CorrelatedStudentT", STUDENT_KERNELS[name]
    return name, None


def _evidence(
    best: Candidate,
    candidates: dict[str, Candidate],
    spatial: Spatial | None,
    df: Interval | None,
) -> str:
    normal = candidates["Normal"]
    parts = []
    if best is normal:
        rival = _best(candidate for candidate in candidates.values() if candidate is not normal)
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
    if best.num_parameters == 3:
        rival = _best(candidate for candidate in candidates.values() if candidate.num_parameters < 3)
        gain, error = best.above(rival)
        parts.append(
            f"{gain:+.4f} ± {error:.4f} over {rival.title}, the best with fewer parameters "
            f"(log e = {best.log_evidence_against(rival):.3g})"
        )
    if df is not None:
        parts.append(f"tails {tails(df)}")
    if spatial is not None and spatial.correlated:
        parts.append(
            f"adjacent taps correlate (r = {spatial.neighbours:.2f}, false alarm < {max(spatial.false_alarm, 1e-99):.0e})"
        )
        kernel = _best(candidates[name] for name in CORRELATED)
        if kernel is not best:
            gain, error = kernel.above(normal)
            parts.append(f"{kernel.title} is {gain:+.4f} ± {error:.4f} over independent Normal taps")
    elif spatial is not None:
        parts.append(f"no sign that adjacent taps correlate (r = {spatial.neighbours:.2f})")
    return "; ".join(parts)


def _best(candidates: Iterable[Candidate]) -> Candidate:
    return max(candidates, key=lambda candidate: candidate.log_likelihood)


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
