"""Classification with exact regressions: least squares on one-hot targets, and Dirichlet classification."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int, Num
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..cost import free_memory
from ..evaluation import LogisticNormalPredictive
from .factor import ROWS, check_memory, factorise, memory_to_solve
from .regression import GPRegression

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel
    from .orbit import OrbitKernel
    from .precomputed import PrecomputedKernel

LEFT_OUT = 10_000
"""Training points, the last ones, that choose the temperature."""
TEMPERATURES = (1e-3, 10.0)
ONE_MATRIX = "use LeastSquaresClassifier, which needs one matrix of them"
SCALES = (1e-3, 1e5)


def checked_labels(labels: Tensor, x: Tensor, num_classes: int | None) -> tuple[Tensor, int]:
    """Labels as int64, and the number of classes.

    Raises:
        TypeError: labels that are not integers. ValueError: not one for each input, out of range, or fewer than two classes.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels of {labels.dtype} given, expected integer class indices; use labels.long()")
    if labels.ndim != 1 or len(labels) != len(x) or not len(x):
        raise ValueError(
            f"inputs {tuple(x.shape)} and labels {tuple(labels.shape)} given, expected [n, ...] and [n]"
        )
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if classes < 2 or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())} with {classes} classes given, expected two classes or "
            "more and labels from 0"
        )
    return labels.long(), classes


