"""Potentials of many chains as traced, and where it pays compiled, programs over flat tensors.

A program is traced once with `make_fx` per shape of its inputs, forward and backward together, so a call has no autograd tape
and no functorch dispatch. Compiling it with inductor fuses the elementwise work and replaces tanh by a rational
function of float32 accuracy; its wrapper is C++ too, which holds no interpreter lock, so threads run it side by side.
Which of the two runs, how many chains go into one call, and how many threads share them, is the `Plan`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .tracing import trace

Potential = Callable[..., Tensor]
Share = Callable[[Callable[[int], tuple[Tensor, ...]], Sequence[int]], list[tuple[Tensor, ...]]]
VALUE, GRADIENT = "value", "gradient"


class Plan(NamedTuple):
    """How potentials are evaluated; part of what makes a run reproducible bit for bit.

    Attributes:
        chunk_size: chains in one call. block_size: examples in one call. compiled: whether inductor compiles the programs.
        workers: threads that share the chains; each then evaluates its own with single-threaded programs.
        onednn: whether matrix products use oneDNN in place of the BLAS.
        ahead: whether the only worker has single-threaded programs too, and a second thread to draw its noise beside them.
    """

    chunk_size: int
    block_size: int
    compiled: bool
    workers: int = 1
    onednn: bool = False
    ahead: bool = False

    @property
    def single_threaded(self) -> bool:
        """Whether operations run on one thread each."""
        return self.workers > 1 or self.ahead


class Batch(NamedTuple):
    """Examples [batch, ...] shared by all chains, or [chains, batch, ...] if `per_chain`.

    Attributes:
        noise: the random numbers of the examples' transformations, [chains, batch, copies, numbers]; None without any.
    """

    x: Tensor | None
    y: Tensor | None
    per_chain: bool
    noise: Tensor | None = None

    def rows(self, index: Int[Tensor, "chains batch"]) -> Batch:
        """Examples `index` of each chain, of those that all chains share; `index_select` is faster than `x[index]`."""
        assert self.x is not None
        assert self.y is not None
        x, y = (t.index_select(0, index.flatten()).view(*index.shape, *t.shape[1:]) for t in (self.x, self.y))
        return Batch(x, y, True)

    def part(self, chains: slice) -> Batch:
        """What belongs to some of the chains."""
        noise = None if self.noise is None else self.noise[chains]
        if not self.per_chain:
            return self._replace(noise=noise)
        assert self.x is not None
        assert self.y is not None
        return Batch(self.x[chains], self.y[chains], True, noise)


class Cache:
    """The programs of one posterior, shared by all plans, and the lock of its module.

    Tracing, and a call of what cannot be traced, swap the module's own parameters for a moment, so only one thread does either.
    """

    def __init__(self) -> None:
        self.programs: dict[Any, Callable[..., Any]] = {}
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[type[Cache], tuple[()]]:
        """Copies start empty: programs hold the tensors of the posterior that they were traced for."""
        return Cache, ()


class Programs:
    """Evaluates `potential(theta, prior_weight, x, y, noise, scale=, per_chain=, with_prior=) -> [chains]` by chunks and
    blocks."""

    def __init__(self, potential: Potential, plan: Plan, cache: Cache) -> None:
        self.plan = plan
        self._potential = potential
        self._cache = cache

    def evaluate(
        self,
        theta: Float[Tensor, "chains dim"],
        prior_weight: Tensor,
        batch: Batch,
        scale: float,
        wanted: tuple[str, ...],
        share: Share | None = None,
    ) -> tuple[Tensor, ...]:
        """What is wanted of `VALUE` (the potential, float64 [chains]) and `GRADIENT` ([chains, dim]), in the order given.

        `share` calls a function for each chunk, perhaps in several threads.
        """
        chains, size = theta.shape[0], self.plan.chunk_size
        if chains <= size:
            return self._blocks(theta, prior_weight, batch, scale, wanted)

        def chunk(start: int) -> tuple[Tensor, ...]:
            part = slice(start, start + size)
            return self._blocks(theta[part], prior_weight[part], batch.part(part), scale, wanted)

        starts = range(0, chains, size)
        pieces = [chunk(start) for start in starts] if share is None else share(chunk, starts)
        return tuple(torch.cat(column) for column in zip(*pieces, strict=True))

    def _blocks(
        self, theta: Tensor, prior_weight: Tensor, batch: Batch, scale: float, wanted: tuple[str, ...]
    ) -> tuple[Tensor, ...]:
        axis = 1 if batch.per_chain else 0
        length = 0 if batch.x is None else batch.x.shape[axis]
        if length <= self.plan.block_size:
            return self._call(theta, prior_weight, batch, scale, wanted, True)
        assert batch.x is not None
        assert batch.y is not None
        pieces: list[Tensor] = []
        for start in range(0, length, self.plan.block_size):
            size = min(self.plan.block_size, length - start)
            block = Batch(
                batch.x.narrow(axis, start, size),
                batch.y.narrow(axis, start, size),
                batch.per_chain,
                None if batch.noise is None else batch.noise.narrow(1, start, size),
            )
            found = self._call(theta, prior_weight, block, scale, wanted, start == 0)
            pieces = [a + b for a, b in zip(pieces, found, strict=True)] if pieces else list(found)
        return tuple(pieces)

    def _call(
        self,
        theta: Tensor,
        prior_weight: Tensor,
        batch: Batch,
        scale: float,
        wanted: tuple[str, ...],
        with_prior: bool,
    ) -> tuple[Tensor, ...]:
        shapes = tuple(None if t is None else tuple(t.shape) for t in (batch.x, batch.noise))
        built = (self.plan.compiled, self.plan.compiled and self.plan.single_threaded)
        key = (built, theta.shape[0], shapes, batch.per_chain, scale, wanted, with_prior)
        args = (theta, prior_weight, batch.x, batch.y, batch.noise)
        program = self._cache.programs.get(key)
        if program is None:
            with self._cache.lock:
                program = self._cache.programs.get(key) or self._build(
                    args, batch.per_chain, scale, wanted, with_prior
                )
                self._cache.programs[key] = program
        with torch.no_grad():
            return tuple(program(*args))

    def _build(
        self, args: tuple[Any, ...], per_chain: bool, scale: float, wanted: tuple[str, ...], with_prior: bool
    ) -> Callable[..., Any]:
        options = {"scale": scale, "per_chain": per_chain, "with_prior": with_prior}

        def function(
            theta: Tensor, weight: Tensor, x: Tensor | None, y: Tensor | None, noise: Tensor | None
        ) -> tuple[Tensor, ...]:
            if wanted == (VALUE,):
                return (self._potential(theta, weight, x, y, noise, **options),)

            def total(t: Tensor) -> tuple[Tensor, Tensor]:
                each = self._potential(t, weight, x, y, noise, **options)
                return each.sum(), each

            gradient, value = torch.func.grad(total, has_aux=True)(theta)
            found = {VALUE: value, GRADIENT: gradient}
            return tuple(found[name] for name in wanted)

        program = trace(function, args, compiled=self.plan.compiled)
        return program if program is not function else self._untraced(function, args[0].shape[0])

    def _untraced(self, function: Callable[..., Any], chains: int) -> Callable[..., Any]:
        def locked(*args: Any) -> Any:
            with self._cache.lock:
                try:
                    return function(*args)
                except RuntimeError as error:
                    if chains == 1:
                        raise
                    raise RuntimeError(
                        f"the network cannot be evaluated for {chains} chains at once: leave chunk_size out, or pass "
                        f"chunk_size=1 ({error})"
                    ) from error

        return locked
