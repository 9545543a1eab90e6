"""Where a funnel can form: tensors in the centred form whose scale has a prior of its own.

Given its scale s, a weight w ~ N(0, s²) spreads like s. Where the data leave s open, the joint density of (log s, w) is a funnel:
wide where s is large, and so narrow where s is small that no one step size suits both (Neal 2003, "Slice sampling", §8;
Betancourt & Girolami 1312.0906). In the non-centred form w = s z the latents z and log s are independent under the prior.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .base import Prior
from .site import Site


class FunnelWarning(UserWarning):
    """A posterior that is about to be sampled has the form in which funnels occur, and few data."""


class Funnel(NamedTuple):
    """A hyperparameter `scale`, and the names of the centred `tensors` that it scales.

    num_weights is the size of the largest of them; `can_change` says whether all their priors have a non-centred form.
    """

    scale: Site
    tensors: tuple[str, ...]
    num_weights: int
    can_change: bool


def possible_funnels(sites: Iterable[Site]) -> list[Funnel]:
    """The hyperparameters of these sites that scale a tensor in the centred form, each once, in order."""
    found: dict[str, Funnel] = {}
    for site in (part for given in sites for part in given.walk()):
        for attribute, child in site.children.items():
            if not site.prior.centred or not _sets_width(site.prior, attribute):
                continue
            before = found.get(child.name, Funnel(child, (), 0, True))
            found[child.name] = Funnel(
                child,
                (*before.tensors, *site.members),
                max(before.num_weights, math.prod(site.shape)),
                before.can_change and type(site.prior).standard is not Prior.standard,
            )
    return list(found.values())


def remedy(funnels: Sequence[Funnel]) -> str:
    """What to do about these funnels, as an order."""
    changed, kept = (
        list(dict.fromkeys(name for f in funnels if f.can_change is can for name in f.tensors))
        for can in (True, False)
    )
    orders = [f"give the prior of {listed(changed)} centred=False"] if changed else []
    if kept:
        orders.append(
            f"give the scale of {listed(kept)}, whose prior has no non-centred form, a hyperprior with little mass near "
            "zero, such as LogNormal"
        )
    return "; ".join(orders)


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def hint(sites: Iterable[Site], num_data: int) -> str | None:
    """A warning before sampling, where a centred tensor with a prior on its scale has more weights than there are data."""
    likely = [funnel for funnel in possible_funnels(sites) if num_data < funnel.num_weights]
    if not likely:
        return None
    return (
        f"{listed([funnel.scale.name for funnel in likely])}: a prior on the scale of centred weights, of which there are more "
        f"than data ({num_data}), so the posterior may be a funnel, which samplers explore badly. Look at draws.summary(); if it "
        f"finds one, {remedy(likely)}"
    )


def _sets_width(prior: Prior, attribute: str) -> bool:
    """Whether the parameter sets the spread of the latent; `components.0.scale` is the component's own."""
    name, owner = attribute, prior
    while "." in name:
        field, index, name = name.split(".", 2)
        owner = getattr(owner, field)[int(index)]
    return name in owner.widths