class LeastSquaresClassifier:
    """Classification by regression (Rasmussen & Williams 2006, section 6.5): f ~ GP(0, sK) fits y_c = 1[class is c] − 1/C.

    The regression knows no classes; probabilities come out of it as p(c|x) = E[softmax(f(x)/τ)_c] over the posterior of f at x
    (noise not included), which are then judged, and τ chosen, as such: τ minimises −Σ_i log p(c_i|x_i) over training points (of
    more than 10,000 the last 10,000), each predicted from all others. That takes no further data and no further factorisation.
    The most probable class is that of the largest mean.

    Args:
        kernel, x: as for `GPRegression`.
        labels: class indices from 0, [n]. num_classes: C; by default the largest label plus one.
        noise, scale: σ² and s of the regression; without a noise both are chosen by leaving one out
            (`GPRegression.select_noise`).

    Raises:
        TypeError: labels that are not integers. ValueError: inputs and labels that do not fit, labels out of range, one class.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel | OrbitKernel | PrecomputedKernel,
        x: Num[Tensor, "n *shape"],
        labels: Int[Tensor, " n"],
        *,
        num_classes: int | None = None,
        noise: float | None = None,
        scale: float = 1.0,
    ) -> None:
        labels, classes = checked_labels(labels, x, num_classes)
        targets = torch.nn.functional.one_hot(labels, classes).double() - 1 / classes
        self.regression = GPRegression(
            kernel, x, targets, noise=1e-2 if noise is None else noise, scale=scale
        )
        if noise is None:
            self.regression.select_noise("leave_one_out")
        self._labels = labels
        self.temperature = self._best_temperature()

    def predict(self, x: Num[Tensor, "batch *shape"]) -> LogisticNormalPredictive:
        """Class probabilities at new inputs."""
        pred = self.regression.predict(x)
        return _softened(pred.mean, pred.epistemic_variance, self.temperature)

    @torch.no_grad()
    def _best_temperature(self) -> float:
        labels = self._labels[-LEFT_OUT:]
        pred = self.regression.leave_one_out(len(labels))

        def loss(log_temperature: float) -> float:
            softened = _softened(pred.mean, pred.epistemic_variance, math.exp(log_temperature))
            return -float(softened.log_prob(labels).mean())

        bounds = tuple(math.log(bound) for bound in TEMPERATURES)
        return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)


class DirichletClassifier:
    """Dirichlet-based classification (Milios et al. 2018, 1805.10915): each class is a regression with a noise for each point.

    A label says that its class has concentration α = 1 + α_ε and the others α_ε; a Gamma(α, 1) variable is matched in its moments
    by a log-normal one, so that class c is a regression on ỹ = log α − σ̃²/2 with noise variance σ̃² = log(1/α + 1). Class
    probabilities are p(c|x) = E[softmax(f(x))_c] over the posterior of f. The prior mean of every class is the mean of all ỹ.

    Memory is two n × n matrices. `predict` factorises one for each class, and keeps the factors for the next call where
    the memory holds them; where it does not, predict all inputs in one call.

    Args:
        kernel, x, labels, num_classes: as for `LeastSquaresClassifier`.
        alpha: α_ε; small numbers trust the labels.
        scale: s, of the prior f ~ GP(·, sK); `fit` chooses it by marginal likelihood.

    Raises:
        As `LeastSquaresClassifier`, and ValueError for an alpha or a scale that is not positive. MemoryError, where factors are
            needed first: the memory that is free does not hold two matrices.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel | OrbitKernel | PrecomputedKernel,
        x: Num[Tensor, "n *shape"],
        labels: Int[Tensor, " n"],
        *,
        num_classes: int | None = None,
        alpha: float = 0.01,
        scale: float = 1.0,
    ) -> None:
        for name, value in (("alpha", alpha), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"DirichletClassifier: {name} {value} given, expected a positive number")
        labels, classes = checked_labels(labels, x, num_classes)
        self.kernel, self.x, self.scale = kernel, x.double(), scale
        concentration = alpha + torch.nn.functional.one_hot(labels, classes).to(self.x)
        self.noise = torch.log1p(1 / concentration)
        """σ̃², [n, classes]."""
        self.targets = concentration.log() - 0.5 * self.noise
        """ỹ, [n, classes]."""
        self.prior_mean = float(self.targets.mean())
        self._kept: tuple[Tensor, list[tuple[Tensor, Tensor]]] | None = None
        kernel.variance(self.x[:1])

    @torch.no_grad()
    def fit(self, num_points: int = 1000) -> DirichletClassifier:
        """Set the scale s to the one of the highest marginal likelihood of the first `num_points` points.

        Each of about twenty values factorises one matrix for each class.

        Raises:
            ValueError: fewer than one point.
        """
        if num_points < 1:
            raise ValueError(f"fit: num_points {num_points} given, expected at least 1")
        matrix = self.kernel.matrix(self.x[:num_points])
        level = float(matrix.diagonal().mean())

        def loss(log_scale: float) -> float:
            return -self._log_marginal_likelihood(matrix, math.exp(log_scale) / level)

        bounds = tuple(math.log(bound) for bound in SCALES)
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-2})
        self.scale = math.exp(found.x) / level
        return self

    @torch.no_grad()
    def log_marginal_likelihood(self) -> float:
        """log p(ỹ), summed over classes."""
        return self._log_marginal_likelihood(self.kernel.matrix(self.x), self.scale)

    @torch.no_grad()
    def predict(self, x: Num[Tensor, "batch *shape"]) -> LogisticNormalPredictive:
        """Class probabilities at new inputs."""
        x = x.to(self.x)
        mean = self.targets.new_full((len(x), self.targets.shape[1]), self.prior_mean)
        variance = torch.zeros_like(mean)
        for c, (factor, weights) in enumerate(self._solved()):
            for start in range(0, len(x), ROWS):
                rows = slice(start, start + ROWS)
                cross = self.scale * self.kernel.matrix(self.x, x[rows])
                white = torch.linalg.solve_triangular(factor, cross, upper=False)
                mean[rows, c] += white.mT @ weights
                variance[rows, c] = (
                    self.scale * self.kernel.variance(x[rows]) - white.square().sum(0)
                ).clamp_min(0)
        return LogisticNormalPredictive(mean, variance)

    def _solved(self) -> Iterator[tuple[Tensor, Tensor]]:
        """`_solve` of all points for class after class, kept where the memory holds the factors of all of them."""
        parameters = (p.detach().flatten().to(self.targets) for p in self.kernel.parameters())
        now = torch.cat([self.targets.new_tensor([self.scale]), *parameters])
        if self._kept is not None and torch.equal(self._kept[0], now):
            yield from self._kept[1]
            return
        self._kept = None
        count, classes = self.targets.shape
        if self.x.device.type == "cpu":
            check_memory(count, 2, what="Dirichlet classification", remedy=ONE_MATRIX)
        keeps = memory_to_solve(count, 2 + classes) < free_memory() / 2
        matrix, solved = self.kernel.matrix(self.x), list[tuple[Tensor, Tensor]]()
        for c in range(classes):
            each = self._solve(matrix, self.scale, c)
            if keeps:
                solved.append(each)
            yield each
        if keeps:
            self._kept = now, solved

    def _solve(
        self, matrix: Tensor, scale: float, c: int
    ) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, " n"]]:
        """The factor L of sK + diag(σ̃²) for a class, in the lower triangle alone, and L⁻¹(ỹ − mean)."""
        count = len(matrix)
        factor, _ = factorise(scale * matrix, self.noise[:count, c])
        centred = self.targets[:count, c, None] - self.prior_mean
        return factor, torch.linalg.solve_triangular(factor, centred, upper=False)[:, 0]

    def _log_marginal_likelihood(self, matrix: Tensor, scale: float) -> float:
        total = -0.5 * len(matrix) * self.targets.shape[1] * math.log(2 * math.pi)
        for c in range(self.targets.shape[1]):
            factor, white = self._solve(matrix, scale, c)
            total -= 0.5 * float(white.square().sum()) + float(factor.diagonal().log().sum())
        return total


def _softened(mean: Tensor, variance: Tensor, temperature: float) -> LogisticNormalPredictive:
    return LogisticNormalPredictive(mean / temperature, variance / temperature**2)
