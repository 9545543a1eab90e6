"""Classification with a softmax likelihood, by a Gaussian variational approximation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float64, Int, Num
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..evaluation import LogisticNormalPredictive
from .classification import SCALES, checked_labels
from .factor import ROWS, factorise

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel
    from .orbit import OrbitKernel
    from .precomputed import PrecomputedKernel

FEWER_POINTS = "take fewer inducing points (num_inducing), and no input twice"
_NUM_SAMPLES = 128
_STEP = 0.7


class _Sites(NamedTuple):
    """What the likelihood of each point says of each class: precisions λ and, times their means, η, both [n, classes]."""

    precision: Tensor
    linear: Tensor


class _Posterior(NamedTuple):
    """q(v_c) = N(mean_c, (R_cᵀR_c)⁻¹) of the whitened values at the inducing points, [classes, m] and R_cᵀ [classes, m, m]."""

    mean: Tensor
    factor: Tensor

    def marginals(self, features: Tensor, rest: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Means and variances [n, classes] of f = √s (Φᵀ v + remainder), with Φ [m, n] and the remainder's variance [n]."""
        mean = math.sqrt(scale) * features.mT @ self.mean.mT
        spread = [
            torch.linalg.solve_triangular(factor, features, upper=False).square().sum(0)
            for factor in self.factor
        ]
        return mean, scale * (torch.stack(spread, 1) + rest[:, None])

    def divergence(self, sites: _Sites, explained: Tensor) -> float:
        """Σ_c KL(q(v_c) ‖ N(0, I)), with tr P⁻¹ = m − Σ λ · (variance of √s Φᵀv) for the P that the sites made."""
        log_determinant = 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum()
        missing = (sites.precision * explained).sum()
        return 0.5 * float(self.mean.square().sum() - missing + log_determinant)


