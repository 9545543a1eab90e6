"""A prior's parameters: their values and moments, and the checks of what may be given as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Parameter, Prior, as_prior
from .hierarchy import broadcasts
from .rules import ScaleRule, UserRule


def value_of(parameter: Parameter, owner: Prior, name: str, w: Tensor) -> float | Tensor:
    """The number or tensor that a prior's parameter stands for, on the dtype and device of `w`."""
    if isinstance(parameter, (Prior, torch.distributions.Distribution)):
        raise TypeError(
            f"{owner!r}: {name} is itself a prior, so the density of w alone is not defined. "
            "Attach it to a module (bp.attach), which gives the hyperparameter a latent of its own"
        )
    if isinstance(parameter, Tensor):
        return parameter.to(w)
    return parameter if isinstance(parameter, (int, float)) else parameter(tuple(w.shape))


def tensor_of(parameter: Parameter, owner: Prior, name: str, like: Tensor) -> Tensor:
    """`value_of` as a tensor of the dtype and device of `like`."""
    return torch.as_tensor(value_of(parameter, owner, name, like), dtype=like.dtype, device=like.device)


def moments(parameter: Parameter, owner: Prior, name: str) -> tuple[float | Tensor, float | Tensor]:
    """E[p] and E[p²] of a parameter of a prior: its value and square, or the moments of the prior on it."""
    if isinstance(parameter, Prior):
        mean = parameter.mean()
        return mean, parameter.variance() + mean * mean
    if not isinstance(parameter, (int, float, Tensor)):
        raise ValueError(
            f"{owner!r}: {name} is a rule, whose number depends on the tensor; attach the prior and ask "
            "model.named_priors()[name] instead"
        )
    return parameter, parameter * parameter


def log(value: float | Tensor) -> float | Tensor:
    """Natural logarithm of a number or a tensor."""
    return value.log() if isinstance(value, Tensor) else math.log(value)


def check_parameter(owner: Prior, name: str, *, positive: bool = True) -> None:
    """Raise if a numeric parameter is out of its range.

    Raises:
        TypeError: the parameter is of no usable type. ValueError: it is not finite, or not positive where it must be.
    """
    value = getattr(owner, name)
    where = f"{type(owner).__name__}: {name}"
    if isinstance(value, ScaleRule):
        return
    if isinstance(value, torch.distributions.Distribution):
        value = as_prior(value)
        setattr(owner, name, value)
    elif callable(value) and not isinstance(value, (type, Prior)):
        setattr(owner, name, UserRule(value))
        return
    if isinstance(value, Prior):
        if positive:
            check_support(where, value)
        return
    if not isinstance(value, (int, float, Tensor)):
        raise TypeError(
            f"{where} {value!r} given, expected a number, a tensor, bp.priors.fan_in(...), a function of the shape, or a prior"
        )
    numbers = torch.as_tensor(value)
    if not numbers.isfinite().all() or (positive and not (numbers > 0).all()):
        raise ValueError(
            f"{where} {value} given, expected {'positive finite' if positive else 'finite'} numbers"
        )


def check_broadcast(owner: Prior, shape: tuple[int, ...], names: Sequence[str] | None = None) -> None:
    """Raise ValueError if a tensor among the parameters, or those of `names`, does not broadcast to `shape`."""
    for name in vars(owner) if names is None else names:
        value = getattr(owner, name, None)
        if isinstance(value, Tensor) and not broadcasts(tuple(value.shape), tuple(shape)):
            raise ValueError(
                f"{type(owner).__name__}: {name} of shape {tuple(value.shape)} given, expected a number or a tensor that "
                f"broadcasts to the parameter's shape {tuple(shape)}"
            )


def check_support(where: str, prior: Prior) -> None:
    """Raise ValueError where a prior on a positive quantity has mass on negative numbers."""
    negative = (-1e6, -1e3, -10.0, -1.0, -0.1, -1e-3, -1e-6)
    if not any(bool(torch.as_tensor(prior.support.check(torch.tensor(x))).all()) for x in negative):
        return
    raise ValueError(
        f"{where} has the prior {prior!r}, which allows negative values; use one on positive numbers, such as "
        "HalfNormal, HalfCauchy or Gamma"
    )


def log_gamma(value: float | Tensor) -> float | Tensor:
    """log Γ of a number or a tensor."""
    return torch.lgamma(value) if isinstance(value, Tensor) else math.lgamma(value)
