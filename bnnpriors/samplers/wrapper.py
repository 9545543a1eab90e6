"""Samplers that change what another sampler sees."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..posterior import Target
from .base import Sampler


@dataclass(frozen=True)
class Wrapper(Sampler):
    """Base class: a sampler around another, whose state is the other's with fields of its own added.

    Args:
        sampler: the other; its state is a NamedTuple.
    """

    sampler: Sampler

    own_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not isinstance(self.sampler, Sampler):
            raise TypeError(
                f"{name}: {self.sampler!r} given, expected a sampler with its settings, such as {name}(bp.samplers.SGLD(1e-3))"
            )
        if taken := sorted({*self.own_fields} & {*self.sampler.state_type._fields}):
            inner = type(self.sampler).__name__
            raise ValueError(
                f"{name}: the state of {inner} has a field {taken[0]!r} too: one of them cannot be put inside the other"
            )

    @property
    def state_type(self) -> type[Any]:  # type: ignore[override]
        """The other's state with `own_fields`."""
        return _extended(self.sampler.state_type, self.own_fields)  # type: ignore[arg-type]

    @property
    def exact_gradients(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.exact_gradients

    @property
    def independent_chains(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.independent_chains

    @property
    def independent_draws(self) -> bool:
        """The other's."""
        return self.sampler.independent_draws

    @property
    def independent_rungs(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.independent_rungs

    @property
    def reversible(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.reversible

    @property
    def preserves_volume(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.preserves_volume

    @property
    def vectorised(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.vectorised

    @property
    def is_baseline(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.is_baseline

    @property
    def has_law(self) -> bool:
        """The other's."""
        return self.sampler.has_law

    @property
    def anneals(self) -> bool:  # type: ignore[override]
        """The other's."""
        return self.sampler.anneals

    @property
    def tunes(self) -> bool:
        """The other's."""
        return self.sampler.tunes

    def frictionless(self) -> Sampler:
        """Around the other without friction."""
        return replace(self, sampler=self.sampler.frictionless())

    def gradients(self, target: Target) -> tuple[float, float]:
        """The other's."""
        return self.sampler.gradients(target)

    def memory(self, target: Target) -> int:
        """The other's."""
        return self.sampler.memory(target)

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """The other's."""
        self.sampler.check_run(num_samples=num_samples, num_warmup=num_warmup, thin=thin)

    def check(self, target: Target) -> None:
        """The other's, and its own."""
        self.sampler.check(target)
        if self.gradients(target)[0] > 0:
            target.check_exact(type(self).__name__)

    def split(self, state: Any, chains: Sequence[slice]) -> list[Any]:
        """The other's, and one's own fields."""
        parts = zip(self.sampler.split(self.inner(state), chains), chains, strict=True)
        return [
            self.joined(inner, **{name: getattr(state, name)[part] for name in self.own_fields})
            for inner, part in parts
        ]

    def join(self, states: Sequence[Any]) -> Any:
        """The inverse of `split`."""
        inner = self.sampler.join([self.inner(state) for state in states])
        own = {name: torch.cat([getattr(state, name) for state in states]) for name in self.own_fields}
        return self.joined(inner, **own)

    def inner(self, state: Any) -> Any:
        """The other's part of the state."""
        kind = self.sampler.state_type
        return kind(*(getattr(state, name) for name in kind._fields))

    def joined(self, inner: Any, **own: Tensor) -> Any:
        """A state of the other's and one's own fields."""
        return self.state_type(**inner._asdict(), **own)


@cache
def _extended(kind: type[Any], names: tuple[str, ...]) -> type[Any]:
    return namedtuple(kind.__name__, (*kind._fields, *names))
