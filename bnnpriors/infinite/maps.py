"""What a kernel needs to know of each input by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Maps:
    """What depends on one input alone, computed once for each.

    Attributes:
        variances: node -> v before a nonlinearity, [inputs, *positions].
        means: node -> the mean of a channel, [inputs, *positions]; for terms of sums that both have one.
        nngp, ntk: K(x, x) and Θ(x, x), [inputs]; no Θ unless it is asked for.
    """

    variances: dict[int, Tensor] = field(default_factory=dict)
    means: dict[int, Tensor] = field(default_factory=dict)
    nngp: Tensor = field(default_factory=lambda: torch.empty(0))
    ntk: Tensor | None = None

    def select(self, rows: slice) -> Maps:
        """The maps of some inputs."""
        return Maps(
            {number: value[rows] for number, value in self.variances.items()},
            {number: value[rows] for number, value in self.means.items()},
            self.nngp[rows],
            None if self.ntk is None else self.ntk[rows],
        )

    @staticmethod
    def join(parts: Sequence[Maps]) -> Maps:
        """The maps of all inputs, from those of consecutive ones."""
        ntk = [part.ntk for part in parts if part.ntk is not None]
        return Maps(
            {number: torch.cat([part.variances[number] for part in parts]) for number in parts[0].variances},
            {number: torch.cat([part.means[number] for part in parts]) for number in parts[0].means},
            torch.cat([part.nngp for part in parts]),
            torch.cat(ntk) if ntk else None,
        )
