"""Flipout: one draw of the weights for all examples, made different for each example by random signs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import vmap

from ..batched import call_with_weights
from ..posterior import Posterior

Signs = dict[str, tuple[Tensor, Tensor]]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Flipout:
    """Outputs of a network whose weights differ between examples: W_n = μ + (W − μ) ∘ r_n s_nᵀ, with W one draw and signs r_n and
    s_n for each example n (Wen et al. 1803.04386, eq. 4 and 5).

    Under independent latents whose law is symmetric about μ every W_n has the law of W, so that sums over examples
    have the expectations of a shared draw, and those of their gradients; but given a base draw the examples are uncorrelated, and
    a minibatch averages the noise of the weights away. It holds for a convolution as for a linear layer. The local
    reparametrisation (Kingma et al. 1506.02557) draws a linear layer's outputs instead, and for a convolution, whose positions
    share their weights, would be biased.

    Layers are all `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d` whose weights are latents themselves; others have
    the draw that is shared. A layer must see the examples in the first dimension of its input, or its draw is shared too.

    Raises:
        ValueError: no such layer, or a posterior without data.
    """

    def __init__(self, posterior: Posterior) -> None:
        if posterior.data.x is None:
            raise ValueError(
                "flipout: a posterior without data given, so no example can have signs of its own"
            )
        self._posterior = posterior
        net = posterior.model.net
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        latent = {name for site in posterior.model.sites if site.is_weight for name in site.members}
        self._layers: dict[str, tuple[nn.Module, str, str | None]] = {}
        for name, module in net.named_modules():
            if type(module) not in (nn.Linear, *CONVOLUTIONS) or names[id(module.weight)] not in latent:
                continue
            bias = None if module.bias is None else names[id(module.bias)]
            self._layers[name] = (module, names[id(module.weight)], bias if bias in latent else None)
        if not self._layers:
            raise ValueError(
                "flipout: the network has no Linear or Conv layer whose weights are latents themselves (a centred prior on the "
                "real line): leave flipout out"
            )

    def signs(self, draws: int, batch: int, generator: torch.Generator) -> Signs:
        """For each layer s [draws, batch, in] and r [draws, batch, out]."""
        found = {}
        for name, (module, _, _) in self._layers.items():
            weight: Any = module.weight
            groups = getattr(module, "groups", 1)
            found[name] = (
                self._sign((draws, batch, weight.shape[1] * groups), generator),
                self._sign((draws, batch, weight.shape[0]), generator),
            )
        return found

    def outputs(
        self,
        theta: Float[Tensor, "draws dim"],
        loc: Float[Tensor, " dim"],
        x: Shaped[Tensor, "batch *shape"],
        signs: Signs,
    ) -> Float[Tensor, "draws batch *out"]:
        """The network's outputs, with gradients in θ and μ = `loc`."""
        means = self._posterior.layout.unpack(loc)
        return vmap(self._one, in_dims=(0, None, None, 0))(theta, means, x, signs)

    def _one(self, theta: Tensor, means: Mapping[str, Tensor], x: Tensor, signs: Signs) -> Any:
        weights, _ = self._posterior.weights(theta)
        with self._flipped(means, signs, len(x)):
            return call_with_weights(self._posterior.model.net, weights, (x,))

    @contextmanager
    def _flipped(self, means: Mapping[str, Tensor], signs: Signs, batch: int) -> Iterator[None]:
        try:
            for name, (module, weight, bias) in self._layers.items():
                mean = (means[weight], None if bias is None else means[bias])
                module.forward = partial(_flipped_forward, module, mean, signs[name], batch)
            yield
        finally:
            for module, _, _ in self._layers.values():
                module.__dict__.pop("forward", None)

    def _sign(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        bits = torch.randint(2, shape, generator=generator, device=self._posterior.device)
        return (2 * bits - 1).to(self._posterior.dtype)


def _flipped_forward(
    module: Any, mean: tuple[Tensor, Tensor | None], signs: tuple[Tensor, Tensor], batch: int, h: Tensor
) -> Tensor:
    """The layer at μ, plus the signed rest; `module` holds the draw when it is called."""
    if len(h) != batch:
        return type(module).forward(module, h)
    inner = (1,) * (h.ndim - 2)
    place = (batch, *inner, -1) if isinstance(module, nn.Linear) else (batch, -1, *inner)
    s, r = (sign.reshape(place) for sign in signs)
    centre, bias_centre = mean
    fixed = module.bias if bias_centre is None else bias_centre
    found = _layer(module, h, centre, fixed) + r * _layer(module, s * h, module.weight - centre, None)
    if bias_centre is not None:
        found = found + r * (module.bias - bias_centre).reshape(place[1:])
    return found


def _layer(module: Any, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(module, nn.Linear):
        return F.linear(h, weight, bias)
    return module._conv_forward(h, weight, bias)
