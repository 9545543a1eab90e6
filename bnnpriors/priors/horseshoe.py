"""Horseshoe priors: most weights are shrunk to zero, few are left alone. Built from hyperpriors, non-centred by default."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .base import Parameter, Prior, as_prior
from .hierarchy import check_extent
from .location_scale import Normal
from .parameters import tensor_of
from .positive import HalfCauchy, InverseGamma


class Horseshoe(Normal):
    """Horseshoe (Carvalho, Polson & Scott 2010): w = τ λ z, z ~ N(0, 1), λ ~ C⁺(0, 1), τ ~ C⁺(0, global_scale).
    The variance is infinite.

    It is `Normal(0, HalfCauchy(τ).per(groups))`: the hyperparameter `scale` is τλ and `scale.scale` is τ.

    Args:
        global_scale: a positive number or rule, or a prior on τ itself, such as `HalfCauchy(0.1).shared("tau")`.
        groups: what has a λ of its own: "weight", or "output", "input", "filter" for a group horseshoe on units or channels.
        centred: `True` makes w, τλ and τ the quantities whose unconstrained values are the latents, which are harder to sample.
    """

    def __init__(
        self, global_scale: Parameter = 1.0, *, groups: str = "weight", centred: bool = False
    ) -> None:
        super().__init__(0.0, _local(global_scale, groups, centred), centred=centred)


class RegularizedHorseshoe(Normal):
    """Regularised horseshoe (Piironen & Vehtari 2017, 1707.01694, eq. 2.8): w = τ λ̃ z with λ̃² = c²λ²/(c² + τ²λ²), z ~ N(0, 1),
    λ ~ C⁺(0, 1), τ ~ C⁺(0, global_scale), c² ~ InverseGamma(ν/2, νs²/2): large weights follow a t slab of ν degrees of freedom
    and scale s. Variance E[c²τ/(τ + c)], finite for ν > 2.

    The hyperparameter `local` is τλ, `local.scale` is τ and `slab` is c². A guess of p₀ relevant weights of D gives
    global_scale = p₀/(D − p₀) · σ/√N (eq. 3.12, σ the noise scale).

    Args:
        global_scale, groups, centred: as for `Horseshoe`.
        slab_scale: s > 0. slab_df: ν > 0.
    """

    widths = ("local", "slab")

    def __init__(
        self,
        global_scale: Parameter = 1.0,
        *,
        slab_scale: float = 2.0,
        slab_df: float = 4.0,
        groups: str = "weight",
        centred: bool = False,
    ) -> None:
        for name, value in (("slab_scale", slab_scale), ("slab_df", slab_df)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(
                    f"RegularizedHorseshoe: {name} {value} given, expected a positive finite number"
                )
        super().__init__(0.0, 1.0, centred=centred)
        self.local: Parameter = _local(global_scale, groups, centred)
        self.slab: Parameter = InverseGamma(0.5 * slab_df, 0.5 * slab_df * slab_scale**2, centred=centred)

    def standard(self) -> Prior:
        """Normal(0, 1), the prior of z."""
        return Normal(0.0, 1.0)

    def variance(self) -> float:
        """E[c²τ/(τ + c)], by quadrature over τ and c; infinite for ν ≤ 2.

        Given τ and c, E[c²λ²τ²/(c² + λ²τ²)] = c²τ/(τ + c).

        Raises:
            NotImplementedError: τ has another prior than HalfCauchy(number).
        """
        local, slab = self.local, self.slab
        assert isinstance(local, HalfCauchy)
        assert isinstance(slab, InverseGamma)
        assert isinstance(slab.concentration, float)
        top = local.scale
        if not isinstance(top, HalfCauchy) or not isinstance(top.scale, (int, float)):
            raise NotImplementedError(
                f"{self!r}: no variance in closed form under this prior on τ; estimate it from draws"
            )
        slab_variance = slab.mean()
        if slab_variance == math.inf:
            return math.inf
        from scipy import stats

        nodes, weights = np.polynomial.legendre.leggauss(200)
        nodes, weights = 0.5 * (nodes + 1), 0.5 * weights
        tau = top.scale * np.tan(0.5 * np.pi * nodes)[:, None]
        # E[c² g(c)] under InverseGamma(a, b) is E[c²] E[g(c)] under InverseGamma(a − 1, b)
        c = np.sqrt(stats.invgamma(slab.concentration - 1, scale=slab.rate).ppf(nodes))
        return float(slab_variance * (weights @ (tau / (tau + c)) @ weights))

    def _unit(self, like: Tensor) -> Tensor:
        local = tensor_of(self.local, self, "local", like)
        c = tensor_of(self.slab, self, "slab", like).sqrt()
        return c * local / torch.hypot(c, local)


def _local(global_scale: Parameter, groups: str, centred: bool) -> HalfCauchy:
    """The prior of τλ: half-Cauchy with scale τ, which is the law of τ times a standard half-Cauchy λ."""
    check_extent(groups)
    if isinstance(global_scale, torch.distributions.Distribution):
        global_scale = as_prior(global_scale)
    top = global_scale if isinstance(global_scale, Prior) else HalfCauchy(global_scale, centred=centred)
    return HalfCauchy(top, centred=centred).per(groups)
