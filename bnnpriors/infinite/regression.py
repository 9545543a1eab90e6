"""Exact Gaussian-process regression with the kernel of an infinitely wide network."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor, nn

from ..evaluation import GaussianPredictive
from .factor import check_memory, differentiable_factor, factorise, inverse_diagonal, points_at_once
from .spectrum import Spectrum

if TYPE_CHECKING:
    from .nngp import InfiniteWidthKernel
    from .orbit import OrbitKernel
    from .precomputed import PrecomputedKernel

MATRICES_OF_SPECTRUM, MATRICES_TO_LEARN = 4, 9
"""n × n matrices that are held at once, measured for n of 2,000 to 6,000."""

SLOPE = 1e-3
"""Nats a target, for a unit of a raw parameter, at which `fit` warns."""


class _Solution(NamedTuple):
    """The Cholesky factor L of sK + σ²I, in the lower triangle alone, (sK + σ²I)⁻¹ y, the jitter on the diagonal, and the
    hyperparameters of all that.
    """

    factor: Tensor
    weights: Tensor
    jitter: float
    parameters: tuple[Tensor, ...]


def checked_targets(x: Tensor, y: Tensor, **positive: float) -> Float[Tensor, "n out"]:
    """Targets as [n, out].

    Raises:
        ValueError: shapes that do not fit, NaN or infinities, or a noise or scale that is not positive.
    """
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"GPRegression: {name} {value} given, expected a positive variance")
    if y.ndim not in (1, 2) or len(y) != len(x) or not len(x):
        raise ValueError(
            f"GPRegression: inputs {tuple(x.shape)} and targets {tuple(y.shape)} given, expected [n, ...] and [n, out] or [n]"
        )
    if not bool(y.isfinite().all()):
        raise ValueError("GPRegression: targets hold NaN or infinite values: remove those rows")
    return y[:, None] if y.ndim == 1 else y


class GPRegression(nn.Module):
    """y = f(x) + ε, f ~ GP(0, sK), ε ~ N(0, σ²), the same K for every output: exact, by a Cholesky factorisation in float64
    (Rasmussen & Williams 2006, algorithm 2.1).

    Its parameters are the kernel's, `raw_noise`, log σ², and `raw_scale`, log s, which `fit` leaves alone (the variances of a
    network's last layer say the same). The prior mean is zero, so give targets that are centred. On the CPU memory is one n × n
    matrix of float64, which the factor overwrites (20 GB for n = 50,000, read tile by tile where it is a `StoredGram`); two on
    CUDA, four for `select_noise`, about nine for `fit`, which choose well from a few thousand points.

    Args:
        kernel: from `bp.infinite.kernel(model)`, or `PrecomputedKernel(matrix)`.
        x: training inputs as the module takes them, [n, ...], or numbers of points. y: targets, [n, out] or [n].
        noise: σ², the variance of the noise in units of y²; a starting value for `fit`.
        scale: s, a factor of the kernel.

    Raises:
        ValueError: shapes that do not fit, NaN or infinities, or a noise or scale that is not positive. MemoryError, where the
            factor is needed first: the memory that is free does not hold what is needed.
    """

    def __init__(
        self,
        kernel: InfiniteWidthKernel | OrbitKernel | PrecomputedKernel,
        x: Num[Tensor, "n *shape"],
        y: Float[Tensor, "n *out"],
        *,
        noise: float = 1e-2,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        y = checked_targets(x, y, noise=noise, scale=scale)
        self.kernel = kernel
        self.x = x.double()
        self.y = y.to(self.x)
        kernel.variance(self.x[:1])
        start = torch.tensor([math.log(noise), math.log(scale)], dtype=torch.float64, device=x.device)
        self.raw_noise = nn.Parameter(start[0].clone())
        self.raw_scale = nn.Parameter(start[1].clone(), requires_grad=False)
        self._solution: _Solution | None = None

    @property
    def noise(self) -> Float64[Tensor, ""]:
        """σ²."""
        return self.raw_noise.exp()

    @property
    def scale(self) -> Float64[Tensor, ""]:
        """s."""
        return self.raw_scale.exp()

    @property
    def jitter(self) -> float:
        """What the factorisation had to add to the diagonal of sK + σ²I at the present hyperparameters; 0 if nothing."""
        return self._solved().jitter

    def log_marginal_likelihood(self) -> Float64[Tensor, ""]:
        """log p(y) = −½ tr yᵀ(sK+σ²I)⁻¹y − out (½ log det(sK+σ²I) + n/2 log 2π), summed over outputs; with gradients in the
        kernel's hyperparameters and the noise, where gradients are wanted.
        """
        wants_gradient = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if wants_gradient:
            self._check_memory(MATRICES_TO_LEARN, "a gradient of the marginal likelihood")
            factor = differentiable_factor(self.scale * self.kernel.matrix(self.x), self.noise)
        else:
            factor = self._solved().factor
        white = torch.linalg.solve_triangular(factor, self.y, upper=False)
        n, out = self.y.shape
        return -0.5 * white.square().sum() - out * (
            factor.diagonal().log().sum() + 0.5 * n * math.log(2 * math.pi)
        )

    @torch.no_grad()
    def select_noise(
        self,
        criterion: Literal["marginal_likelihood", "leave_one_out"] = "marginal_likelihood",
        *,
        validation: tuple[Num[Tensor, "m *shape"], Float[Tensor, "m *out"]] | None = None,
    ) -> GPRegression:
        """Set the noise σ² and the scale s to the best ones, from one eigendecomposition of K: each value of σ²/s then costs O(n)
        by marginal likelihood, and no factorisation by the others; s has a closed form. Values from 1e-10 to 100 times K's mean
        diagonal are looked at.

        Args:
            criterion: the log density of all targets, or the sum of those of each given all others.
            validation: inputs and targets that are held out, whose log density is then the criterion.

        Raises:
            ValueError: another criterion, held-out data of a shape that does not fit, or targets that are all zero.
        """
        if criterion not in ("marginal_likelihood", "leave_one_out"):
            raise ValueError(
                f"select_noise: criterion {criterion!r} given, expected 'marginal_likelihood' or 'leave_one_out'; for held-out "
                "data give validation=(x, y)"
            )
        if not bool((self.y != 0).any()):
            raise ValueError("select_noise: the targets are all zero, so no noise is the best")
        held_out = None
        if validation is not None:
            x, y = validation[0].to(self.x), validation[1].to(self.y)
            y = y[:, None] if y.ndim == 1 else y
            if not len(x) or y.shape != (len(x), self.y.shape[1]):
                raise ValueError(
                    f"select_noise: validation inputs {tuple(x.shape)} and targets {tuple(y.shape)} given, expected [m, ...] and "
                    f"[m, {self.y.shape[1]}]"
                )
            held_out = (self.kernel.matrix(x, self.x), self.kernel.variance(x), y)
        self._check_memory(MATRICES_OF_SPECTRUM, "the eigendecomposition by which select_noise works")
        spectrum = Spectrum.of(self.kernel.matrix(self.x), self.y)
        if held_out is not None:
            cross, variance, y = held_out
            rotated = cross @ spectrum.vectors
            noise, scale = spectrum.best(lambda ratio: spectrum.held_out(ratio, rotated, variance, y))
        elif criterion == "leave_one_out":
            noise, scale = spectrum.best(spectrum.leave_one_out)
        else:
            noise, scale = spectrum.best(spectrum.marginal)
        self.raw_noise.fill_(math.log(noise))
        self.raw_scale.fill_(math.log(scale))
        return self

    @torch.no_grad()
    def leave_one_out(self, num_last: int | None = None) -> GaussianPredictive:
        """The predictive distribution of each training target given all others: mean y_i − [A⁻¹y]_i/[A⁻¹]_ii and variance
        1/[A⁻¹]_ii, A = sK + σ²I (Rasmussen & Williams 2006, equation 5.12).

        Args:
            num_last: of the last m training points alone, each given all n − 1 others. It takes m³/3 multiply-adds and an m × m
                matrix beside the factor, as the last rows and columns of L hold [A⁻¹]_ii.

        Raises:
            ValueError: fewer than one point, or more than there are.
        """
        count = len(self.x) if num_last is None else num_last
        if not 0 < count <= len(self.x):
            raise ValueError(f"leave_one_out: num_last {num_last} given, expected 1 to {len(self.x)}")
        solution, noise = self._solved(), self.noise.detach()
        inverse = inverse_diagonal(solution.factor[-count:, -count:])[:, None]
        mean = self.y[-count:] - solution.weights[-count:] / inverse
        return GaussianPredictive(mean, (1 / inverse - noise).clamp_min(0), noise)

    def fit(self, num_steps: int = 50) -> GPRegression:
        """Maximise the marginal likelihood over all parameters that require a gradient, by L-BFGS.

        Args:
            num_steps: iterations at most; each evaluates the kernel matrix and its gradient once or a few times. A warning tells
                where they end on a slope: more than a thousandth of a nat a target for a parameter.

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
        closure()
        slope = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
        optimiser.zero_grad()
        if slope > SLOPE:
            warnings.warn(
                f"fit: after {num_steps} steps the log marginal likelihood still rises by {slope:.2g} nats a target for a "
                "unit of a parameter: raise num_steps, or call fit again, which goes on from here",
                stacklevel=2,
            )
        return self

    @torch.no_grad()
    def predict(self, x: Num[Tensor, "batch *shape"]) -> GaussianPredictive:
        """The posterior predictive distribution at new inputs: mean sK_*ᵀA⁻¹y and variance sk_** − s²K_*ᵀA⁻¹K_* + σ², A = sK+σ²I.

        Raises:
            ValueError: inputs of another shape than the training inputs.
        """
        x = x.to(self.x)
        solution, scale = self._solved(), self.scale
        means, variances = [], []
        for rows in x.split(points_at_once(len(self.x))) if len(x) else ():
            cross = self.kernel.matrix(self.x, rows).mul_(scale)
            means.append(cross.mT @ solution.weights)
            torch.linalg.solve_triangular(solution.factor, cross, upper=False, out=cross)
            explained = torch.linalg.vector_norm(cross, dim=0).square()
            variances.append((scale * self.kernel.variance(rows) - explained).clamp_min(0))
        mean = torch.cat(means) if means else self.y.new_empty(0, self.y.shape[1])
        variance = torch.cat(variances) if variances else self.y.new_empty(0)
        return GaussianPredictive(mean, variance[:, None], self.noise.detach())

    @torch.no_grad()
    def _solved(self) -> _Solution:
        """The factorisation at the present hyperparameters, kept until they change."""
        now = tuple(parameter.detach().clone() for parameter in self.parameters())
        old = self._solution
        if old is None or not all(torch.equal(a, b) for a, b in zip(now, old.parameters, strict=True)):
            self._solution = None
            self._check_memory()
            matrix = self.kernel.matrix(self.x).contiguous()
            factor, jitter = factorise(matrix.mul_(self.scale), self.noise)
            white = torch.linalg.solve_triangular(factor, self.y, upper=False)
            self._solution = _Solution(
                factor, torch.linalg.solve_triangular(factor.mT, white, upper=True), jitter, now
            )
        assert self._solution is not None
        return self._solution

    def _check_memory(self, matrices: int = 1, what: str = "exact regression") -> None:
        if self.x.device.type == "cpu":
            check_memory(len(self.x), matrices, what=what)
