"""Priors on probability vectors and on correlation matrices: the hyperpriors of mixtures and of matrix-normal priors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import CorrCholeskyTransform, Transform, constraints
from torch.nn.functional import pad, softplus

from .base import Parameter, Prior
from .parameters import check_broadcast, check_parameter, log_gamma, tensor_of, value_of


class Dirichlet(Prior):
    """Dirichlet on probabilities π [..., K]: log p(π) = log Γ(Σ α_k) − Σ log Γ(α_k) + Σ (α_k − 1) log π_k.

    Args:
        concentration: α, one positive number for all k, a tensor that broadcasts to [..., K], or a prior.
    """

    support = constraints.simplex

    def __init__(self, concentration: Parameter = 1.0) -> None:
        self.concentration = concentration
        check_parameter(self, "concentration")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the last dimension has at least two parts and the concentration broadcasts."""
        if not shape or shape[-1] < 2:
            raise ValueError(
                f"Dirichlet: shape {tuple(shape)} given, expected a last dimension of two or more parts"
            )
        check_broadcast(self, shape)

    def log_prob(self, w: Float[Tensor, "*batch parts"]) -> Float[Tensor, "*batch"]:
        """Log density on the simplex, with respect to all parts but the last."""
        alpha = self._alpha(w)
        constant = torch.lgamma(alpha.sum(-1)) - torch.lgamma(alpha).sum(-1)
        return constant + ((alpha - 1) * w.log()).sum(-1)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Gamma(α_k, 1) draws over their sum."""
        like = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        parts = torch._standard_gamma(self._alpha(like).contiguous(), generator=generator)
        return parts / parts.sum(-1, keepdim=True)

    def mean(self) -> float | Tensor:
        """α_k / Σ α for a tensor of concentrations. Raises NotImplementedError where the number of parts is not known."""
        if not isinstance(self.concentration, Tensor):
            raise NotImplementedError(
                "Dirichlet: the mean is 1 over the number of parts, which a number alone does not say"
            )
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    def _alpha(self, like: Tensor) -> Tensor:
        return tensor_of(self.concentration, self, "concentration", like).expand(like.shape)


class LKJCholesky(Prior):
    """The Cholesky factor L [n, n] of a correlation matrix Ω = LLᵀ with p(Ω) ∝ |Ω|^(η−1) (Lewandowski, Kurowicka & Joe 2009):
    log p(L) = Σ_k (n − k + 2η − 2) log L_kk − log Z(η, n), k = 2..n. η = 1 is uniform on Ω, larger η is nearer the identity.

    Args:
        concentration: η > 0.
    """

    support = constraints.corr_cholesky

    def __init__(self, concentration: Parameter = 1.0) -> None:
        self.concentration = concentration
        check_parameter(self, "concentration")

    @property
    def bijection(self) -> Transform:
        """torch's own map, in operations that compile."""
        return _CorrCholesky()

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the last two dimensions are equal, and the concentration one number."""
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
            raise ValueError(
                f"LKJCholesky: shape {tuple(shape)} given, expected a square of two or more rows"
            )
        check_broadcast(self, ())

    def log_prob(self, w: Float[Tensor, "*batch rows rows"]) -> Float[Tensor, "*batch"]:
        """Log density of the factor with respect to its elements below the diagonal."""
        eta = value_of(self.concentration, self, "concentration", w)
        size = w.shape[-1]
        order = torch.arange(size - 2, -1, -1, dtype=w.dtype, device=w.device) + 2 * (eta - 1)
        diagonal = torch.diagonal(w, dim1=-2, dim2=-1)[..., 1:]
        return (order * diagonal.log()).sum(-1) - self._log_normaliser(eta, size)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """The onion method: row k has squared length Beta((k−1)/2, η + (n−k)/2) off the diagonal, in a uniform direction."""
        like = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        eta = tensor_of(self.concentration, self, "concentration", like)
        size = shape[-1]
        before = torch.arange(1, size, dtype=like.dtype, device=like.device)
        lead = (*shape[:-2], size - 1)
        off, rest = (
            torch._standard_gamma(a.expand(lead).contiguous(), generator=generator)
            for a in (0.5 * before, eta + 0.5 * (size - 1 - before))
        )
        direction = torch.empty_like(like[..., 1:, :]).normal_(generator=generator).tril()
        length = (off / (off + rest)).sqrt()
        rows = direction / direction.norm(dim=-1, keepdim=True) * length[..., None]
        factor = torch.cat([torch.zeros_like(like[..., :1, :]), rows], dim=-2)
        first = torch.ones_like(rest[..., :1])
        return factor + torch.diag_embed(torch.cat([first, (rest / (off + rest)).sqrt()], dim=-1))

    @staticmethod
    def _log_normaliser(eta: float | Tensor, size: int) -> float | Tensor:
        total: float | Tensor = 0.0
        for row in range(1, size):
            end = eta + 0.5 * (size - 1 - row)
            total = total + 0.5 * row * math.log(math.pi) + log_gamma(end) - log_gamma(end + 0.5 * row)
        return total


class _CorrCholesky(CorrCholeskyTransform):
    """The map of torch's class without its boolean masks, whose sizes a compiler cannot know."""

    def _call(self, x: Tensor) -> Tensor:
        size = round((1 + math.sqrt(1 + 8 * x.shape[-1])) / 2)
        row, column = torch.tril_indices(size, size, -1, device=x.device)
        place = torch.full((size, size), x.shape[-1], device=x.device)
        place = place.index_put((row, column), torch.arange(x.shape[-1], device=x.device))
        eps = torch.finfo(x.dtype).eps
        partial = x.tanh().clamp(-1 + eps, 1 - eps)
        lower = pad(partial, (0, 1))[..., place]
        left = (1 - lower * lower).sqrt().cumprod(-1)
        identity = torch.eye(size, dtype=x.dtype, device=x.device)
        return (lower + identity) * pad(left[..., :-1], (1, 0), value=1.0)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor, intermediates: object = None) -> Tensor:
        row, column = torch.tril_indices(y.shape[-1], y.shape[-1], -2, device=x.device)
        left = (1 - (y * y).cumsum(-1))[..., row, column]
        tanh = -2 * (x + softplus(-2 * x, threshold=40.0) - math.log(2.0))
        return 0.5 * left.log().sum(-1) + tanh.sum(-1)
