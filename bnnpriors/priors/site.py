"""One random tensor of a model, with the hyperpriors above it: its unconstrained latents, values and log density."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from .base import Prior, draw, resolve, substitute
from .special import Improper

Latents = Mapping[str, Tensor]


class Site:
    """A tensor `name` of `shape` with a prior; each hyperprior is a child site named `name.attribute`.

    With the hyperparameters s and the unconstrained latents u (SPEC of the joint, in latent space):
    log p(u) = log p(w | s) + log |dw/du| + Σ over children; the non-centred form has w = loc + s z with u = z instead.
    """

    def __init__(self, name: str, prior: Prior, shape: tuple[int, ...]) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.prior = resolve(prior, self.shape)
        self.children = {
            attribute: Site(f"{name}.{attribute}", hyper, ())
            for attribute, hyper in self.prior.hyperpriors().items()
        }
        self.prior.check_shape(self.shape)

    @property
    def is_weight(self) -> bool:
        """Whether the latent is the tensor itself."""
        return self.prior.centred and self.prior.support is constraints.real

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of the unconstrained latent."""
        return self.shape if self.is_weight else tuple(self._transform.inverse_shape(self.shape))

    @property
    def _transform(self) -> torch.distributions.Transform:
        return biject_to(self.prior.support)

    def walk(self) -> Iterator[Site]:
        """This site, then everything above it."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def evaluate(self, latents: Latents, values: MutableMapping[str, Tensor]) -> Tensor:
        """Log density (a float64 scalar) of this site and its children; their values are written to `values` by name."""
        terms, prior = self._condition(latents, values)
        latent = latents[self.name]
        if not prior.centred:
            values[self.name] = prior.from_standard(latent)
            terms.append(_total(prior.standard().log_prob(latent)))
            return sum(terms[1:], terms[0])
        if self.is_weight:
            values[self.name] = latent
        elif prior.support is constraints.positive:
            values[self.name] = latent.exp()
            terms.append(_total(latent))
        else:
            values[self.name] = self._transform(latent).to(latent.dtype)
            terms.append(_total(self._transform.log_abs_det_jacobian(latent, values[self.name])))
        terms.append(_total(prior.log_prob(values[self.name])))
        return sum(terms[1:], terms[0])

    def sample(
        self, like: Tensor, generator: torch.Generator | None, latents: MutableMapping[str, Tensor]
    ) -> None:
        """Draw children, then this site; write the latents by name. An improper prior leaves its latent as it is."""
        for child in self.children.values():
            child.sample(like, generator, latents)
        _, prior = self._condition(latents, {})
        if isinstance(prior, Improper):
            return
        if not prior.centred:
            latents[self.name] = draw(prior.standard(), self.shape, like, generator)
        else:
            latents[self.name] = self._unconstrain(draw(prior, self.shape, like, generator))

    def latent_of(self, value: Tensor, latents: Latents) -> Tensor | None:
        """The latent that gives `value`, or None where `value` lies outside the prior's support."""
        _, prior = self._condition(latents, {})
        if not prior.centred:
            return prior.to_standard(value)
        if not bool(torch.as_tensor(prior.support.check(value)).all()):
            return None
        latent = self._unconstrain(value)
        return latent if bool(latent.isfinite().all()) else None

    def _unconstrain(self, value: Tensor) -> Tensor:
        return value if self.is_weight else self._transform.inv(value).to(value.dtype)

    def _condition(self, latents: Latents, values: MutableMapping[str, Tensor]) -> tuple[list[Tensor], Prior]:
        terms = [child.evaluate(latents, values) for child in self.children.values()]
        parameters = {attribute: values[child.name] for attribute, child in self.children.items()}
        return terms, substitute(self.prior, parameters)


def _total(log_density: Tensor) -> Tensor:
    return log_density.sum(dtype=torch.float64)
