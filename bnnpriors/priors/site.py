"""One random tensor of a model, with the hyperpriors above it: its unconstrained latents, values and log density."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from .base import Prior, draw, resolve, substitute
from .distribution import Distribution
from .hierarchy import Place, Shape, check_broadcasts
from .special import Improper

Latents = Mapping[str, Tensor]
SHARED = "shared."


class Site:
    """A tensor `name` of `shape` with a prior; each hyperprior is a child site named `name.attribute`, or `shared.<name>`.

    With the hyperparameters s and the unconstrained latents u (SPEC of the joint, in latent space):
    log p(u) = log p(w | s) + log |dw/du| + Σ over children. The non-centred form has w = f(z, s), and u is the latent of z under
    the standard prior. A child that several sites share is counted by the first of them to be evaluated.

    Args:
        members: names and shapes of the parameters that the vector `shape` is cut into; the tensor itself if None.
        shared: shared name -> its site; what this site adds is written there.
        place: where in a weight tensor a hyperparameter stands; None for the tensor itself.

    Raises:
        ValueError: the prior or one of its hyperpriors does not fit the shape.
    """

    def __init__(
        self,
        name: str,
        prior: Prior,
        shape: Shape,
        *,
        members: Mapping[str, Shape] | None = None,
        shared: MutableMapping[str, Site] | None = None,
        place: Place | None = None,
    ) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.members = dict(members or {name: self.shape})
        self.place = place or Place.of_tensor(prior, self.shape)
        self.prior = resolve(prior, self.place.frame)
        self.children: dict[str, Site] = {}
        self.borrowed: set[str] = set()
        self._views: dict[str, Shape] = {}
        for attribute, hyper in self.prior.hyperpriors().items():
            self._add(attribute, hyper, {} if shared is None else shared)
        self.prior.check_shape(self.shape)

    def _add(self, attribute: str, hyper: Prior, shared: MutableMapping[str, Site]) -> None:
        place = self.place.of(hyper)
        check_broadcasts(self.name, attribute, hyper, place, self.place)
        full = self.prior.parameter_shape(attribute, place.grid, self.shape)
        event = full[len(place.grid) :]
        own_event = len(self.shape) - len(self.place.lead)
        lead = place.lead if self.place.is_flat else place.grid
        self._views[attribute] = lead + (1,) * (own_event if lead else 0) + event
        name = SHARED + hyper.shared_as if hyper.shared_as else f"{self.name}.{attribute}"
        child = shared.get(name) if hyper.shared_as else None
        if child is None:
            child = Site(name, hyper, place.lead + event, shared=shared, place=place)
        else:
            _check_same(child, resolve(hyper, self.place.frame), place.lead + event)
            self.borrowed.add(attribute)
        if hyper.shared_as:
            shared[name] = child
        self.children[attribute] = child

    @property
    def is_weight(self) -> bool:
        """Whether the latent is the tensor itself."""
        return self.prior.centred and self.prior.support is constraints.real

    @property
    def latent_shape(self) -> Shape:
        """Shape of the unconstrained latent."""
        return (
            self.shape
            if self.is_weight
            else tuple(_transform(_latent_prior(self.prior)).inverse_shape(self.shape))
        )

    def walk(self) -> Iterator[Site]:
        """This site, then everything above it that no earlier site holds."""
        yield self
        for attribute, child in self.children.items():
            if attribute not in self.borrowed:
                yield from child.walk()

    def condition(self, values: Mapping[str, Tensor]) -> Prior:
        """The prior with the values of its hyperparameters, `values[child.name]`, in place of their priors."""
        return substitute(
            self.prior,
            {
                attribute: values[child.name].reshape(self._views[attribute])
                for attribute, child in self.children.items()
            },
        )

    @property
    def is_joint(self) -> bool:
        """Whether the tensor is a vector made of several parameters."""
        return self.name not in self.members

    def split(self, value: Tensor) -> dict[str, Tensor]:
        """The tensor, or its latent, by the parameters that it is made of."""
        if not self.is_joint:
            return {self.name: value}
        pieces = value.split([math.prod(shape) for shape in self.members.values()])
        return {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(self.members.items(), pieces, strict=True)
        }

    def join(self, tensors: Latents) -> Tensor:
        """The inverse of `split`."""
        if not self.is_joint:
            return tensors[self.name]
        return torch.cat([tensors[name].reshape(-1) for name in self.members])

    def evaluate(self, latents: Latents, values: MutableMapping[str, Tensor]) -> Tensor:
        """Log density (a float64 scalar) of this site and its children; their values are written to `values` by name."""
        terms, prior = self._condition(latents, values)
        own = _latent_prior(prior)
        latent = self.join(latents)
        value = latent
        if own.support is constraints.positive:
            value = latent.exp()
            direct = vars(type(own)).get(
                "log_prob_of_log"
            )  # of this very class: a subclass may have another density
            terms += (
                [_total(direct(own, latent))] if direct else [_total(latent), _total(own.log_prob(value))]
            )
        elif own.support is not constraints.real:
            transform = _transform(own)
            value = transform(latent).to(latent.dtype)
            terms += [_total(transform.log_abs_det_jacobian(latent, value)), _total(own.log_prob(value))]
        else:
            terms.append(_total(own.log_prob(value)))
        values.update(self.split(value if prior.centred else prior.from_standard(value)))
        return sum(terms[1:], terms[0])

    def sample(
        self,
        like: Tensor,
        generator: torch.Generator | None,
        latents: MutableMapping[str, Tensor],
        values: MutableMapping[str, Tensor] | None = None,
    ) -> None:
        """Draw children, then this site; write latents and values by name. An improper prior leaves its latent as it is."""
        values = {} if values is None else values
        for attribute, child in self.children.items():
            if attribute not in self.borrowed:
                child.sample(like, generator, latents, values)
        _, prior = self._condition(latents, values)
        if isinstance(prior, Improper):
            return
        own = _latent_prior(prior)
        value = draw(own, self.shape, like, generator)
        latents.update(self.split(_unconstrain(own, value)))
        values.update(self.split(value if prior.centred else prior.from_standard(value)))

    def latent_of(self, value: Tensor, latents: Latents) -> Tensor | None:
        """The latent that gives `value`, or None where `value` lies outside the prior's support."""
        _, prior = self._condition(latents, {})
        own = _latent_prior(prior)
        standard = value if prior.centred else prior.to_standard(value)
        if not bool(torch.as_tensor(own.support.check(standard)).all()):
            return None
        latent = _unconstrain(own, standard)
        return latent if bool(latent.isfinite().all()) else None

    def _condition(self, latents: Latents, values: MutableMapping[str, Tensor]) -> tuple[list[Tensor], Prior]:
        terms = [
            child.evaluate(latents, values) for child in self.children.values() if child.name not in values
        ]
        return terms, self.condition(values)


