"""The matrix-normal prior: correlated inputs (columns) and, if wanted, correlated outputs (rows) of one weight tensor."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from .base import Parameter, Prior, as_prior
from .constrained import LKJCholesky
from .location_scale import Normal
from .parameters import check_broadcast, check_parameter, log, moments, value_of

Covariance = Tensor | Prior | torch.distributions.Distribution


class MatrixNormal(Prior):
    """Matrix normal: W [out, inputs] = scale · A Z Bᵀ with Z standard normal, AAᵀ the covariance of rows, BBᵀ that of columns:
    log p(W) = Σ log N(Z) − out · log det B − inputs · log det A − Σ log scale. Variance scale² for correlations AAᵀ, BBᵀ.

    The column covariance is learnt as a scale times a correlation: `columns` is a prior on the factor of the correlation, and
    `scale=HalfCauchy(1.0).per("input")` gives each input a scale of its own. A correlation of n inputs has n(n − 1)/2 latents
    and costs O(n³) an evaluation, so it is for layers of up to a few hundred inputs. Convolutions count every tap as an input.

    Args:
        scale: a positive number or tensor, a rule, or a prior.
        columns: a covariance matrix [inputs, inputs], or a prior on the Cholesky factor of a correlation matrix.
        rows: the same for outputs [out, out]; None for independent ones.
        centred: `True` makes W the latent in place of Z; its log prior then solves a triangular system for every output.

    Raises:
        ValueError: a matrix that is not symmetric positive definite or does not fit, or a prior that is not on such factors.
    """

    def __init__(
        self,
        scale: Parameter = 1.0,
        columns: Covariance | None = None,
        rows: Covariance | None = None,
        *,
        centred: bool = False,
    ) -> None:
        self.scale = scale
        self.columns = _factor("columns", LKJCholesky(1.0) if columns is None else columns)
        self.rows = None if rows is None else _factor("rows", rows)
        self.centred = centred
        check_parameter(self, "scale")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the tensor is [out, in, ...] and the covariances fit it."""
        if len(shape) < 2:
            raise ValueError(f"MatrixNormal: a tensor of shape {tuple(shape)} given, expected [out, in, ...]")
        check_broadcast(self, shape, ("scale",))
        for name, factor in (("columns", self.columns), ("rows", self.rows)):
            expected = self.parameter_shape(name, (), shape)
            if isinstance(factor, Tensor) and tuple(factor.shape) != expected:
                raise ValueError(
                    f"MatrixNormal: {name} of shape {tuple(factor.shape)} given, expected {expected}"
                )

    def parameter_shape(self, name: str, grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """[inputs, inputs] for columns and [out, out] for rows."""
        if name == "scale":
            return grid
        if grid:
            raise ValueError(f"MatrixNormal: {name} .per(...) given, expected one covariance for the tensor")
        size = math.prod(shape[1:]) if name == "columns" else shape[0]
        return (size, size)

    def standard(self) -> Prior:
        """Normal(0, 1), the prior of Z."""
        return Normal(0.0, 1.0)

    def from_standard(self, z: Tensor) -> Tensor:
        """W = scale · A Z Bᵀ."""
        rows, columns = self._factors(z)
        matrix = z.flatten(1) @ columns.mT
        return self._unit(z) * (matrix if rows is None else rows @ matrix).reshape(z.shape)

    def to_standard(self, w: Tensor) -> Tensor:
        """Z = A⁻¹ (W/scale) B⁻ᵀ."""
        rows, columns = self._factors(w)
        matrix = (w / self._unit(w)).flatten(1)
        matrix = torch.linalg.solve_triangular(columns, matrix.mT, upper=False).mT
        if rows is not None:
            matrix = torch.linalg.solve_triangular(rows, matrix, upper=False)
        return matrix.reshape(w.shape)

    def log_prob(self, w: Float[Tensor, "out *inputs"]) -> Float[Tensor, ""]:
        """Log density of the whole tensor."""
        rows, columns = self._factors(w)
        z = self.to_standard(w)
        total = -0.5 * (z * z).sum() - 0.5 * w.numel() * math.log(2 * math.pi)
        total = total - w.shape[0] * columns.diagonal().log().sum()
        if rows is not None:
            total = total - math.prod(w.shape[1:]) * rows.diagonal().log().sum()
        log_scale = log(self._unit(w))
        return total - (
            log_scale.expand(w.shape).sum() if isinstance(log_scale, Tensor) else w.numel() * log_scale
        )

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """scale · A Z Bᵀ for a standard normal Z."""
        z = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        return self.from_standard(z.normal_(generator=generator))

    def mean(self) -> float:
        """Zero."""
        return 0.0

    def variance(self) -> float | Tensor:
        """E[scale²] times the diagonals of the covariances: a number, [inputs], or [out, inputs]."""
        square = moments(self.scale, self, "scale")[1]
        if isinstance(self.columns, Tensor):
            square = square * self.columns.square().sum(-1)
        if isinstance(self.rows, Tensor):
            square = square * self.rows.square().sum(-1)[:, None]
        return square

    def _unit(self, like: Tensor) -> float | Tensor:
        return value_of(self.scale, self, "scale", like)

    def _factors(self, like: Tensor) -> tuple[Tensor | None, Tensor]:
        columns = value_of(self.columns, self, "columns", like)
        rows = None if self.rows is None else value_of(self.rows, self, "rows", like)
        assert isinstance(columns, Tensor)
        assert rows is None or isinstance(rows, Tensor)
        return rows, columns


def _factor(name: str, given: Covariance) -> Tensor | Prior:
    if not isinstance(given, Tensor):
        prior = as_prior(given)
        if not isinstance(prior.support, type(constraints.corr_cholesky)):
            raise ValueError(
                f"MatrixNormal: {name} has the prior {prior!r}, expected one on Cholesky factors of correlations, "
                "such as LKJCholesky(1.0)"
            )
        return prior
    square = given.ndim == 2 and given.shape[0] == given.shape[1]
    factor, info = torch.linalg.cholesky_ex(given.double()) if square else (given, torch.ones(()))
    if info.any() or not torch.allclose(given, given.mT, atol=1e-6):
        raise ValueError(
            f"MatrixNormal: {name} of shape {tuple(given.shape)} given, expected a symmetric positive definite covariance matrix"
        )
    return factor
