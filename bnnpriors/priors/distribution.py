"""Any torch or Pyro distribution as a prior, with no class to write."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Transform, constraints

from .base import Prior


class Distribution(Prior):
    """`distribution` over a tensor whose last dimensions are its batch and event dimensions; independent over the rest.

    A distribution over single numbers applies to every element; `MultivariateNormal` of k dimensions needs a tensor of
    shape [..., k].

    Args:
        distribution: a `torch.distributions` or Pyro distribution with a density.
    """

    def __init__(self, distribution: torch.distributions.Distribution) -> None:
        self.distribution = distribution

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        """Where the density lives."""
        support = self.distribution.support
        assert support is not None
        return support

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the distribution is continuous and its own dimensions are the last ones of `shape`."""
        if self.support.is_discrete:
            raise ValueError(
                f"{self.distribution} is discrete, expected a distribution with a density: its draws have no gradient"
            )
        own = self.distribution.batch_shape + self.distribution.event_shape
        if len(own) > len(shape) or tuple(shape[len(shape) - len(own) :]) != tuple(own):
            raise ValueError(
                f"{self.distribution}: batch and event shape {tuple(own)} given, expected the last dimensions of the "
                f"parameter's shape {tuple(shape)}. Use a scalar distribution, or .expand() it to the parameter"
            )

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
        """The distribution's own `log_prob`, on the dtype and device of `w`."""
        return _moved(self.distribution, w).log_prob(w)

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        """A draw from a fork of the global generators, seeded by `generator`: torch distributions take none."""
        own = self.distribution.batch_shape + self.distribution.event_shape
        lead = torch.Size(shape[: len(shape) - len(own)])
        if generator is None:
            return self.distribution.sample(lead)
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
            return self.distribution.sample(lead)

    def mean(self) -> Tensor:
        """The distribution's own mean."""
        return self.distribution.mean

    def variance(self) -> Tensor:
        """The distribution's own variance."""
        return self.distribution.variance

    def __repr__(self) -> str:
        return f"Distribution({self.distribution})"


def _moved(value: Any, like: Tensor) -> Any:
    """A copy of a distribution or transform with all its tensors on the dtype and device of `like`."""
    if isinstance(value, Tensor):
        return value.to(like) if value.is_floating_point() else value.to(like.device)
    if isinstance(value, (torch.distributions.Distribution, Transform)):
        new = copy.copy(value)
        for name, attribute in vars(value).items():
            new.__dict__[name] = _moved(attribute, like)
        if isinstance(new, torch.distributions.Distribution):
            new._validate_args = False
        return new
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, like) for item in value) if type(value) in (list, tuple) else value
    return value
