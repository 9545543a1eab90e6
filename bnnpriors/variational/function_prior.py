"""Priors over the function values of a network: a Gaussian process, or what the priors of its weights imply."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.func import vmap

from ..counts import as_integer
from ..posterior import Posterior
from ..priors import Improper
from .gaussian import Gaussian


def function_values(
    posterior: Posterior, theta: Float[Tensor, "draws dim"], x: Shaped[Tensor, "points *shape"]
) -> Float[Tensor, "draws values"]:
    """f(X̃) of each draw in float64, the points of the first output first: values = outputs · points. With gradients."""
    weights, _ = vmap(posterior.weights)(theta)
    outputs = posterior.forward_for(x)(weights, x, False)
    return outputs.flatten(2).transpose(1, 2).flatten(1).double()


class ProcessPrior:
    """Independent Gaussian processes, one an output, of mean zero and with one kernel, whose hyperparameters stay as they are.

    Args:
        kernel: any GPyTorch kernel; `bp.infinite.kernel(model)` among them, which sees inputs as the module takes them.

    Raises:
        TypeError: no GPyTorch kernel. ValueError: one that cannot take the inputs.
    """

    def __init__(self, kernel: Any, posterior: Posterior) -> None:
        import gpytorch

        if not isinstance(kernel, gpytorch.kernels.Kernel):
            raise TypeError(
                f"FunctionSpace: prior {type(kernel).__name__} given, expected a gpytorch.kernels.Kernel, "
                "bp.infinite.kernel(model), or None for the prior that the network's weights imply"
            )
        self.kernel, self._outputs = kernel, _outputs(posterior)
        self.description = f"a Gaussian process with {type(kernel).__name__}"
        assert posterior.data.x is not None
        self.law(posterior.data.x[:1])

    @torch.no_grad()
    def law(self, x: Shaped[Tensor, "points *shape"]) -> Gaussian:
        """N(0, I ⊗ K), over values as in `function_values`."""
        from ..infinite.nngp import InfiniteWidthKernel

        if isinstance(self.kernel, InfiniteWidthKernel):
            matrix = self.kernel.gram(x.double())
        else:
            matrix = self.kernel(x.flatten(1).double()).to_dense().double()
        covariance = torch.block_diag(*[matrix] * self._outputs)
        return Gaussian(covariance.new_zeros(len(covariance)), covariance)


class NetworkPrior:
    """What the priors of the weights imply, known by draws of functions.

    Args:
        count: of draws of all latents, two at least. seed: of these.

    Raises:
        ValueError: fewer draws, or an improper prior, which has none.
    """

    def __init__(self, posterior: Posterior, count: int, seed: int) -> None:
        number = as_integer(count)
        if number is None or number < 2:
            raise ValueError(f"FunctionSpace: num_prior_draws {count} given, expected an integer from 2")
        for name, prior in posterior.model.named_priors().items():
            if isinstance(prior, Improper):
                raise ValueError(
                    f"FunctionSpace: {name} has an improper prior, which implies no law of functions; give it a proper one, or "
                    "prior=a GPyTorch kernel"
                )
        generator = torch.Generator(posterior.device).manual_seed(seed)
        self.theta = torch.stack([posterior.sample_prior(generator) for _ in range(number)])
        self._posterior = posterior
        self.description = f"the network's own, by {number} draws"

    @torch.no_grad()
    def values(self, x: Shaped[Tensor, "points *shape"]) -> Float[Tensor, "draws values"]:
        """f(X̃) of each draw."""
        parts = [function_values(self._posterior, part, x) for part in self.theta.split(100)]
        return torch.cat(parts)

    def law(self, x: Shaped[Tensor, "points *shape"]) -> Gaussian:
        """The normal law with the mean and covariance of the draws.

        Raises:
            ValueError: no more draws than values, so that the covariance is singular for want of draws.
        """
        values = self.values(x)
        if len(values) <= values.shape[1]:
            raise ValueError(
                f"FunctionSpace: num_prior_draws {len(values)} given for {values.shape[1]} function values, expected more "
                "draws than values: raise it, or take fewer measurement points"
            )
        return Gaussian(values.mean(0), values.mT.cov())


def _outputs(posterior: Posterior) -> int:
    """Numbers that the network returns for one input."""
    assert posterior.data.x is not None
    with torch.no_grad():
        return posterior.model(posterior.data.x[:1]).numel()
