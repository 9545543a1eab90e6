"""What a weight may be: the base class of every prior, and how a prior's parameters are given.

A parameter of a prior (a scale, a location, degrees of freedom) is a number, a tensor, a `ScaleRule` such as `fan_in`,
or another `Prior`; the last makes the prior hierarchical.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, Union

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

Parameter = Union[float, Tensor, "ScaleRule", "Prior", torch.distributions.Distribution]
HasParameters = TypeVar("HasParameters")


@dataclass(frozen=True)
class ScaleRule:
    """s = gain / sqrt(fan-in), with fan-in = in_channels · k² for a convolution and in_features for a linear layer.

    `count="channels"` counts in_channels alone, as the code of Fortuin et al. (2105.06868) does for convolutions.
    """

    gain: float = 1.0
    count: str = "all"

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise ValueError(f"fan_in: gain {self.gain} given, expected a positive number")
        if self.count not in ("all", "channels"):
            raise ValueError(f"fan_in: count {self.count!r} given, expected 'all' or 'channels'")

    def __call__(self, shape: torch.Size | tuple[int, ...]) -> float:
        if len(shape) < 2:
            raise ValueError(
                f"fan_in has no meaning for a parameter of shape {tuple(shape)}: it needs [out, in, ...]. "
                "Give one-dimensional parameters (biases, norms) a prior with a number as its scale"
            )
        inputs = shape[1] if self.count == "channels" else math.prod(shape[1:])
        return self.gain / math.sqrt(inputs)


def fan_in(gain: float = 1.0, *, count: str = "all") -> ScaleRule:
    """The scale `gain / sqrt(fan_in)` of the tensor that the prior is attached to; see `ScaleRule`."""
    return ScaleRule(gain, count)


class Prior:
    """A distribution over one named tensor.

    A subclass needs `log_prob` and `sample`. Any attribute that is itself a `Prior` is a hyperprior: it gets a latent of
    its own (a scalar, one a tensor), and `log_prob` sees its value in place of the prior. `support` says where the density lives;
    constrained values are sampled through `torch.distributions.biject_to(support)`, Jacobian included.

        class Cauchy(bp.priors.Prior):
            def __init__(self, scale):
                self.scale = scale

            def log_prob(self, w):
                return -torch.log(math.pi * self.scale * (1 + (w / self.scale) ** 2))

            def sample(self, shape, *, generator=None):
                return self.scale * torch.tan(math.pi * (torch.rand(shape, generator=generator) - 0.5))
    """

    support: constraints.Constraint = constraints.real
    centred: bool = True

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
        """Log density of `w`, elementwise or already reduced over any of its dimensions."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob(w): define it in your class")

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        """One draw of a tensor of this shape, from `generator`."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be sampled: define sample(shape, *, generator=None) in your class, "
            "or start chains elsewhere with sample(..., init='model')"
        )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where a tensor of this shape cannot have this prior; any shape can by default."""

    def standard(self) -> Prior:
        """The prior of z in the non-centred form w = from_standard(z); only priors with `centred=False` need one."""
        raise NotImplementedError(f"{type(self).__name__} has no non-centred form: use centred=True")

    def from_standard(self, z: Tensor) -> Tensor:
        """The weight at the latent z of the non-centred form."""
        raise NotImplementedError(f"{type(self).__name__} has no non-centred form: use centred=True")

    def to_standard(self, w: Tensor) -> Tensor:
        """The latent z of the non-centred form at the weight w."""
        raise NotImplementedError(f"{type(self).__name__} has no non-centred form: use centred=True")

    def hyperpriors(self) -> dict[str, Prior]:
        """Attribute name -> the prior on it."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Prior)}

    def __repr__(self) -> str:
        body = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({body})"


def substitute(owner: HasParameters, values: Mapping[str, object]) -> HasParameters:
    """A shallow copy of `owner` with some of its attributes replaced."""
    if not values:
        return owner
    new = copy.copy(owner)
    for name, value in values.items():
        setattr(new, name, value)
    return new


def resolve(prior: Prior, shape: tuple[int, ...]) -> Prior:
    """`prior` with every scale rule, at any depth, replaced by its number for a tensor of this shape."""
    concrete: dict[str, object] = {}
    for name, value in vars(prior).items():
        if isinstance(value, ScaleRule):
            concrete[name] = value(shape)
        elif isinstance(value, Prior) and (new := resolve(value, shape)) is not value:
            concrete[name] = new
    return substitute(prior, concrete)


def value_of(parameter: Parameter, owner: Prior, name: str, w: Tensor) -> float | Tensor:
    """The number or tensor that a prior's parameter stands for, on the dtype and device of `w`."""
    if isinstance(parameter, (Prior, torch.distributions.Distribution)):
        raise TypeError(
            f"{owner!r}: {name} is itself a prior, so the density of w alone is not defined. "
            "Attach it to a module (bp.attach), which gives the hyperparameter a latent of its own"
        )
    if isinstance(parameter, ScaleRule):
        return parameter(w.shape)
    return parameter.to(w) if isinstance(parameter, Tensor) else parameter


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
    if isinstance(value, Prior):
        if positive:
            check_support(where, value)
        return
    if not isinstance(value, (int, float, Tensor)):
        raise TypeError(
            f"{where} {value!r} given, expected a number, a tensor, bp.priors.fan_in(...) or a prior"
        )
    numbers = torch.as_tensor(value)
    if not numbers.isfinite().all() or (positive and not (numbers > 0).all()):
        raise ValueError(
            f"{where} {value} given, expected {'positive finite' if positive else 'finite'} numbers"
        )


def check_broadcast(owner: Prior, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a tensor among the parameters does not broadcast to `shape`."""
    for name, value in vars(owner).items():
        if isinstance(value, Tensor) and not _broadcasts(tuple(value.shape), tuple(shape)):
            raise ValueError(
                f"{type(owner).__name__}: {name} of shape {tuple(value.shape)} given, expected a number or a tensor that "
                f"broadcasts to the parameter's shape {tuple(shape)}"
            )


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


def check_support(where: str, prior: Prior) -> None:
    """Raise ValueError where a prior on a positive quantity has mass on negative numbers."""
    if not bool(torch.as_tensor(prior.support.check(torch.tensor(-1.0))).all()):
        return
    raise ValueError(
        f"{where} has the prior {prior!r}, which allows negative values; use one on positive numbers, such as "
        "HalfNormal, HalfCauchy or Gamma"
    )


def as_prior(given: object) -> Prior:
    """A `Prior` as it is; a torch or Pyro distribution wrapped.

    Raises:
        TypeError: anything else.
    """
    from .distribution import Distribution

    if isinstance(given, Prior):
        return given
    if isinstance(given, torch.distributions.Distribution):
        return Distribution(given)
    raise TypeError(
        f"{given!r} given, expected a prior: bp.priors.Normal(0, 1) and its kin, a subclass of bp.priors.Prior with "
        "log_prob and sample, or a torch.distributions / Pyro distribution"
    )


def draw(prior: Prior, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """One sample with the dtype and device of `like`, in full precision where the prior can give it."""
    options = {"dtype": like.dtype, "device": like.device}
    if not {"dtype", "device"} <= set(inspect.signature(prior.sample).parameters):
        options = {}
    value = prior.sample(tuple(shape), generator=generator, **options)
    if value.shape != tuple(shape):
        raise ValueError(
            f"{prior!r}: sample(shape={tuple(shape)}) returned a tensor of shape {tuple(value.shape)}; return one of the "
            "shape asked for"
        )
    return value.to(like)
