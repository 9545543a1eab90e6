"""Neighbours in the flat vector of latents, evaluated as one: a log prior whose cost does not grow with the number of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch

from .base import Prior, substitute
from .location_scale import LocationScale
from .site import Site


def flat_runs(sites: Sequence[Site]) -> tuple[list[tuple[slice, Prior]], set[str]]:
    """Neighbouring tensors under location–scale priors of one family as one prior over a slice of the flat vector.

    It has one location and scale an element, so that the cost of a log prior does not grow with the number of tensors.
    Returns the slices with their priors, and the names of the tensors in them.
    """
    runs: list[tuple[slice, Prior]] = []
    names: set[str] = set()
    start = 0
    for kind, group in groupby(sites, key=_family):
        members = list(group)
        sizes = [math.prod(site.shape) for site in members]
        stop = start + sum(sizes)
        if kind is not None:
            spread = {}
            for field in ("loc", "scale"):
                numbers = [getattr(site.prior, field) for site in members]
                each = torch.cat(
                    [torch.full((n,), v, dtype=torch.float64) for n, v in zip(sizes, numbers, strict=True)]
                )
                spread[field] = numbers[0] if len(set(numbers)) == 1 else each
            runs.append((slice(start, stop), substitute(members[0].prior, spread)))
            names |= {site.name for site in members}
        start = stop
    return runs, names


def _family(site: Site) -> tuple[object, ...] | None:
    """What two neighbours must share to be evaluated as one; None for a site that stands alone."""
    prior = site.prior
    if not isinstance(prior, LocationScale) or site.children or not site.is_weight:
        return None
    fields = vars(prior)
    if site.is_joint or not all(
        isinstance(value, (int, float, str, type(None))) for value in fields.values()
    ):
        return None
    return (type(prior), *sorted((k, v) for k, v in fields.items() if k not in ("loc", "scale")))
