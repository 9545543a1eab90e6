"""Location–scale families whose tails a parameter sets, or which have no variance: Cauchy, Student's t, exponential power."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Parameter, Prior
from .location_scale import LocationScale, random_sign
from .parameters import check_parameter, log, log_gamma, tensor_of, value_of


class Cauchy(LocationScale):
    """Cauchy: log p(w) = −log(1 + z²) − log(π scale). The variance is infinite."""

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return -torch.log1p(z * z) - math.log(math.pi)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        return empty.cauchy_(generator=generator)

    def _standard_moments(self) -> tuple[float, float]:
        return math.nan, math.inf

    def _check_matched(self) -> None:
        raise ValueError(
            "Cauchy: matched='variance' given, but its variance is infinite, so no scale gives it one; leave matched out"
        )


class StudentT(LocationScale):
    """Student's t with `df` degrees of freedom ν:
    log p(w) = −(ν+1)/2 · log(1 + z²/ν) + log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(πν) − log scale. Variance scale² ν/(ν−2) for ν > 2.
    """

    def __init__(
        self,
        df: Parameter = 3.0,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        *,
        centred: bool = True,
        matched: str | None = None,
    ) -> None:
        self.df = df
        check_parameter(self, "df")
        super().__init__(loc, scale, centred=centred, matched=matched)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        df = value_of(self.df, self, "df", z)
        half = 0.5 * (df + 1)
        constant = log_gamma(half) - log_gamma(0.5 * df) - 0.5 * log(math.pi * df)
        unit = z * df**-0.5  # and not z²/ν: where z² overflows, its derivative in ν would too
        return constant - half * torch.log1p(unit * unit)

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        df = tensor_of(self.df, self, "df", empty)
        chi2 = 2.0 * torch._standard_gamma((0.5 * df).expand(empty.shape).contiguous(), generator=generator)
        return empty.normal_(generator=generator) * torch.sqrt(df / chi2)

    def _standard_moments(self) -> tuple[float | Tensor, float | Tensor]:
        return student_moments(self, self.df)

    def _standard_variance(self, like: Tensor) -> float | Tensor:
        df = value_of(self.df, self, "df", like)
        return df / (df - 2)

    def _check_matched(self) -> None:
        check_finite_variance(self, self.df)


class GeneralizedNormal(LocationScale):
    """Exponential power: log p(w) = −|z|^β + log β − log(2 scale Γ(1/β)); β = 2 is a Gaussian of standard deviation scale/√2,
    β = 1 Laplace, β < 1 heavier. Variance scale² Γ(3/β)/Γ(1/β).
    """

    def __init__(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        beta: Parameter = 1.0,
        *,
        centred: bool = True,
        matched: str | None = None,
    ) -> None:
        self.beta = beta
        check_parameter(self, "beta")
        super().__init__(loc, scale, centred=centred, matched=matched)

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        beta = value_of(self.beta, self, "beta", z)
        log_distance = (
            z.abs().clamp_min(torch.finfo(z.dtype).tiny).log()
        )  # the gradient at z = 0 stays finite
        power = torch.exp(beta * log_distance)  # its gradient needs no second power
        return log(beta) - math.log(2) - log_gamma(1 / beta) - power

    def _standard_sample(self, empty: Tensor, generator: torch.Generator | None) -> Tensor:
        beta = tensor_of(self.beta, self, "beta", empty)
        gamma = torch._standard_gamma((1 / beta).expand(empty.shape).contiguous(), generator=generator)
        return gamma ** (1 / beta) * random_sign(empty, generator)

    def _standard_moments(self) -> tuple[float | Tensor, float | Tensor]:
        if isinstance(self.beta, Prior):
            raise NotImplementedError(
                f"{self!r}: no variance in closed form under a prior on beta; estimate it from draws"
            )
        value = self.beta if isinstance(self.beta, Tensor) else float(self.beta)  # type: ignore[arg-type]
        return 0.0, _power_variance(value)

    def _standard_variance(self, like: Tensor) -> float | Tensor:
        return _power_variance(value_of(self.beta, self, "beta", like))


def _power_variance(beta: float | Tensor) -> float | Tensor:
    ratio = log_gamma(3 / beta) - log_gamma(1 / beta)
    return ratio.exp() if isinstance(ratio, Tensor) else math.exp(ratio)


def student_moments(owner: Prior, df: Parameter) -> tuple[float | Tensor, float | Tensor]:
    """E[z] and E[z²] = ν/(ν−2) of Student's t; NaN for ν ≤ 1 and infinite for ν ≤ 2 (or where its prior reaches it)."""
    if isinstance(df, Prior):
        if _reaches(df, 1.0):
            return math.nan, math.inf
        if _reaches(df, 2.0):
            return 0.0, math.inf
        raise NotImplementedError(
            f"{owner!r}: no variance in closed form under a prior on df; estimate it from draws"
        )
    if isinstance(df, Tensor):
        mean = torch.where(df > 1, 0.0, math.nan)
        return mean, torch.where(df > 2, df / (df - 2), math.inf)
    number = float(df)  # type: ignore[arg-type]
    return (0.0 if number > 1 else math.nan), (number / (number - 2) if number > 2 else math.inf)


def check_finite_variance(owner: Prior, df: Parameter) -> None:
    """Raise ValueError where Student's t has, or may have, an infinite variance, so that it cannot be matched."""
    low = _reaches(df, 2.0) if isinstance(df, Prior) else not bool((torch.as_tensor(df) > 2).all())
    if low:
        raise ValueError(
            f"{type(owner).__name__}: matched='variance' given with df {df}, but the variance is infinite for df ≤ 2, "
            "so no scale gives it one; take df above 2 or leave matched out"
        )


def _reaches(prior: Prior, number: float) -> bool:
    return bool(torch.as_tensor(prior.support.check(torch.tensor(number))).all())
