"""Normal laws given by a precision matrix of some structure: what a Laplace approximation is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Float64
from torch import Tensor


class Precision(ABC):
    """N(0, P⁻¹) over [size] numbers.

    Attributes:
        log_det: log |P|.
    """

    log_det: float

    @abstractmethod
    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws size"]:
        """Draws from standard normal numbers."""

    @abstractmethod
    def variances(self, rows: Float[Tensor, "batch out size"]) -> Float[Tensor, "batch out"]:
        """r P⁻¹ rᵀ of each row r."""


class IndefiniteError(ValueError):
    """A curvature that is not positive."""


class Full(Precision):
    """P itself. Raises IndefiniteError where it is not positive definite."""

    def __init__(self, matrix: Float64[Tensor, "size size"]) -> None:
        self._factor, info = torch.linalg.cholesky_ex(matrix)
        if bool(info) or not bool(self._factor.isfinite().all()):
            raise _indefinite(float(torch.linalg.eigvalsh(matrix.nan_to_num())[0]))
        self.log_det = 2 * float(self._factor.diagonal().log().sum())

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws size"]:
        """L⁻ᵀ ε, P = LLᵀ."""
        return torch.linalg.solve_triangular(self._factor.mT, noise.double().mT, upper=True).mT.to(noise)

    def variances(self, rows: Float[Tensor, "batch out size"]) -> Float[Tensor, "batch out"]:
        """|L⁻¹rᵀ|²."""
        white = torch.linalg.solve_triangular(self._factor, rows.flatten(0, 1).double().mT, upper=False)
        return white.square().sum(0).view(rows.shape[:2]).to(rows)


class Diagonal(Precision):
    """diag(P). Raises IndefiniteError where an entry is not positive."""

    def __init__(self, diagonal: Float64[Tensor, " size"]) -> None:
        if not bool((diagonal > 0).all()):
            raise _indefinite(float(diagonal.nan_to_num().min()))
        self._diagonal = diagonal
        self.log_det = float(diagonal.log().sum())

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws size"]:
        """ε/√P."""
        return noise * self._diagonal.rsqrt().to(noise)

    def variances(self, rows: Float[Tensor, "batch out size"]) -> Float[Tensor, "batch out"]:
        """Σ r²/P."""
        return (rows.square() / self._diagonal.to(rows)).sum(-1)


def _indefinite(least: float) -> IndefiniteError:
    return IndefiniteError(
        f"Laplace: the posterior has no maximum here, its curvature reaches {least:.3g} where all must be positive. Priors with "
        "a kink or heavy tails curve the wrong way or not at all: give Laplace and Logistic normal_latent=True, which is the "
        "same prior of standard normal latents; instead of others take Normal, or sample; or fit with more steps"
    )