def _latent_prior(prior: Prior) -> Prior:
    """The prior whose unconstrained value is the latent."""
    return prior if prior.centred else prior.standard()


def _transform(prior: Prior) -> Transform:
    return prior.bijection


def _unconstrain(prior: Prior, value: Tensor) -> Tensor:
    return value if prior.support is constraints.real else _transform(prior).inv(value).to(value.dtype)


def _check_same(child: Site, hyper: Prior, shape: Shape) -> None:
    if child.shape != shape:
        raise ValueError(
            f"the hyperparameter {child.name} has shape {shape} here and {child.shape} in another prior, expected the same "
            "number of parts wherever it is shared; share it by tensors of the same size, or leave out per()"
        )
    if not _same(child.prior, substitute(hyper, {"extent": child.prior.extent})):
        raise ValueError(
            f"the hyperparameter {child.name} has the prior {hyper!r} here and {child.prior!r} in another prior, expected one "
            "prior wherever it is shared (a rule such as fan_in gives each tensor its own number)"
        )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Prior) and not isinstance(one, Distribution):
        return type(one) is type(other) and _same(_fields(one), _fields(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one is other or repr(one) == repr(other))


def _fields(prior: Prior) -> dict[str, Any]:
    return {"extent": prior.extent, "shared_as": prior.shared_as} | vars(prior)


def _total(log_density: Tensor) -> Tensor:
    return log_density.sum(dtype=torch.float64)
