"""Curvature of a log posterior at a point: the generalised Gauss–Newton matrix of the likelihood, the Hessian of the prior."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vmap

from ..batched import call_with_weights
from ..joint import LIKELIHOOD
from ..posterior import Posterior

_MAX_ELEMENTS = 2**22
"""Numbers of a Jacobian, or of rows of a Hessian, that are held at once."""


class Local:
    """A posterior around one point, as a function of some of its latents; all others keep their value.

    Args:
        posterior: of one temperature. theta: the point, [dim].
        chosen: indices of the latents, [size], in the order in which everything here has them.
    """

    def __init__(
        self, posterior: Posterior, theta: Float[Tensor, " dim"], chosen: Int[Tensor, " size"]
    ) -> None:
        self.posterior, self.theta, self.chosen = posterior, theta.detach(), chosen
        self._swaps = posterior.likelihood_swaps(posterior.layout.unpack(self.theta))
        self._part = self.theta[chosen]
        self._jacobians = vmap(jacrev(self._output, has_aux=True), in_dims=(None, 0))

    def blocks(self, x: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Slices of the examples with their outputs [batch, out] and Jacobians ∂f/∂θ [batch, out, size]."""
        width = int(self._output(self._part, x[0])[0].numel())
        rows = max(1, _MAX_ELEMENTS // (width * len(self.chosen)))
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            jacobian, outputs = self._jacobians(self._part, x[part])
            yield part, outputs, jacobian

    def likelihood_matrix(self) -> Float64[Tensor, "size size"]:
        """G = Σ_n J_nᵀ Λ_n J_n, Λ_n = −∂² log p(y_n | f)/∂f² (Martens 1412.1193, §8): the Hessian of −log p(y | θ) without the
        curvature of the network itself.
        """
        total = self.theta.new_zeros(2 * self.chosen.shape, dtype=torch.float64)
        for jacobian, curved in self._curved():
            total += jacobian.flatten(0, 1).double().mT @ curved.flatten(0, 1).double()
        return total

    def likelihood_diagonal(self) -> Float64[Tensor, " size"]:
        """The diagonal of G."""
        total = self.theta.new_zeros(self.chosen.shape, dtype=torch.float64)
        for jacobian, curved in self._curved():
            total += (jacobian * curved).sum((0, 1), dtype=torch.float64)
        return total

    def prior_matrix(self) -> Float64[Tensor, "size size"]:
        """−∂² log p(θ)/∂θ², of the latents, Jacobians of their transformations included."""
        return torch.cat([rows for _, rows in self._prior_rows()]).double()

    def prior_diagonal(self) -> Float64[Tensor, " size"]:
        """The diagonal of `prior_matrix`, a bounded number of rows at a time."""
        return torch.cat([rows[:, start:].diagonal() for start, rows in self._prior_rows()]).double()

    def _curved(self) -> Iterator[tuple[Tensor, Tensor]]:
        """J and ΛJ of blocks of the training set."""
        x, y = self.posterior.data.x, self.posterior.data.y
        assert x is not None
        assert y is not None
        shape = self.posterior.model(x[:1]).shape[1:]
        over_outputs = vmap(hessian(lambda f, target: self._loss(f.reshape(shape), target)))
        for part, outputs, jacobian in self.blocks(x):
            yield jacobian, over_outputs(outputs, y[part]) @ jacobian

    def _loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return -self.posterior.log_likelihood(self._swaps, outputs[None], y[None])[0]

    def _output(self, part: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs for one example, flat, twice: to be differentiated, and as they are."""
        weights, _ = self.posterior.weights(self._full(part))
        outputs = call_with_weights(self.posterior.model.net, weights, (x[None],))[0].flatten()
        return outputs, outputs

    def _prior_rows(self) -> Iterator[tuple[int, Tensor]]:
        gradient = grad(lambda part: -self.posterior.weights(self._full(part))[1])
        product = vmap(lambda direction: jvp(gradient, (self._part,), (direction,))[1])
        size = len(self.chosen)
        rows = max(1, _MAX_ELEMENTS // size)
        for start in range(0, size, rows):
            directions = self.theta.new_zeros(min(rows, size - start), size)
            directions[:, start:].fill_diagonal_(1.0)
            yield start, product(directions)

    def _full(self, part: Tensor) -> Tensor:
        return self.theta.index_copy(0, self.chosen, part)


def indices_of(posterior: Posterior, names: Sequence[str]) -> Int[Tensor, " size"]:
    """Where the numbers of these latents stand in the flat vector, in the order of the names."""
    places = posterior.layout.unpack(
        torch.arange(posterior.dim, dtype=torch.float64, device=posterior.device)
    )
    return torch.cat([places[name].flatten() for name in names]).long()


def chosen_indices(posterior: Posterior, latents: str) -> Int[Tensor, " size"]:
    """Where the chosen latents stand in the flat vector; never those of the likelihood.

    Args:
        latents: a glob over their names, or "last_layer".

    Raises:
        ValueError: it matches none.
    """
    names = [name for name in posterior.layout.names if not name.startswith(LIKELIHOOD)]
    pattern = latents
    if latents == "last_layer":
        last = next(reversed(posterior.model.sites[-1].members))
        pattern = last.rpartition(".")[0] + ".*"
    chosen = set(fnmatch.filter(names, pattern))
    if not chosen:
        raise ValueError(
            f"Laplace: latents {latents!r} given, which matches none of {', '.join(names)}; expected a glob over these, or "
            "'last_layer'"
        )
    return indices_of(posterior, [name for name in names if name in chosen])
