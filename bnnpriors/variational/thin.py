"""The divergence of a law of function values that few columns span, at more points than columns."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .gaussian import Gaussian


class Whitening(NamedTuple):
    """What a divergence needs of a prior N(m, B) and of the noise η² that both laws have, with C = B + η²I.

    Attributes:
        mean: m. inverse: of the Cholesky factor of C. log_det: of C. trace: of η²C⁻¹. jitter: η.
    """

    mean: Float[Tensor, " values"]
    inverse: Float[Tensor, "values values"]
    log_det: Float[Tensor, ""]
    trace: Float[Tensor, ""]
    jitter: float

    @classmethod
    def of(cls, law: Gaussian, jitter: float) -> Whitening:
        """The prior `law` under noise of standard deviation `jitter`, above 0."""
        factor = torch.linalg.cholesky(law.noisy(jitter).covariance)
        unit = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
        log_det = 2 * factor.diagonal().log().sum()
        return cls(law.mean, inverse, log_det, jitter**2 * inverse.square().sum(), jitter)


def thin_divergence(
    mean: Float[Tensor, " all"], root: Float[Tensor, "all columns"], prior: Whitening
) -> Float[Tensor, ""]:
    """KL(N(μ, RRᵀ + noise)‖N(m, C) N(0, I)) in nats, with gradients in μ and R.

    The first rows F of R are of the prior's values and have the noise η²; the others, U, have none, and the prior N(0, I). With
    M = I + FᵀF/η² the determinant of q's covariance is ln|A| = 2n ln η + ln|M| + ln|U M⁻¹Uᵀ|, by the determinant lemma
    and the Schur complement of U: matrices of n × n are multiplied by thin ones, and none is factorised.
    """
    size = len(prior.mean)
    first, others = root[:size], root[size:]
    unit = torch.eye(root.shape[1], dtype=root.dtype, device=root.device)
    factor = torch.linalg.cholesky(unit + first.mT @ first / prior.jitter**2)
    log_det = 2 * size * math.log(prior.jitter) + 2 * factor.diagonal().log().sum()
    if len(others):
        seen = torch.linalg.solve_triangular(factor, others.mT, upper=False)
        log_det = log_det + torch.logdet(seen.mT @ seen)
    spread = (prior.inverse @ first).square().sum() + prior.trace + others.square().sum()
    moved = (prior.inverse @ (mean[:size] - prior.mean)).square().sum() + mean[size:].square().sum()
    return 0.5 * (spread + moved - len(mean) + prior.log_det - log_det)
