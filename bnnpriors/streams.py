"""Random numbers: one generator for each chain, so that a chain's stream depends on the seed and on its own place alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Streams:
    """Independent generators, one a chain, drawn from in step.

    Args:
        seed: the run's seed, an integer from 0.
        keys: one (rung, chain within the rung) a chain.
    """

    def __init__(
        self, seed: int, keys: Sequence[tuple[int, int]], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} given, expected an integer from 0")
        self.dtype, self.device = dtype, device
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
        out = torch.empty(len(self.generators), dim, dtype=self.dtype, device=self.device)
        for row, generator in zip(out, self.generators, strict=True):
            row.normal_(generator=generator)
        return out

    def uniform(self) -> Float[Tensor, " chains"]:
        """One number in [0, 1) a chain."""
        draws = [
            torch.rand((), generator=g, dtype=torch.float64, device=self.device) for g in self.generators
        ]
        return torch.stack(draws)

    def integers(self, high: int, count: int) -> Int[Tensor, "chains count"]:
        """`count` integers from 0 to high − 1, uniform, with replacement."""
        return torch.stack(
            [torch.randint(high, (count,), generator=g, device=self.device) for g in self.generators]
        )

    def state(self) -> Tensor:
        """All generator states, [chains, bytes]."""
        return torch.stack([g.get_state() for g in self.generators])

    def restore(self, state: Tensor) -> None:
        """Continue from `state()`. Each row is copied: torch's `set_state` crashes on a view with an offset."""
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.clone())
