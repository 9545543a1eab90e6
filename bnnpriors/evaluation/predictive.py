"""The predictive distribution p(y* | x*, data): the one object that metrics, diagnostics and plots look at.

`Predictive` says what every predictive distribution can answer, whoever made it (posterior draws, a Gaussian
process, a variational fit). `SamplePredictive` is the mixture over posterior draws.

Shapes: `batch` inputs, `out` regression outputs, `classes` classes. Figures of regression are in the units
of the targets the model was trained on; entropies and log densities are in nats.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Kind = Literal["regression", "classification"]


class Predictive(ABC):
    """A predictive distribution at `num_points` inputs.

    A subclass defines `kind`, `num_points` and `log_prob`, and then for regression `mean`,
    `epistemic_variance`, `aleatoric_variance`, `cdf` and `quantile`; for classification `log_probs` and
    `aleatoric_entropy`. The rest follows. What belongs to the other kind raises `TypeError`.
    """

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """`"regression"` or `"classification"`."""

    @property
    @abstractmethod
    def num_points(self) -> int:
        """The number of inputs, `batch`."""

    @abstractmethod
    def log_prob(self, y: Shaped[Tensor, "batch *out"]) -> Float[Tensor, " batch"]:
        """Log predictive density (regression: joint over the outputs of one input) or log probability of
        each target.
        """

    @property
    def mean(self) -> Float[Tensor, "batch out"]:
        """E[y]. Regression only."""
        raise self._undefined("mean")

    @property
    def epistemic_variance(self) -> Float[Tensor, "batch out"]:
        """Var_θ(E[y | θ]): what more data would remove. Regression only."""
        raise self._undefined("epistemic_variance")

    @property
    def aleatoric_variance(self) -> Float[Tensor, "batch out"]:
        """E_θ[Var(y | θ)]: the noise of the observations. Regression only."""
        raise self._undefined("aleatoric_variance")

    @property
    def variance(self) -> Float[Tensor, "batch out"]:
        """Var(y) = Var_θ(E[y | θ]) + E_θ[Var(y | θ)], the law of total variance. Regression only."""
        return self.epistemic_variance + self.aleatoric_variance

    def cdf(self, y: Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        """P(Y ≤ y) of each output by itself. Regression only."""
        raise self._undefined("cdf")

    def quantile(self, probability: float | Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        """The inverse of `cdf`, for probabilities strictly between 0 and 1. Regression only."""
        raise self._undefined("quantile")

    def interval(self, level: float = 0.95) -> tuple[Float[Tensor, "batch out"], Float[Tensor, "batch out"]]:
        """The central interval that holds a new observation (noise included) with probability `level`.
        Regression only.

        Returns the quantiles at (1 − level)/2 and (1 + level)/2. Raises `ValueError` for a level outside (0,
        1).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level {level}: expected a probability between 0 and 1, such as 0.95")
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    @property
    def log_probs(self) -> Float[Tensor, "batch classes"]:
        """Log predictive probability of each class. Classification only."""
        raise self._undefined("log_probs")

    @property
    def probs(self) -> Float[Tensor, "batch classes"]:
        """Predictive probability of each class, exp(log_probs), at most 1. Classification only."""
        return self.log_probs.exp().clamp(max=1.0)

    @property
    def total_entropy(self) -> Float[Tensor, " batch"]:
        """H(E_θ[p]) = −Σ_c p_c log p_c of the averaged probabilities, in nats. Classification only."""
        return torch.special.entr(self.probs).sum(-1)

    @property
    def aleatoric_entropy(self) -> Float[Tensor, " batch"]:
        """E_θ[H(p)], the mean entropy of one draw's probabilities, in nats. Classification only."""
        raise self._undefined("aleatoric_entropy")

    @property
    def epistemic_entropy(self) -> Float[Tensor, " batch"]:
        """The mutual information of label and weights, H(E_θ[p]) − E_θ[H(p)] ≥ 0, in nats. Classification
        only.

        Source: Houlsby et al. 2011 (1112.5745), equation 2. Rounding below zero is cut off.
        """
        return (self.total_entropy - self.aleatoric_entropy).clamp(min=0.0)

    def targets(self, y: Shaped[Tensor, "*given"]) -> Shaped[Tensor, "batch *out"]:
        """`y` after checks, on the device of the predictions: [batch, out] for regression, [batch] integers
        for classes.

        A vector of regression targets counts as one output. Raises `TypeError` for labels that are not
        integers and `ValueError` for a wrong shape, NaN or infinite targets, or labels out of range.
        """
        return self._class_labels(y) if self.kind == "classification" else self._real_targets(y)

    def _class_labels(self, y: Tensor) -> Int[Tensor, " batch"]:
        batch, classes = self.log_probs.shape
        if tuple(y.shape) != (batch,):
            raise ValueError(
                f"labels {tuple(y.shape)}: expected ({batch},), one class index for each input; turn "
                "one-hot rows into indices with y.argmax(-1)"
            )
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise TypeError(f"labels of type {y.dtype}: expected integer class indices — use y.long()")
        if batch and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise ValueError(
                f"labels from {int(y.min())} to {int(y.max())}: expected 0 to {classes - 1}, because the "
                f"predictions have {classes} classes"
            )
        return y.to(self.log_probs.device).long()

    def _real_targets(self, y: Tensor) -> Float[Tensor, "batch out"]:
        y = y.unsqueeze(-1) if y.ndim == 1 else y
        if y.shape != self.mean.shape:
            raise ValueError(
                f"targets {tuple(y.shape)}: expected {tuple(self.mean.shape)}, as the predicted means"
            )
        if not torch.isfinite(y).all():
            raise ValueError("targets hold NaN or infinite values: remove those rows from x and y")
        return y.to(self.mean)

    def _undefined(self, name: str) -> TypeError:
        other = "classification" if self.kind == "regression" else "regression"
        return TypeError(
            f"{name} is not defined by {type(self).__name__} of kind {self.kind!r}: it belongs to {other}, "
            "or the subclass has to define it"
        )
