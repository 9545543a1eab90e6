"""Exact Gaussian-process regression with the kernel of an infinitely wide network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ..evaluation import GaussianPredictive

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel

JITTERS = (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7)
ROWS = 1024
"""New inputs that are predicted at once."""


class _Solution(NamedTuple):
    """The Cholesky factor L of K + σ²I, (K + σ²I)⁻¹ y, the jitter on the diagonal, and the hyperparameters of all that."""

    factor: Tensor
    weights: Tensor
    jitter: float
    parameters: tuple[Tensor, ...]


class GPRegression(nn.Module):
    """y = f(x) + ε, f ~ GP(0, K), ε ~ N(0, σ²), the same K for every output: exact, by a Cholesky factorisation in float64
    (Rasmussen & Williams 2006, algorithm 2.1).

    Its parameters are the kernel's and `raw_noise`, log σ². The prior mean is zero, so give targets that are centred. Memory is
    two to three n × n matrices of float64.

    Args:
        kernel: from `bp.infinite.kernel(model)`.
        x: training inputs as the module takes them, [n, ...]. y: targets, [n, out] or [n].
        noise: σ², the variance of the noise in units of y²; a starting value for `fit`.

    Raises:
        ValueError: shapes that do not fit, NaN or infinities, or a noise that is not positive.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel,
        x: Float[Tensor, "n *shape"],
        y: Float[Tensor, "n *out"],
        *,
        noise: float = 1e-2,
    ) -> None:
        super().__init__()
        if not 0 < noise < math.inf:
            raise ValueError(f"GPRegression: noise {noise} given, expected a positive variance")
        if y.ndim not in (1, 2) or len(y) != len(x) or not len(x):
            raise ValueError(
                f"GPRegression: inputs {tuple(x.shape)} and targets {tuple(y.shape)} given, expected [n, ...] and [n, out] or [n]"
            )
        if not bool(y.isfinite().all()):
            raise ValueError("GPRegression: targets hold NaN or infinite values: remove those rows")
        self.kernel = kernel
        self.x = x.double()
        self.y = (y[:, None] if y.ndim == 1 else y).to(self.x)
        kernel.variance(self.x[:1])
        self.raw_noise = nn.Parameter(torch.tensor(math.log(noise), dtype=torch.float64, device=x.device))
        self._solution: _Solution | None = None

    @property
    def noise(self) -> Float64[Tensor, ""]:
        """σ²."""
        return self.raw_noise.exp()

    @property
    def jitter(self) -> float:
        """What the factorisation had to add to the diagonal of K + σ²I at the present hyperparameters; 0 if nothing."""
        return self._solved().jitter

    def log_marginal_likelihood(self) -> Float64[Tensor, ""]:
        """log p(y) = −½ tr yᵀ(K+σ²I)⁻¹y − out (½ log det(K+σ²I) + n/2 log 2π), summed over outputs; with gradients in the
        kernel's hyperparameters and the noise.
        """
        factor, _ = self._factor()
        white = torch.linalg.solve_triangular(factor, self.y, upper=False)
        n, out = self.y.shape
        return -0.5 * white.square().sum() - out * (
            factor.diagonal().log().sum() + 0.5 * n * math.log(2 * math.pi)
        )

    def fit(self, num_steps: int = 50) -> GPRegression:
        """Maximise the marginal likelihood over all parameters that require a gradient, by L-BFGS.

        Args:
            num_steps: iterations at most; each evaluates the kernel matrix and its gradient once or a few times.

        Raises:
            ValueError: fewer than one step, or no parameter to learn.
        """
        parameters = [p for p in self.parameters() if p.requires_grad and p.numel()]
        if num_steps < 1 or not parameters:
            raise ValueError(
                f"fit: num_steps {num_steps} given with {len(parameters)} parameters to learn, expected one at least of each"
            )
        optimiser = torch.optim.LBFGS(parameters, max_iter=num_steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = -self.log_marginal_likelihood() / self.y.numel()
            loss.backward()
            return loss

        optimiser.step(closure)
        optimiser.zero_grad()
        return self

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "batch *shape"]) -> GaussianPredictive:
        """The posterior predictive distribution at new inputs: mean K_*ᵀ(K+σ²I)⁻¹y and variance k_** − K_*ᵀ(K+σ²I)⁻¹K_*, plus σ².

        Raises:
            ValueError: inputs of another shape than the training inputs.
        """
        x = x.to(self.x)
        solution = self._solved()
        means, variances = [], []
        for start in range(0, len(x), ROWS):
            rows = x[start : start + ROWS]
            cross = self.kernel.matrix(self.x, rows)
            white = torch.linalg.solve_triangular(solution.factor, cross, upper=False)
            means.append(cross.mT @ solution.weights)
            variances.append((self.kernel.variance(rows) - white.square().sum(0)).clamp_min(0))
        mean = torch.cat(means) if means else self.y.new_empty(0, self.y.shape[1])
        variance = torch.cat(variances) if variances else self.y.new_empty(0)
        return GaussianPredictive(mean, variance[:, None], self.noise.detach())

    @torch.no_grad()
    def _solved(self) -> _Solution:
        """The factorisation at the present hyperparameters, kept until they change."""
        now = tuple(parameter.detach().clone() for parameter in self.parameters())
        old = self._solution
        if old is None or not all(torch.equal(a, b) for a, b in zip(now, old.parameters, strict=True)):
            factor, jitter = self._factor()
            self._solution = _Solution(factor, torch.cholesky_solve(self.y, factor), jitter, now)
        assert self._solution is not None
        return self._solution

    def _factor(self) -> tuple[Tensor, float]:
        """The Cholesky factor of K + σ²I, and the jitter that it took."""
        matrix = self.kernel.matrix(self.x)
        scale = float(matrix.diagonal().detach().mean())
        for relative in JITTERS:
            jitter = relative * scale
            shift = (self.noise + jitter) * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
            factor, info = torch.linalg.cholesky_ex(matrix + shift)
            if not bool(info.any()):
                return factor, jitter
        raise ValueError(
            f"GPRegression: K + noise · I is not positive definite in float64 (mean diagonal {scale:.3g}, noise "
            f"{float(self.noise):.3g}); raise noise, or scale the targets and the priors' variances to similar sizes"
        )