class SoftmaxClassifier:
    """p(c|x) = E[softmax(f(x))_c], f_c ~ GP(0, sK): the posterior of f at inducing points by the Gaussian, with a full covariance
    for each class, that maximises the evidence lower bound (Hensman et al. 2015, 1411.2005).

    The values at the inducing points are whitened, and the bound is climbed by natural gradients, each of which is a regression
    on one pseudo-observation a point (conjugate computations, Khan & Lin 2017, 1703.04796); expectations are means over 128 Sobol
    points, so that nothing is random. The inducing points are training points: with all of them the only approximation is that
    the posterior is Gaussian and independent over classes.

    Args:
        kernel, x, labels, num_classes: as for `LeastSquaresClassifier`.
        num_inducing: m inducing points, the first of x; all by default. Memory is m × n + 2 classes m² numbers.
        scale: s; `fit` chooses it, unless told otherwise.

    Attributes:
        bound: the evidence lower bound, in nats, after `fit`.

    Raises:
        As `LeastSquaresClassifier`, and ValueError for no inducing points or more than training points, or a scale that is not
        positive.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel | OrbitKernel | PrecomputedKernel,
        x: Num[Tensor, "n *shape"],
        labels: Int[Tensor, " n"],
        *,
        num_classes: int | None = None,
        num_inducing: int | None = None,
        scale: float = 1.0,
    ) -> None:
        labels, classes = checked_labels(labels, x, num_classes)
        count = len(x) if num_inducing is None else num_inducing
        if not 1 <= count <= len(x):
            raise ValueError(f"SoftmaxClassifier: num_inducing {num_inducing} given, expected 1 to {len(x)}")
        if not 0 < scale < math.inf:
            raise ValueError(f"SoftmaxClassifier: scale {scale} given, expected a positive number")
        x = x.double()
        self.kernel, self.scale, self.inducing = kernel, scale, x[:count]
        self.bound = -math.inf
        with torch.no_grad():
            cross = kernel.matrix(self.inducing, x)
            own = cross[:, :count].clone(memory_format=torch.contiguous_format)
            self._root, _ = factorise(own, own.new_zeros(()), FEWER_POINTS)
            self._features, self._rest = self._whitened(cross, kernel.variance(x))
        self._one_hot = torch.nn.functional.one_hot(labels, classes).to(self._features)
        sobol = torch.quasirandom.SobolEngine(classes, scramble=True, seed=0)
        uniform = sobol.draw(_NUM_SAMPLES, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        self._normal = torch.special.ndtri(uniform).to(self._features)[:, None]
        self._posterior = self._regress(self._start())

    @torch.no_grad()
    def fit(
        self, *, learn_scale: bool = True, num_steps: int = 100, tolerance: float = 1e-2
    ) -> SoftmaxClassifier:
        """Maximise the evidence lower bound over the posterior and the scale.

        Each step factorises one matrix of the inducing points for each class, and the scale takes about ten maximisations of some
        ten steps.

        Args:
            learn_scale: whether s is chosen, or stays: to save time, learn it from fewer points.
            num_steps: at most, for one scale.
            tolerance: in nats: the steps end when the bound changes by less.

        Raises:
            ValueError: fewer than one step.
        """
        if num_steps < 1:
            raise ValueError(f"fit: num_steps {num_steps} given, expected at least 1")
        sites = self._start()

        def loss(log_scale: float) -> float:
            nonlocal sites
            self.scale = math.exp(log_scale) / level
            sites, bound = self._climb(sites, num_steps, 10 * tolerance)
            return -bound

        if learn_scale:
            level = float((self._rest + self._features.square().sum(0)).mean())
            bounds = tuple(math.log(bound) for bound in SCALES)
            found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 0.1})
            self.scale = math.exp(found.x) / level
        _, self.bound = self._climb(sites, num_steps, tolerance)
        return self

    @torch.no_grad()
    def predict(self, x: Num[Tensor, "batch *shape"]) -> LogisticNormalPredictive:
        """Class probabilities at new inputs."""
        x = x.to(self.inducing)
        means, variances = [self._normal[0, :0]], [self._normal[0, :0]]
        for start in range(0, len(x), ROWS):
            rows = x[start : start + ROWS]
            features, rest = self._whitened(
                self.kernel.matrix(self.inducing, rows), self.kernel.variance(rows)
            )
            mean, variance = self._posterior.marginals(features, rest, self.scale)
            means.append(mean)
            variances.append(variance)
        return LogisticNormalPredictive(torch.cat(means), torch.cat(variances))

    def _whitened(
        self, cross: Tensor, variance: Tensor
    ) -> tuple[Float64[Tensor, "m n"], Float64[Tensor, " n"]]:
        """Φ = L⁻¹K_uf and what the inducing points leave of the variance, k_ff − Σ Φ²."""
        features = torch.linalg.solve_triangular(self._root, cross, upper=False)
        return features, (variance - features.square().sum(0)).clamp_min(0)

    def _start(self) -> _Sites:
        return _Sites(
            torch.full_like(self._one_hot, 0.1), self._one_hot - self._one_hot.mean(1, keepdim=True)
        )

    def _regress(self, sites: _Sites) -> _Posterior:
        """q(v_c) with precision I + sΦ diag(λ_c) Φᵀ and mean its inverse times √s Φ η_c."""
        means, factors = [], []
        for precision, linear in zip(sites.precision.unbind(1), sites.linear.unbind(1), strict=True):
            matrix = self.scale * (self._features * precision) @ self._features.mT
            matrix.diagonal().add_(1)
            factor = torch.linalg.cholesky(matrix)
            target = math.sqrt(self.scale) * self._features @ linear
            means.append(torch.cholesky_solve(target[:, None], factor)[:, 0])
            factors.append(factor)
        return _Posterior(torch.stack(means), torch.stack(factors))

    def _climb(self, sites: _Sites, num_steps: int, tolerance: float) -> tuple[_Sites, float]:
        """Natural gradient steps until the bound stands still."""
        before = -math.inf
        for _ in range(num_steps):
            self._posterior = self._regress(sites)
            mean, variance = self._posterior.marginals(self._features, self._rest, self.scale)
            log_probs = torch.log_softmax(mean + variance.sqrt() * self._normal, -1)
            probs = log_probs.exp()
            bound = float((log_probs.mean(0) * self._one_hot).sum()) - self._posterior.divergence(
                sites, variance - self.scale * self._rest[:, None]
            )
            if abs(bound - before) < tolerance:
                break
            before = bound
            slope = self._one_hot - probs.mean(0)
            curvature = (probs * (1 - probs)).mean(0)
            sites = _Sites(
                torch.lerp(sites.precision, curvature, _STEP),
                torch.lerp(sites.linear, slope + curvature * mean, _STEP),
            )
        return sites, bound
