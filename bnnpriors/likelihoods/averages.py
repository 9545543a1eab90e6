"""Averages of a likelihood over copies of one input, in training and in predictions."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Likelihood

AVERAGES = ("probs", "logits", "losses")


def check_average(average: str) -> None:
    """Raise ValueError for an unknown average."""
    if average not in AVERAGES:
        raise ValueError(f"Augmented: average {average!r} given, expected 'probs', 'logits' or 'losses'")


def average_log_prob(
    base: Any, average: str, outputs: Float[Tensor, "batch copies *out"], y: Any
) -> Float[Tensor, " batch"]:
    """log (1/K) Σ p(y|f_k), log p(y | (1/K) Σ f_k) or (1/K) Σ log p(y|f_k) of each example.

    Probabilities are averaged by logsumexp, so that a miss of many nats keeps its value and its gradient.
    """
    if average == "logits":
        return base.log_prob(outputs.mean(1), y)
    batch, copies = outputs.shape[:2]
    each = base.log_prob(outputs.flatten(0, 1), y.repeat_interleave(copies, 0)).view(batch, copies)
    if average == "losses":
        return each.mean(1)
    return torch.logsumexp(each, 1) - math.log(copies)


def averaged(base: Any, average: str) -> AveragedLikelihood:
    """The likelihood of predictions, with the methods that the base likelihood allows."""
    kind = getattr(base, "kind", None)
    if kind == "classification" and hasattr(base, "log_probs"):
        return AveragedClasses(base, average)
    if kind == "regression" and hasattr(base, "mean") and hasattr(base, "variance"):
        return AveragedRegression(base, average)
    return AveragedLikelihood(base, average)


class AveragedLikelihood(Likelihood):
    """A base likelihood averaged over copies in predictions: "probs", or the average of the outputs.

    Args:
        base: any likelihood. average: of `Augmented`; "losses" counts as "logits".
    """

    def __init__(self, base: Any, average: str) -> None:
        super().__init__()
        self.base = base
        self.average = "probs" if average == "probs" else "logits"
        self.sites = base.sites if isinstance(base, Likelihood) else []
        if kind := getattr(base, "kind", None):
            self.kind = kind

    def reduced(
        self, outputs: Float[Tensor, "draws batch copies *out"]
    ) -> Float[Tensor, "draws batch few *out"]:
        """The same predictions in as little room as the average allows: one copy, where their mean says as much."""
        return outputs.mean(2, keepdim=True) if self.average == "logits" else outputs

    def latents(self) -> dict[str, Tensor]:
        """The base likelihood's."""
        return self.base.latents() if isinstance(self.base, Likelihood) else {}

    def swaps(self, latents: Any) -> dict[str, Tensor]:
        """The base likelihood's, under their names here."""
        return {f"base.{name}": value for name, value in self.base.swaps(latents).items()} if latents else {}

    def log_prob(self, outputs: Float[Tensor, "batch copies *out"], y: Any) -> Float[Tensor, " batch"]:
        """The average over the copies of each example."""
        return average_log_prob(self.base, self.average, outputs, y)


class AveragedClasses(AveragedLikelihood):
    """Class probabilities averaged over copies."""

    def reduced(
        self, outputs: Float[Tensor, "draws batch copies *out"]
    ) -> Float[Tensor, "draws batch few *out"]:
        """One copy: the mean outputs, or log (1/K) Σ p_k, whose softmax is the mean of the probabilities."""
        if self.average == "logits":
            return super().reduced(outputs)
        each = self.base.log_probs(outputs.flatten(0, 2)).view(outputs.shape)
        return torch.logsumexp(each, 2, keepdim=True) - math.log(outputs.shape[2])

    def log_probs(self, outputs: Float[Tensor, "batch copies classes"]) -> Float[Tensor, "batch classes"]:
        """log (1/K) Σ p_k, or the log probabilities of the mean outputs."""
        if self.average == "logits":
            return self.base.log_probs(outputs.mean(1))
        each = self.base.log_probs(outputs.flatten(0, 1)).view(outputs.shape)
        return torch.logsumexp(each, 1) - math.log(outputs.shape[1])


class AveragedRegression(AveragedLikelihood):
    """A mixture over copies, or the base likelihood at their mean."""

    def mean(self, outputs: Float[Tensor, "batch copies *out"]) -> Float[Tensor, "batch *out"]:
        """E[y]."""
        return self._each("mean", outputs).mean(1)

    def variance(self, outputs: Float[Tensor, "batch copies *out"]) -> Float[Tensor, "batch *out"]:
        """Var[y]: that of the noise, and for a mixture that of the means (the law of total variance)."""
        within = self._each("variance", outputs).mean(1)
        return within + self._each("mean", outputs).var(1, correction=0)

    def cdf(
        self, outputs: Float[Tensor, "batch copies *out"], y: Float[Tensor, "batch *out"]
    ) -> Float[Tensor, "batch *out"]:
        """P(Y ≤ y) of each output: the mean over the copies; noise is normal unless the base likelihood has a `cdf`."""
        if hasattr(self.base, "cdf"):
            rows = self._rows(outputs)
            below = self.base.cdf(rows.flatten(0, 1), y.repeat_interleave(rows.shape[1], 0))
            return below.view(*rows.shape[:2], *y.shape[1:]).mean(1)
        scale = self._each("variance", outputs).sqrt()
        return torch.special.ndtr((y.unsqueeze(1) - self._each("mean", outputs)) / scale).mean(1)

    def _rows(self, outputs: Tensor) -> Tensor:
        return outputs if self.average == "probs" else outputs.mean(1, keepdim=True)

    def _each(self, method: str, outputs: Tensor) -> Tensor:
        rows = self._rows(outputs)
        return getattr(self.base, method)(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
