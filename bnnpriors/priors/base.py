"""What a weight may be: the base class of every prior, and how a prior's parameters are given.

A parameter of a prior (a scale, a location, degrees of freedom) is a number, a tensor, a rule such as `fan_in` or any
function of the tensor's shape, or another `Prior`; the last makes the prior hierarchical.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, Union

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints

from .hierarchy import check_extent
from .rules import ScaleRule

Parameter = Union[
    float, Tensor, ScaleRule, "Prior", torch.distributions.Distribution, Callable[[tuple[int, ...]], float]
]
HasParameters = TypeVar("HasParameters")
Self = TypeVar("Self", bound="Prior")


class Prior:
    """A distribution over one named tensor.

    A subclass needs `log_prob` and `sample`. Any attribute that is itself a `Prior` is a hyperprior: it gets a latent of
    its own (one number a tensor; `per` and `shared` change that), and `log_prob` sees its value in place of the prior.
    `support` says where the density lives; constrained values are sampled through
    `torch.distributions.biject_to(support)`, Jacobian included. `widths` names the parameters that set how far the latent of
    the centred form spreads: under a hyperprior on one of them a funnel can form, which `Draws.summary` looks for. A positive
    prior may also define `log_prob_of_log(log_w)`, the density of log w, where that is less work.

        class HyperbolicSecant(bp.priors.Prior):
            def __init__(self, scale):
                self.scale = scale

            def log_prob(self, w):  # −log(2 scale cosh x), x = π w/(2 scale)
                x = math.pi * w / (2 * self.scale)
                return -torch.logaddexp(x, -x) - torch.as_tensor(self.scale).log()

            def sample(self, shape, *, generator=None):
                u = torch.rand(shape, generator=generator)
                return 2 * self.scale / math.pi * torch.log(torch.tan(math.pi * u / 2))
    """

    support: constraints.Constraint = constraints.real
    centred: bool = True
    widths: tuple[str, ...] = ("scale",)
    extent: str = "tensor"
    shared_as: str | None = None

    @property
    def bijection(self) -> Transform:
        """The map from unconstrained latents to the support: torch's own."""
        return biject_to(self.support)

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

    def mean(self) -> float | Tensor:
        """E[w] of one weight, hyperparameters integrated out; infinite or NaN where there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no mean in closed form; estimate it from draws")

    def variance(self) -> float | Tensor:
        """Var[w] of one weight, hyperparameters integrated out; infinite where there is none. Scale rules need `attach` first."""
        raise NotImplementedError(
            f"{type(self).__name__} has no variance in closed form; estimate it from draws"
        )

    def per(self: Self, extent: str) -> Self:
        """This prior, used as a hyperprior, with one hyperparameter for each part of the weight tensor [out, in, *taps].

        Args:
            extent: "output" (shape [out, 1, ...]: a unit or an output channel), "input" ([1, in, ...]: automatic relevance
                determination), "filter" ([out, in, 1, ...]: the taps of one convolution filter), "weight" (each weight its
                own) or "tensor" (one number, as without `per`).

        Raises:
            ValueError: another extent.
        """
        check_extent(extent)
        return substitute(self, {"extent": extent})

    def shared(self: Self, name: str) -> Self:
        """This prior, used as a hyperprior, with one hyperparameter for all tensors whose prior says the same name.

        It is the latent `shared.<name>`. With `per("output")` or `per("input")` it is a vector, which may scale the outputs of
        one layer, that layer's bias and the inputs of the next.

        Raises:
            ValueError: an empty name.
        """
        if not name:
            raise ValueError("shared: an empty name given, expected what to call the hyperparameter")
        return substitute(self, {"shared_as": name})

    def parameter_shape(self, name: str, grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the hyperparameter `name` of a tensor of `shape`, where its extent gives `grid`.

        Priors with vector parameters add dimensions at the end. Raises ValueError where the prior cannot take the extent.
        """
        return grid

    def hyperpriors(self) -> dict[str, Prior]:
        """Attribute name -> the prior on it; `components.0.scale` for a parameter of a component."""
        found: dict[str, Prior] = {}
        for name, value in vars(self).items():
            if isinstance(value, Prior):
                found[name] = value
            elif isinstance(value, tuple):
                for index, part in enumerate(value):
                    if isinstance(part, Prior):
                        found |= {f"{name}.{index}.{own}": hyper for own, hyper in part.hyperpriors().items()}
        return found

    def __repr__(self) -> str:
        body = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if name not in ("extent", "shared_as")
        )
        per = f".per({self.extent!r})" if self.extent != "tensor" else ""
        shared = f".shared({self.shared_as!r})" if self.shared_as else ""
        return f"{type(self).__name__}({body}){per}{shared}"


def substitute(owner: HasParameters, values: Mapping[str, object]) -> HasParameters:
    """A shallow copy of `owner` with some of its attributes replaced; `components.0.scale` reaches into a component."""
    if not values:
        return owner
    new = copy.copy(owner)
    inner: dict[str, dict[int, dict[str, object]]] = {}
    for name, value in values.items():
        if "." not in name:
            setattr(new, name, value)
            continue
        field, index, own = name.split(".", 2)
        inner.setdefault(field, {}).setdefault(int(index), {})[own] = value
    for field, changes in inner.items():
        parts = getattr(owner, field)
        setattr(new, field, tuple(substitute(part, changes.get(i, {})) for i, part in enumerate(parts)))
    return new


def resolve(prior: Prior, shape: tuple[int, ...]) -> Prior:
    """`prior` with every scale rule, at any depth, replaced by its number for a tensor of this shape."""

    def resolved(value: Any) -> Any:
        if isinstance(value, ScaleRule):
            return value(shape)
        if isinstance(value, Prior):
            return resolve(value, shape)
        if isinstance(value, tuple):
            new = tuple(map(resolved, value))
            return value if all(a is b for a, b in zip(new, value, strict=True)) else new
        return value

    concrete = {name: resolved(value) for name, value in vars(prior).items()}
    return substitute(prior, {n: v for n, v in concrete.items() if v is not getattr(prior, n)})


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


def hyperprior(prior: Prior, per: str = "tensor", shared: str | None = None) -> Prior:
    """`prior.per(per).shared(shared)` as one call, as settings in a file need it.

        scale:
          class_path: bnnpriors.priors.hyperprior
          init_args: {prior: {class_path: bnnpriors.priors.HalfCauchy}, per: input}

    Raises:
        ValueError: another extent than those of `Prior.per`, or an empty name.
    """
    extended = prior.per(per)
    return extended if shared is None else extended.shared(shared)


def draw(prior: Prior, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """One sample with the dtype and device of `like`, in full precision where the prior can give it."""
    options = {"dtype": like.dtype, "device": like.device}
    if not _takes_options(type(prior).sample):
        options = {}
    value = prior.sample(tuple(shape), generator=generator, **options)
    if value.shape != tuple(shape):
        raise ValueError(
            f"{prior!r}: sample(shape={tuple(shape)}) returned a tensor of shape {tuple(value.shape)}; return one of the "
            "shape asked for"
        )
    return value.to(like)


@lru_cache
def _takes_options(sample: Callable[..., Tensor]) -> bool:
    return {"dtype", "device"} <= set(inspect.signature(sample).parameters)
