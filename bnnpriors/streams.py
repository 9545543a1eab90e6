"""Random numbers: one generator for each chain, so that a chain's stream depends on the seed and on its own place alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class _Ahead(NamedTuple):
    """Normal numbers on their way, and the generators' states before them."""

    dim: int
    state: Tensor
    numbers: Future[Tensor]


class Streams:
    """Independent generators, one a chain, drawn from in step.

    Args:
        seed: the run's seed, an integer from 0.
        keys: one (rung, chain within the rung) a chain.

    Attributes:
        spare: a thread for `draw_ahead`, or None.
    """

    def __init__(
        self, seed: int, keys: Sequence[tuple[int, int]], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} given, expected an integer from 0")
        self.dtype, self.device = dtype, device
        self.spare: Executor | None = None
        self._dim: int | None = None
        self._ahead: _Ahead | None = None
        self.generators = []
        for key in keys:
            words = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
            self.generators.append(torch.Generator(device).manual_seed(int(words[0])))

    def part(self, chains: slice) -> Streams:
        """The streams of some chains; they are the same generators, so drawing from the part advances the whole."""
        new = copy.copy(self)
        new.generators = self.generators[chains]
        return new

    def normal(self, dim: int) -> Float[Tensor, "chains dim"]:
        """Standard normal numbers."""
        self._dim = dim
        if self._ahead is not None and self._ahead.dim == dim:
            numbers, self._ahead = self._ahead.numbers.result(), None
            return numbers
        self._take_back()
        return self._normal(dim)

    def draw_ahead(self) -> None:
        """Begin to draw the next `normal` of the size of the last one, in the thread of `spare` where there is one.

        The order of the numbers does not change: anything else that is drawn first takes them back.
        """
        if self.spare is not None and self._dim is not None and self._ahead is None:
            state = self.state()
            self._ahead = _Ahead(self._dim, state, self.spare.submit(self._normal, self._dim))

    def uniform(self) -> Float[Tensor, " chains"]:
        """One number in [0, 1) a chain."""
        self._take_back()
        draws = [
            torch.rand((), generator=g, dtype=torch.float64, device=self.device) for g in self.generators
        ]
        return torch.stack(draws)

    def integers(self, high: int, count: int) -> Int[Tensor, "chains count"]:
        """`count` integers from 0 to high − 1, uniform, with replacement."""
        self._take_back()
        return torch.stack(
            [torch.randint(high, (count,), generator=g, device=self.device) for g in self.generators]
        )

    def state(self) -> Tensor:
        """All generator states, [chains, bytes]."""
        if self._ahead is not None:
            return self._ahead.state
        return torch.stack([g.get_state() for g in self.generators])

    def restore(self, state: Tensor) -> None:
        """Continue from `state()`. Each row is copied: torch's `set_state` crashes on a view with an offset."""
        if self._ahead is not None:
            self._ahead.numbers.result()
            self._ahead = None
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.clone())

    def _take_back(self) -> None:
        if self._ahead is not None:
            self.restore(self._ahead.state)

    def _normal(self, dim: int) -> Tensor:
        out = torch.empty(len(self.generators), dim, dtype=self.dtype, device=self.device)
        for row, generator in zip(out, self.generators, strict=True):
            row.normal_(generator=generator)
        return out
