"""Where an optimizer's noise comes from."""

from __future__ import annotations

import gc
import warnings
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ..counts import as_integer
from ..streams import Streams

_LIVING: WeakSet[Noise] = WeakSet()


class Noise:
    """The streams of one chain: one for each device and dtype of its parameters.

    Args:
        owner: whose noise it is, for messages. seed: an integer from 0, or None for one drawn from torch's global generator.
        chain: which of the independent chains of the seed, from 0.

    Raises:
        ValueError: a seed or chain that is no integer from 0.
    """

    def __init__(self, owner: str, seed: int | None, chain: int) -> None:
        self.owner = owner
        drawn = int(torch.randint(2**62, (), device="cpu")) if seed is None else as_integer(seed)
        number = as_integer(chain)
        for name, given, found in (("seed", seed, drawn), ("chain", chain, number)):
            if found is None or found < 0:
                raise ValueError(f"{owner}: {name} {given!r} given, expected an integer from 0")
        assert drawn is not None
        assert number is not None
        self.seed, self.chain = drawn, number
        # a tensor is the state of streams that were not used since a restore
        self._streams: dict[str, Streams | Tensor] = {}

    def streams(self, parameter: Tensor) -> Streams:
        """Those of the parameter's device and dtype; the first are those of the chain of `bp.sample` with this seed."""
        key = place_of(parameter)
        held = self._streams.get(key)
        if isinstance(held, Streams):
            return held
        rung = len(self._streams) if held is None else list(self._streams).index(key)
        streams = Streams(self.seed, [(rung, self.chain)], dtype=parameter.dtype, device=parameter.device)
        if held is not None:
            streams.restore(held.cpu())
        elif not self._streams:
            self._warn_of_twins()
        self._streams[key] = streams
        return streams

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        generators = {k: s.state() if isinstance(s, Streams) else s for k, s in self._streams.items()}
        return {"seed": self.seed, "chain": self.chain, "generators": generators}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.seed, self.chain, self._streams = state["seed"], state["chain"], dict(state["generators"])

    def _warn_of_twins(self) -> None:
        if self._twins():
            gc.collect()  # optimizers that nobody has any more may lie in cycles with their schedulers
        if twins := self._twins():
            warnings.warn(
                f"{self.owner}: another optimizer ({twins[0].owner}) has seed {self.seed} and chain {self.chain} too, so both "
                "draw the same noise and are no independent chains. Leave seed out, or give each a chain= of its own",
                stacklevel=6,
            )
        _LIVING.add(self)

    def _twins(self) -> list[Noise]:
        return [n for n in _LIVING if n is not self and (n.seed, n.chain) == (self.seed, self.chain)]


def place_of(parameter: Tensor) -> str:
    """Device and dtype, which what is updated together shares."""
    return f"{parameter.device} {parameter.dtype}"
