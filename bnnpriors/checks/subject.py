"""A prior under test: its tensor, its latents, and the draws that several checks look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.distributions import constraints
from torch.func import vmap

from ..module import BayesianModule, attach
from ..priors import Distribution, Fixed, Improper, Prior
from ..priors.base import resolve, substitute
from ..priors.site import Site
from .report import NotApplicable

NAME = "weight"
NUM_DRAWS = 2000
SHAPES = ((3, 2), (3, 3), (2, 2, 3, 3), (4,), ())
"""Shapes tried in turn where none is given: a matrix, a square, the kernel of a convolution, a vector, a number."""
LARGEST_LATENT = 700.0
"""Beyond this an unconstrained latent of a constrained value overflows float64: its density there is taken as zero."""

Latents = dict[str, Tensor]


class Holder(nn.Module):
    """A module that is one parameter, `weight`."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))


class Owner(Prior):
    """A standard normal whose density does not see its one hyperparameter: a place for a prior that can only be a hyperprior."""

    def __init__(self, hyper: Prior, shape: tuple[int, ...]) -> None:
        self.hyper = hyper
        self.shape = shape

    def parameter_shape(self, name: str, grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the hyperparameter, whatever the tensor's."""
        return self.shape

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log density of N(0, 1), elementwise."""
        return -0.5 * w * w - 0.5 * math.log(2 * math.pi)

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=generator, dtype=torch.float64)


class Subject:
    """A prior on a tensor of one shape, in float64 unless said otherwise.

    A prior whose latents have another shape than its values (probabilities, Cholesky factors) cannot be on a module's parameter:
    it is a hyperprior, and a model of it is a number under an `Owner` that has the hyperparameter.
    """

    def __init__(self, prior: Prior, shape: tuple[int, ...] | None, seed: int) -> None:
        self.prior, self.seed = prior, seed
        self.shape = _fitting_shape(prior) if shape is None else tuple(shape)
        self.site = Site(NAME, prior, self.shape)

    def generator(self, stream: int = 0) -> torch.Generator:
        """A fresh generator; the same stream gives the same numbers."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    @property
    def is_hyperprior(self) -> bool:
        """Whether the prior can be on a hyperparameter only."""
        return self.site.latent_shape != self.shape

    def attached(self, prior: Prior | None = None) -> BayesianModule:
        """A model that consists of the one tensor under the prior, or of the owner of a hyperparameter."""
        prior = self.prior if prior is None else prior
        if self.is_hyperprior:
            return attach(Holder((), torch.float64), Owner(prior, self.shape))
        return attach(Holder(self.shape, torch.float64), prior)

    def in_model(self, latents: Latents, generator: torch.Generator) -> Latents:
        """Latents [*lead, ...] of the prior as those of `attached()`; an owner's own are drawn."""
        if not self.is_hyperprior:
            return latents
        lead = latents[NAME].shape[: -len(self.site.latent_shape)]
        renamed = {name.replace(NAME, f"{NAME}.hyper", 1): value for name, value in latents.items()}
        return {NAME: torch.randn(lead, generator=generator, dtype=torch.float64)} | renamed

    def draw(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Latents:
        """One draw of all latents. Raises NotApplicable where there is nothing to draw."""
        latents: Latents = {}
        if isinstance(self.prior, (Improper, Fixed)):
            raise NotApplicable(f"{type(self.prior).__name__} is no distribution: it cannot be drawn from")
        try:
            self.site.sample(torch.zeros((), dtype=dtype), generator, latents)
        except NotImplementedError as error:
            raise NotApplicable("the prior has no sample") from error
        except KeyError as error:
            raise NotApplicable(f"the hyperprior of {error} cannot be drawn from") from error
        return latents

    @cached_property
    def draws(self) -> Latents:
        """`NUM_DRAWS` draws of all latents, [draws, ...]. Raises NotApplicable where there is nothing to draw."""
        generator = self.generator(1)
        rows = [self.draw(generator) for _ in range(NUM_DRAWS)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def points(self, count: int, dtype: torch.dtype = torch.float64) -> list[Latents]:
        """A few places to look at: draws where there are draws, and normal numbers elsewhere."""
        generator = self.generator(2)
        try:
            return [self.draw(generator, dtype) for _ in range(count)]
        except NotApplicable:
            shapes = {site.name: site.latent_shape for site in self.site.walk()}
            return [
                {n: torch.randn(s, generator=generator, dtype=dtype) for n, s in shapes.items()}
                for _ in range(count)
            ]

    def conditioned(self, latents: Mapping[str, Tensor]) -> tuple[Prior, Tensor]:
        """The prior with its hyperparameters as numbers, and the value of the tensor, at these latents."""
        values: Latents = {}
        self.site.evaluate(latents, values)
        known = {attribute: values[child.name] for attribute, child in self.site.children.items()}
        return substitute(resolve(self.prior, self.shape), known), values[NAME]


def size(site: Site) -> int:
    """The number of a site's own latents."""
    return math.prod(site.latent_shape)


def own_log_density(
    site: Site, latents: Mapping[str, Tensor], own: Float[Tensor, "points dim"]
) -> Float64[Tensor, " points"]:
    """log p(own | hyperparameters), in latent space with its Jacobian; other latents are shared or one a point.

    Latents that are not finite or, of a constrained value, beyond `LARGEST_LATENT`, and a density of NaN, count as density zero;
    the prior sees zeros in the place of such latents, because a torch distribution in its `log_prob` refuses NaN.
    """
    constrained = site.prior.centred and site.prior.support is not constraints.real
    inside = (own.abs() <= (LARGEST_LATENT if constrained else torch.finfo(own.dtype).max)).all(1)
    own = torch.where(inside[:, None], own, 0.0)
    others = {part.name: latents[part.name] for part in site.walk() if part is not site}
    shapes = {part.name: part.latent_shape for part in site.walk()}
    batched = {name: 0 if value.ndim > len(shapes[name]) else None for name, value in others.items()}

    def evaluate(mine: Tensor, rest: Latents) -> Tensor:
        total = site.evaluate({**rest, site.name: mine.reshape(site.latent_shape)}, {})
        return total - sum(child.evaluate(rest, {}) for child in site.children.values())

    value = vmap(evaluate, in_dims=(0, batched))(own, others)
    return torch.where(inside & ~value.isnan(), value, -torch.inf)


def _fitting_shape(prior: Prior) -> tuple[int, ...]:
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    if isinstance(prior, Distribution):
        own = tuple(prior.distribution.batch_shape + prior.distribution.event_shape)
        shapes = ((2, *own) if own else SHAPES[0], own)
    for shape in shapes:
        try:
            Site(NAME, prior, shape)
        except ValueError as error:
            last = error
        else:
            return shape
    raise ValueError(
        f"check_prior: {prior!r} fits none of the shapes {list(shapes)} ({last}); pass shape=, that of a parameter it is for"
    )
