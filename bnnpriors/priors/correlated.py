"""Priors under which the taps of one convolution filter are correlated and different filters are independent."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .base import Parameter, Prior
from .heavy_tailed import check_finite_variance, student_moments
from .location_scale import Normal
from .parameters import check_broadcast, check_parameter, log, log_gamma, moments, tensor_of, value_of
from .taps import KERNELS, Kernel, apply_to_taps, per_filter, tap_covariance


class CorrelatedNormal(Prior):
    """Gaussian filters (Fortuin et al. 2102.06571): the taps of one filter are N(0, scale² R), R_pp' = κ(‖p − p'‖₂/lengthscale),
    and filters are independent. log p = −½ wᵀR⁻¹w/scale² − ½ log det(2π scale² R). Variance scale².

    Args:
        scale: a positive number or tensor, a rule, or a prior.
        kernel: κ of the distance d in lengthscales: "matern12" exp(−d), "matern32" (1 + √3 d) exp(−√3 d), "matern52"
            (1 + √5 d + 5d²/3) exp(−√5 d), "rbf" exp(−d²/2); a function of the tensor of distances; or R itself, [taps, taps].
        lengthscale: ℓ > 0, in taps; a number or a prior, one for a tensor or `per("output")`, `per("input")`, `per("filter")`.
        centred: `False` makes z the latent, w = scale · L z with L Lᵀ = R.

    Raises:
        ValueError: an unknown kernel, R not symmetric positive definite, a parameter out of range.
    """

    def __init__(
        self,
        scale: Parameter = 1.0,
        kernel: Kernel = "matern12",
        lengthscale: Parameter = 1.0,
        *,
        centred: bool = True,
    ) -> None:
        self.scale = scale
        self.kernel = kernel
        self.lengthscale = lengthscale
        self.centred = centred
        check_parameter(self, "scale")
        check_parameter(self, "lengthscale")
        if isinstance(kernel, str) and kernel not in KERNELS:
            raise ValueError(
                f"{type(self).__name__}: kernel {kernel!r} given, expected one of {', '.join(map(repr, KERNELS))}, a function of "
                "the distances, or a covariance matrix"
            )
        if isinstance(kernel, Tensor) and not (isinstance(lengthscale, (int, float)) and lengthscale == 1.0):
            raise ValueError(
                f"{type(self).__name__}: lengthscale {lengthscale} given with a covariance matrix, which has none"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the tensor is [out, in, *taps] and R fits its taps and is positive definite."""
        name = type(self).__name__
        if len(shape) < 3:
            raise ValueError(
                f"{name}: a tensor of shape {tuple(shape)} given, expected convolution weights [out, in, *taps]; other layers "
                "have no taps to correlate (MatrixNormal correlates inputs)"
            )
        check_broadcast(self, shape, ("scale", "lengthscale", "df"))
        for field in ("lengthscale", "df"):
            value = getattr(self, field, None)
            if isinstance(value, Tensor) and value.ndim:
                self.parameter_shape(field, tuple(value.shape), shape)
        if isinstance(self.lengthscale, Prior):
            return
        matrix, taps = self.covariance(shape[2:]), math.prod(shape[2:])
        if matrix.shape[-2:] != (taps, taps):
            raise ValueError(
                f"{name}: a covariance of shape {tuple(matrix.shape)} given, expected {(taps, taps)} for taps {shape[2:]}"
            )
        if not torch.allclose(matrix, matrix.mT, atol=1e-6) or torch.linalg.cholesky_ex(matrix).info.any():
            raise ValueError(
                f"{name}: kernel {self.kernel!r} with lengthscale {self.lengthscale} given, expected a symmetric "
                f"positive definite covariance on taps {shape[2:]}; shorten the lengthscale"
            )

    def parameter_shape(self, name: str, grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The grid. Raises ValueError where what belongs to a whole filter would differ between its taps."""
        if name != "scale" and (len(grid) not in (0, len(shape)) or math.prod(grid[2:]) > 1):
            raise ValueError(
                f"{type(self).__name__}: {name} of shape {grid} given, expected one number a filter at most; "
                "use .per('filter')"
            )
        return grid

    def covariance(
        self, taps: tuple[int, ...], device: torch.device | None = None
    ) -> Float64[Tensor, "*lead taps taps"]:
        """R for a kernel of these sizes: the covariance of a filter's taps at scale 1.

        Raises:
            TypeError: the lengthscale has a prior.
        """
        like = torch.empty(taps, dtype=torch.float64, device=device)
        lengthscale = per_filter(value_of(self.lengthscale, self, "lengthscale", like))
        return tap_covariance(self.kernel, lengthscale, taps, device)

    def standard(self) -> Prior:
        """The prior of z, with scale 1 and independent taps."""
        return Normal(0.0, 1.0)

    def from_standard(self, z: Tensor) -> Tensor:
        """w = scale · L z."""
        return self._unit(z) * apply_to_taps(self._factor(z), z)

    def to_standard(self, w: Tensor) -> Tensor:
        """z = L⁻¹ w / scale."""
        return self._whiten(self._factor(w), w)

    def log_prob(self, w: Float[Tensor, "out in *taps"]) -> Float[Tensor, "out in"]:
        """Log density of each filter: log p₀(z) − log det L − Σ log scale over its taps."""
        factor = self._factor(w)
        log_scale = log(self._unit(w))
        if isinstance(log_scale, Tensor) and log_scale.ndim:
            spread = log_scale.expand(w.shape).flatten(2).sum(-1)
        else:
            spread = math.prod(w.shape[2:]) * torch.as_tensor(log_scale, dtype=w.dtype, device=w.device)
        half_log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1).to(w.dtype)
        return self._standard_log_prob(self._whiten(factor, w)) - (half_log_det + spread)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """scale · L z for a draw z of the standard member."""
        return self.from_standard(
            self.standard().sample(shape, generator=generator, dtype=dtype, device=device)  # type: ignore[call-arg]
        )

    def mean(self) -> float:
        """Zero."""
        return 0.0

    def variance(self) -> float | Tensor:
        """E[scale²] κ(0); [*taps] values where the kernel is a matrix, in the order of the taps."""
        unit = self.kernel.diagonal() if isinstance(self.kernel, Tensor) else self._at_zero()
        return moments(self.scale, self, "scale")[1] * unit

    def _at_zero(self) -> float:
        return float(tap_covariance(self.kernel, 1.0, (1,)))

    def _unit(self, like: Tensor) -> float | Tensor:
        return value_of(self.scale, self, "scale", like)

    def _factor(self, like: Tensor) -> Tensor:
        return torch.linalg.cholesky_ex(self.covariance(tuple(like.shape[2:]), like.device)).L

    def _whiten(self, factor: Tensor, w: Tensor) -> Tensor:
        identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        unit = self._unit(w)
        if isinstance(unit, Tensor) and unit.ndim:
            return apply_to_taps(inverse, w / unit)
        return apply_to_taps(inverse / unit, w)  # a division of the small matrix instead of the large tensor

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        flat = z.flatten(2)
        return -0.5 * (flat * flat).sum(-1) - 0.5 * flat.shape[-1] * math.log(2 * math.pi)


class CorrelatedStudentT(CorrelatedNormal):
    """Multivariate-t filters: one χ² a filter scales the Gaussian of `CorrelatedNormal`. With n taps and q = wᵀR⁻¹w/scale²,
    log p = −(ν+n)/2 · log(1 + q/ν) + log Γ((ν+n)/2) − log Γ(ν/2) − ½ log det(πν scale² R). Variance scale² ν/(ν−2) for ν > 2.

    Args:
        df: ν > 0; a number or a prior, as for `lengthscale`. scale, kernel, lengthscale, centred: as for `CorrelatedNormal`.
        matched: "variance" makes `scale` the standard deviation of a weight; it needs ν > 2.
    """

    def __init__(
        self,
        df: Parameter = 3.0,
        scale: Parameter = 1.0,
        kernel: Kernel = "matern12",
        lengthscale: Parameter = 1.0,
        *,
        centred: bool = True,
        matched: str | None = None,
    ) -> None:
        self.df = df
        self.matched = matched
        check_parameter(self, "df")
        super().__init__(scale, kernel, lengthscale, centred=centred)
        if matched not in (None, "variance"):
            raise ValueError(f"CorrelatedStudentT: matched {matched!r} given, expected 'variance' or None")
        if matched:
            check_finite_variance(self, df)

    def standard(self) -> Prior:
        """The prior of z: a spherical t for each filter."""
        return _SphericalT(self.df)

    def variance(self) -> float | Tensor:
        """E[scale²] κ(0) ν/(ν−2), infinite for ν ≤ 2; without the last factor where it is matched."""
        return super().variance() * (1.0 if self.matched else student_moments(self, self.df)[1])

    def _unit(self, like: Tensor) -> float | Tensor:
        scale = super()._unit(like)
        if not self.matched:
            return scale
        df = value_of(self.df, self, "df", like)
        return scale * ((df - 2) / df) ** 0.5

    def _standard_log_prob(self, z: Tensor) -> Tensor:
        return self.standard().log_prob(z)


class _SphericalT(Prior):
    """A multivariate t with identity scale matrix for each filter [out, in, *taps]."""

    def __init__(self, df: Parameter) -> None:
        self.df = df

    def log_prob(self, w: Tensor) -> Tensor:
        flat = w.flatten(2)
        count = flat.shape[-1]
        df = per_filter(value_of(self.df, self, "df", w))
        constant = log_gamma(0.5 * (df + count)) - log_gamma(0.5 * df) - 0.5 * count * log(math.pi * df)
        return constant - 0.5 * (df + count) * torch.log1p((flat * flat).sum(-1) / df)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        z = torch.empty(shape, dtype=dtype, device=device or (generator.device if generator else None))
        filters = (*shape[:2], *(1 for _ in shape[2:]))
        df = tensor_of(self.df, self, "df", z).expand(filters)
        chi2 = 2.0 * torch._standard_gamma((0.5 * df).contiguous(), generator=generator)
        return z.normal_(generator=generator) * torch.sqrt(df / chi2)
