"""The chains of one temperature, which share what is estimated from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class Rungs:
    """Chains by their temperature: one rung a temperature, in any order.

    A matrix that the chains of a rung share is kept in a state, whose tensors all have the chains first, by rows: each chain
    has its share of them, [chains, rows, dim], so that it takes the memory of one matrix a rung. `deal` and `gather` go there
    and back.

    Args:
        block: chains whose rows are multiplied in one product, so that more of them in a rung change no bit.

    Attributes:
        members: indices of the chains of each rung. temperatures: of each rung.
    """

    def __init__(self, temperature: Float[Tensor, " chains"], block: int | None = None) -> None:
        self._block = block
        places: dict[float, list[int]] = {}
        for chain, value in enumerate(temperature.tolist()):
            places.setdefault(value, []).append(chain)
        lists, self.temperatures = list(places.values()), list(places)
        self.count, self.chains = len(lists), len(temperature)
        self.members = [torch.tensor(each, device=temperature.device) for each in lists]
        self._smallest = min(map(len, lists))
        in_order = [chain for each in lists for chain in each] == list(range(self.chains))
        self._even = in_order and self._smallest * self.count == self.chains

    @property
    def smallest(self) -> int:
        """Chains of the rung that has the fewest."""
        return self._smallest

    def sum(self, values: Float[Tensor, "chains *rest"]) -> Float[Tensor, "chains *rest"]:
        """Sums over the chains of each rung, for each chain that of its own."""
        out = torch.empty_like(values)
        for members in self.members:
            out[members] = values[members].sum(0)
        return out

    def mean(self, values: Float[Tensor, "chains *rest"]) -> Float[Tensor, "chains *rest"]:
        """Means over the chains of each rung, for each chain that of its own."""
        return self.sum(values) / self.sum(torch.ones_like(values))

    def multiply(
        self, rows: Float[Tensor, "chains dim"], matrices: Float[Tensor, "rungs dim dim"]
    ) -> Float[Tensor, "chains dim"]:
        """xᵀA, x a chain's row and A the matrix of its rung."""
        return self._by_rung(torch.matmul, rows, matrices)

    def divide(
        self, rows: Float[Tensor, "chains dim"], lower: Float[Tensor, "rungs dim dim"]
    ) -> Float[Tensor, "chains dim"]:
        """xᵀA⁻¹, A lower triangular."""

        def solve(some: Tensor, matrix: Tensor) -> Tensor:
            return torch.linalg.solve_triangular(matrix, some, upper=False, left=False)

        return self._by_rung(solve, rows, lower)

    def _by_rung(
        self, function: Callable[[Tensor, Tensor], Tensor], rows: Tensor, matrices: Tensor
    ) -> Tensor:
        if self._even:
            each = rows.view(self.count, -1, rows.shape[1])
            return torch.cat([self._blocks(function, *pair) for pair in zip(each, matrices, strict=True)])
        out = torch.empty_like(rows)
        for members, matrix in zip(self.members, matrices, strict=True):
            out[members] = self._blocks(function, rows[members], matrix)
        return out

    def _blocks(self, function: Callable[[Tensor, Tensor], Tensor], rows: Tensor, matrix: Tensor) -> Tensor:
        if self._block is None or self._block >= len(rows):
            return function(rows, matrix)
        return torch.cat([function(some, matrix) for some in rows.split(self._block)])

    def deal(self, matrices: Float[Tensor, "rungs dim dim"]) -> Float[Tensor, "chains rows dim"]:
        """Each chain's share of the rows of its rung's matrix."""
        dim = matrices.shape[1]
        rows = -(-dim // self._smallest)
        out = matrices.new_zeros(self.chains, rows, dim)
        for members, matrix in zip(self.members, matrices, strict=True):
            padded = matrix.new_zeros(len(members) * rows, dim)
            padded[:dim] = matrix
            out[members] = padded.view(len(members), rows, dim)
        return out

    def gather(self, shares: Float[Tensor, "chains rows dim"]) -> Float[Tensor, "rungs dim dim"]:
        """The inverse of `deal`; without a copy where the chains are rung after rung."""
        dim = shares.shape[2]
        if self._even:
            return shares.view(self.count, -1, dim)[:, :dim]
        return torch.stack([shares[members].reshape(-1, dim)[:dim] for members in self.members])


def deal_anew(shares: Sequence[tuple[Rungs, Tensor]], rungs: Rungs) -> Float[Tensor, "chains rows dim"]:
    """Matrices that were dealt to other chains, dealt to these."""
    found: dict[float, Tensor] = {}
    for others, dealt in shares:
        found |= dict(zip(others.temperatures, others.gather(dealt), strict=True))
    return rungs.deal(torch.stack([found[temperature] for temperature in rungs.temperatures]))
