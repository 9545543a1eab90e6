"""Derivatives and extremes of a log density, and the change of variables of its non-centred form."""

from __future__ import annotations

import math

import torch
from torch.distributions import constraints
from torch.func import grad

from ..priors import Prior
from ..priors.base import draw
from .interface import SAME
from .report import NotApplicable
from .subject import Latents, Subject

GRADIENT_TOLERANCE = 1e-5
EXTREMES = (0.0, 1e-30, 1e-8, 1e8)
LARGEST = {torch.float64: 1e30, torch.float32: 1e15}
"""Of the magnitudes of a value: its square, and that of its multiples by 1000, are numbers of the dtype."""
EXTREME_HYPER = (1e-8, 1e8)
FARTHEST_LATENT = 10.0
"""Of a value on an interval, a simplex and the like: nearer to an end than 10⁻⁴ of its width."""


def check_gradient(subject: Subject) -> tuple[bool, str]:
    """∇ log p of all latents, by `torch.func.grad`, against central differences, in float64."""
    worst, where = 0.0, ""
    for latents in subject.points(5):
        gradients = grad(lambda given: subject.site.evaluate(given, {}))(latents)
        for name, value in latents.items():
            for index in range(min(value.numel(), 12)):
                step = 1e-5 * max(float(value.flatten()[index].abs()), 1e-2)
                high, low = (_moved(latents, name, index, sign * step) for sign in (1, -1))
                up, down = (float(subject.site.evaluate(point, {})) for point in (high, low))
                found = float(gradients[name].flatten()[index])
                expected = (up - down) / (2 * step)
                rounding = 1e-15 * (abs(up) + abs(down)) / step
                error = abs(found - expected) / (abs(expected) + 1 + rounding / GRADIENT_TOLERANCE)
                if not error <= worst:
                    worst, where = (
                        error,
                        f" ({name}[{index}]: {found:.6g}, central difference {expected:.6g})",
                    )
    shown = where if not worst <= GRADIENT_TOLERANCE else ""
    return (
        worst <= GRADIENT_TOLERANCE,
        f"largest relative error {worst:.1g}, allowed {GRADIENT_TOLERANCE:g}{shown}",
    )


def check_extremes(subject: Subject) -> tuple[bool, str]:
    """log p is finite or −∞, and neither it nor its gradient is NaN, at 0 and at tiny and huge values.

    A value is that of the tensor, or of z in the non-centred form, and the latent of a positive one is its logarithm: a latent of
    10⁸ would be a scale of e^(10⁸), which no dtype holds, and a sampler rejects a step to where the potential is infinite.
    """
    count = 0
    for dtype in (torch.float64, torch.float32):
        latents = subject.points(1, dtype)[0]
        for site in subject.site.walk():
            support = _latent_support(site.prior)
            signs = (1.0, -1.0) if support is constraints.real else (1.0,)
            for magnitude in (*EXTREMES, LARGEST[dtype]) if site is subject.site else EXTREME_HYPER:
                for sign in signs:
                    own = _extreme_latent(support, sign * magnitude)
                    point = {**latents, site.name: torch.full_like(latents[site.name], own)}
                    total = subject.site.evaluate(point, {})
                    slopes = grad(lambda given: subject.site.evaluate(given, {}))(point)
                    count += 1
                    value = float(total)
                    where = f"{site.name} = {sign * magnitude:g} in {dtype}"
                    if math.isnan(value) or value == math.inf:
                        return False, f"log density {value} at {where}, expected a finite number or -inf"
                    if bad := [name for name, slope in slopes.items() if bool(slope.isnan().any())]:
                        return False, f"gradient of {bad[0]} NaN at {where}"
    return True, f"finite or -inf, and no gradient NaN, at {count} values, up to 1e30 (float32: 1e15)"


def check_standard(subject: Subject) -> tuple[bool, str]:
    """The non-centred form: w = from_standard(z) inverts to_standard, and log p(w) + log |dw/dz| = log p₀(z)."""
    point = subject.points(1)[0]
    try:
        prior, _ = subject.conditioned(point)
        standard = prior.standard()
    except NotImplementedError as missing:
        raise NotApplicable("the prior has no non-centred form") from missing
    generator = subject.generator(8)
    z = draw(standard, subject.shape, torch.zeros((), dtype=torch.float64), generator)
    w = prior.from_standard(z)
    error = float(((prior.to_standard(w) - z).abs() / (1 + z.abs())).max())
    if not error <= SAME:
        return (
            False,
            f"to_standard(from_standard(z)) differs from z by {error:.1g} (relative), allowed {SAME:g}",
        )
    count = max(z.numel(), 1)
    jacobian = torch.func.jacrev(lambda flat: prior.from_standard(flat.reshape(z.shape)).flatten())(
        z.flatten()
    )
    log_volume = torch.linalg.slogdet(jacobian.reshape(count, count))[1]
    outer, inner = float(prior.log_prob(w).sum() + log_volume), float(standard.log_prob(z).sum())
    gap = abs(outer - inner) / (1 + abs(inner))
    return (
        gap <= SAME,
        f"log p(w) + log|dw/dz| = {outer:.6g}, log p0(z) = {inner:.6g}: relative difference {gap:.1g}, allowed {SAME:g}",
    )


def _latent_support(prior: Prior) -> constraints.Constraint:
    """The support of what the latent is the unconstrained form of."""
    return prior.support if prior.centred else prior.standard().support


def _extreme_latent(support: constraints.Constraint, value: float) -> float:
    """The unconstrained latent of an extreme value."""
    if support is constraints.real:
        return value
    latent = math.log(value) if value > 0 else -80.0
    if support is constraints.positive:
        return latent
    return max(-FARTHEST_LATENT, min(FARTHEST_LATENT, latent))


def _moved(latents: Latents, name: str, index: int, by: float) -> Latents:
    flat = latents[name].flatten().clone()
    flat[index] += by
    return {**latents, name: flat.reshape(latents[name].shape)}
