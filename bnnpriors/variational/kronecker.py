"""Kronecker-factored curvature of linear and convolutional layers, computed by laplace-torch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..likelihoods import Categorical, Gaussian
from ..posterior import Posterior
from ..priors import Normal
from .curvature import indices_of
from .precision import Precision

ROWS = 1024
"""Examples whose factors are computed at once."""


class Kronecker(Precision):
    """P = Σ over batches of A ⊗ B, layer by layer (Ritter et al. 2018), plus the precision of the prior.

    Args:
        posterior: Gaussian or Categorical likelihood; Normal priors of fixed scale, one for each tensor, on Linear layers and
            convolutions. theta: the maximum.
        noise: σ of a Gaussian likelihood, 1 otherwise.

    Raises:
        ImportError: no laplace-torch. ValueError: another prior or likelihood, or a layer that has no factors.
    """

    def __init__(self, posterior: Posterior, theta: Float[Tensor, " dim"], noise: float) -> None:
        library = _library()
        weight = float(posterior.prior_weight(torch.tensor(posterior.temperatures))[0])
        temperature = posterior.temperatures[0]
        precisions = _prior_precisions(posterior)
        kind = _kind(posterior)
        net = posterior.model.export(posterior.layout.unpack(theta))
        order = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
        made = library.KronLaplace(
            net,
            kind,
            sigma_noise=noise,
            prior_precision=torch.tensor([precisions[name] for name in order]) * weight / temperature,
            temperature=temperature,
        )
        x, y = posterior.data.x, posterior.data.y
        assert x is not None
        assert y is not None
        made.fit(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=ROWS))
        self._made = made
        # where the library's numbers, in the order of the module's parameters, stand among the latents
        self._order = indices_of(posterior, order)
        self.log_det = float(made.log_det_posterior_precision)

    @staticmethod
    def check(posterior: Posterior, latents: str) -> None:
        """Raise what the constructor would, before any fit."""
        if latents != "*":
            raise ValueError(
                f"Laplace: structure='kron' given with latents {latents!r}, expected '*': factors are those of all layers; use "
                "'full' or 'diag'"
            )
        _library()
        _kind(posterior)
        _check_layers(posterior.model.net, list(_prior_precisions(posterior)))

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws size"]:
        """P^(−½) ε."""
        pushed = self._made.posterior_precision.bmm(noise[:, self._order], exponent=-0.5)
        return torch.empty_like(noise).index_copy(1, self._order, pushed.reshape(noise.shape))

    def variances(self, rows: Float[Tensor, "batch out size"]) -> Float[Tensor, "batch out"]:
        """See `Precision`."""
        return self._made.functional_variance(rows[..., self._order]).diagonal(dim1=1, dim2=2)


def _library() -> Any:
    try:
        import laplace
    except ImportError as error:
        raise ImportError(
            f"Laplace: structure='kron' needs laplace-torch, which cannot be imported ({error}): pip install "
            "'bnnpriors[laplace]', or use structure 'full' or 'diag'"
        ) from error
    return laplace


def _kind(posterior: Posterior) -> str:
    for kind, family in (("regression", Gaussian), ("classification", Categorical)):
        if isinstance(posterior.likelihood, family):
            return kind
    raise ValueError(
        f"Laplace: structure='kron' given with the likelihood {type(posterior.likelihood).__name__}, expected Gaussian or "
        "Categorical; use structure 'full' or 'diag'"
    )


def _prior_precisions(posterior: Posterior) -> dict[str, float]:
    """1/scale² of each tensor."""
    found = {}
    for site in posterior.model.sites:
        prior = site.prior
        scale = prior.scale if type(prior) is Normal and site.is_weight and not site.is_joint else None
        if not isinstance(scale, (int, float)):
            raise ValueError(
                f"Laplace: structure='kron' given with the prior {prior!r} of {site.name}, expected a centred Normal whose scale "
                "is a number or a rule; use structure 'full' or 'diag'"
            )
        found[site.name] = 1 / scale**2
    return found


def _check_layers(net: nn.Module, names: list[str]) -> None:
    for name in names:
        layer = net.get_submodule(name.rpartition(".")[0])
        if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            raise ValueError(
                f"Laplace: structure='kron' given with {name} of a {type(layer).__name__}, expected Linear layers and "
                "convolutions; use structure 'full' or 'diag'"
            )
