"""Random numbers: one generator for each chain, so that a chain's stream depends on the seed and on its own place alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import extension


class Minibatch(NamedTuple):
    """What a minibatch is made of: `rows` of `size` of the indices 0 … high − 1 of each chain, [chains, size]."""

    high: int
    size: int
    rows: Callable[[Tensor], Any]


class _Ahead(NamedTuple):
    """Normal numbers, then a minibatch, on their way or there, and the generators' states before each of them."""

    dim: int
    minibatch: Minibatch | None
    before: Tensor
    drawn: Future[tuple[Tensor, Tensor, Any]]


class _Rest(NamedTuple):
    """A minibatch drawn ahead whose normal numbers are taken."""

    minibatch: Minibatch
    before: Tensor
    batch: Any


COUNTER, TORCH = "Philox4x32-10", "torch"


def normal_source(dtype: torch.dtype, device: torch.device) -> str:
    """What normal numbers come from on this machine: a counter, by `fill_normal`, or torch's own generators."""
    is_there = not isinstance(extension.load(), str)
    return COUNTER if is_there and device.type == "cpu" and dtype in (torch.float32, torch.float64) else TORCH


def fill_normal(
    out: Float[Tensor, "chains dim"], seeds: Int[Tensor, "chains 2"], vector_bytes: int | None = None
) -> None:
    """Standard normal numbers for each chain from its seed, into `out`, by C++ that holds no interpreter lock.

    Philox4x32-10 (Salmon et al. 2011), whose key is the first word of the seed and the upper half of whose counters the second,
    and the transformation of Box and Muller (1958); float64 has 53 random bits a number, float32 31. Every
    operation is rounded as IEEE 754 says, so that the bits are the same with all instruction sets and on all machines.

    Args:
        out: contiguous, float32 or float64, on the CPU.
        vector_bytes: of the instruction set: 16, 32 or 64; the widest that the processor has unless given.
    """
    library = extension.load()
    assert not isinstance(library, str)
    normal = library.bnnpriors_normal_float if out.dtype == torch.float32 else library.bnnpriors_normal_double
    normal(
        vector_bytes or library.bnnpriors_vector_bytes(),
        seeds.data_ptr(),
        len(out),
        out.data_ptr(),
        out.shape[1],
    )


class Streams:
    """Independent generators, one a chain, drawn from in step.

    Args:
        seed: the run's seed, an integer from 0.
        keys: one (rung, chain within the rung) a chain.

    Attributes:
        seed, keys: as given. spare: a thread for `draw_ahead`, or None.
    """

    def __init__(
        self, seed: int, keys: Sequence[tuple[int, int]], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} given, expected an integer from 0")
        self.seed, self.keys = seed, list(keys)
        self.dtype, self.device = dtype, device
        self.spare: Executor | None = None
        self._dim: int | None = None
        self._minibatch: Minibatch | None = None
        self._ahead: _Ahead | _Rest | None = None
        self.generators = [_generator(np.random.SeedSequence(seed, spawn_key=key), device) for key in keys]

    def part(self, chains: slice) -> Streams:
        """The streams of some chains; they are the same generators, so drawing from the part advances the whole."""
        new = copy.copy(self)
        new.generators = self.generators[chains]
        return new

    def normal(self, dim: int) -> Float[Tensor, "chains dim"]:
        """Standard normal numbers; where they come from a counter, each call takes a seed for it from each chain's generator."""
        self._dim = dim
        if isinstance(self._ahead, _Ahead) and self._ahead.dim == dim:
            numbers, between, batch = self._ahead.drawn.result()
            wanted = self._ahead.minibatch
            self._ahead = None if wanted is None else _Rest(wanted, between, batch)
            return numbers
        self._take_back()
        return self._normal(dim)

    def minibatch(self, wanted: Minibatch) -> Any:
        """`wanted.rows` of fresh indices."""
        self._minibatch = wanted
        if isinstance(self._ahead, _Rest) and self._ahead.minibatch == wanted:
            batch, self._ahead = self._ahead.batch, None
            return batch
        return wanted.rows(self.integers(wanted.high, wanted.size))

    def draw_ahead(self) -> None:
        """Begin to draw the next `normal`, and the `minibatch` after it, like the last ones, in the thread of `spare` if any.

        The order of the numbers does not change: anything else that is drawn first takes them back.
        """
        if self.spare is not None and self._dim is not None and self._ahead is None:
            before = self.state()
            drawn = self.spare.submit(self._draw, self._dim, self._minibatch)
            self._ahead = _Ahead(self._dim, self._minibatch, before, drawn)

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
        return self._integers(high, count)

    def each(self, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """`draw(chain, generator)` of every chain, stacked: for numbers of any other law."""
        self._take_back()
        return torch.stack([draw(chain, g) for chain, g in enumerate(self.generators)])

    def state(self) -> Tensor:
        """All generator states, [chains, bytes]."""
        return self._states() if self._ahead is None else self._ahead.before

    def restore(self, state: Tensor) -> None:
        """Continue from `state()`. Each row is copied: torch's `set_state` crashes on a view with an offset."""
        if isinstance(self._ahead, _Ahead):
            self._ahead.drawn.result()
        self._ahead = None
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.clone())

    def _take_back(self) -> None:
        if self._ahead is not None:
            self.restore(self._ahead.before)

    def _states(self) -> Tensor:
        return torch.stack([g.get_state() for g in self.generators])

    def _draw(self, dim: int, minibatch: Minibatch | None) -> tuple[Tensor, Tensor, Any]:
        numbers, between = self._normal(dim), self._states()
        if minibatch is None:
            return numbers, between, None
        return numbers, between, minibatch.rows(self._integers(minibatch.high, minibatch.size))

    def _normal(self, dim: int) -> Tensor:
        out = torch.empty(len(self.generators), dim, dtype=self.dtype, device=self.device)
        if normal_source(self.dtype, self.device) == TORCH:
            for row, generator in zip(out, self.generators, strict=True):
                row.normal_(generator=generator)
            return out
        seeds = torch.empty(len(out), 2, dtype=torch.int64)
        for row, generator in zip(seeds, self.generators, strict=True):
            row.random_(generator=generator)
        fill_normal(out, seeds)
        return out

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.stack(
            [torch.randint(high, (count,), generator=g, device=self.device) for g in self.generators]
        )


def _generator(sequence: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """A generator of the sequence; on the CPU by all words of its Mersenne twister, as `manual_seed` uses 32 bits of a seed."""
    generator = torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
    if device.type == "cpu":
        words = np.random.MT19937(sequence).state["state"]["key"].astype(np.uint64)
        state = (
            generator.get_state()
        )  # seed, left, is seeded, next; 624 words in 8 bytes each; normal numbers kept
        state[24 : 24 + words.nbytes] = torch.from_numpy(words.view(np.uint8))
        generator.set_state(state)
    return generator
