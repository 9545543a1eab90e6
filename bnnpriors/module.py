"""`attach`: a torch module and priors on its parameters become one model whose parameters are the latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .batched import call_with_weights
from .layout import Layout
from .matching import Match, match
from .priors import Prior
from .priors.site import Site

PREFIX = "net."


class BayesianModule(nn.Module):
    """A module with a prior on every trainable parameter; made by `attach`.

    The wrapped module keeps its class and its `state_dict` keys, and this module's `state_dict` has the same keys, plus
    `hyper.*` for hyperparameters. Its parameters are the latents: the weight itself for a centred prior on the real line;
    an unconstrained value that `forward` transforms otherwise (non-centred or constrained priors), so call the model and not the
    module inside. `weights()` gives the weights themselves in every case.
    """

    def __init__(self, net: nn.Module, sites: list[Site]) -> None:
        super().__init__()
        self.net = net
        self.hyper = nn.ParameterDict()
        self.sites = sites
        self.register_state_dict_post_hook(_drop_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)
        self._initialise()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped module's output at the present latents."""
        if all(site.is_weight for site in self.sites):
            return self.net(*args, **kwargs)
        return call_with_weights(self.net, self.weights(), args, kwargs)

    @property
    def layout(self) -> Layout:
        """The order of the flat latents: the module's parameters, then the hyperparameters."""
        return Layout(tuple((name, tuple(value.shape)) for name, value in self.latents().items()))

    def latents(self) -> dict[str, nn.Parameter]:
        """Name -> the parameter that holds the latent. A hyperparameter is named `parameter.attribute`."""
        own = {name: self.net.get_parameter(name) for site in self.sites for name in site.members}
        return own | {part.name: self.hyper[_key(part.name)] for site in self.sites for part in _above(site)}

    def values(
        self, latents: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Float[Tensor, ""]]:
        """Every weight and hyperparameter by name, and the log prior density of the latents that give them (float64)."""
        given: Mapping[str, Tensor] = self.latents() if latents is None else latents
        values: dict[str, Tensor] = {}
        total: Tensor | float = 0.0
        for site in self.sites:
            total = total + site.evaluate(given, values)
        if not isinstance(total, Tensor):
            total = torch.zeros((), dtype=torch.float64)
        return values, total

    def weights(self, latents: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The value of each parameter under a prior, by name."""
        values, _ = self.values(latents)
        return {name: values[name] for site in self.sites for name in site.members}

    def log_prior(self, latents: Mapping[str, Tensor] | None = None) -> Float[Tensor, ""]:
        """log p(latents), summed; hyperpriors and Jacobians included."""
        values, total = self.values(latents)
        return total.to(next(iter(values.values())).dtype) if values else total

    def named_priors(self) -> dict[str, Prior]:
        """Parameter name -> its prior, scale rules resolved; a joint prior stands under each of its parameters."""
        return {name: site.prior for site in self.sites for name in site.members}

    def sample_prior(self, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """One draw of all latents from the prior, by name. Parameters with an improper prior keep their present value."""
        latents: dict[str, Tensor] = {name: value.detach() for name, value in self.latents().items()}
        for site in self.sites:
            site.sample(latents[next(iter(site.members))], generator, latents)
        return latents

    @torch.no_grad()
    def sample_prior_(self, generator: torch.Generator | None = None) -> BayesianModule:
        """Set the latents to a draw from the prior."""
        return self.set_latents_(self.sample_prior(generator))

    @torch.no_grad()
    def set_latents_(self, latents: Mapping[str, Tensor]) -> BayesianModule:
        """Copy latents into the parameters."""
        for name, parameter in self.latents().items():
            parameter.copy_(latents[name])
        return self

    def export(self, latents: Mapping[str, Tensor] | None = None) -> nn.Module:
        """A plain copy of the wrapped module that holds the weights themselves."""
        net = copy.deepcopy(self.net)
        with torch.no_grad():
            for name, value in self.weights(latents).items():
                net.get_parameter(name).copy_(value)
        return net

    def to_pyro(self, likelihood: Any = None) -> Callable[..., Any]:
        """A Pyro model `f(x=None, y=None)` with the same density, for Pyro's own inference; see `bnnpriors.pyro_bridge`."""
        from .pyro_bridge import pyro_model

        return pyro_model(self, likelihood)

    def train(self, mode: bool = True) -> BayesianModule:
        """Set the mode; batch normalisation stays on its frozen statistics and dropout stays off."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BATCH_NORM) or _is_dropout(module):
                module.eval()
        return self

    @torch.no_grad()
    def _initialise(self) -> None:
        """Latents that keep the module's weights; a draw from the prior where a weight is outside the prior's support."""
        generators: dict[torch.device, torch.Generator] = {}
        latents: dict[str, Tensor] = {}
        for site in self.sites:
            parameters = {name: self.net.get_parameter(name) for name in site.members}
            like = next(iter(parameters.values())).detach()
            generator = generators.setdefault(like.device, torch.Generator(like.device).manual_seed(0))
            for part in _above(site):
                latents[part.name] = like.new_zeros(part.latent_shape)
            value = site.join({name: p.detach().clone() for name, p in parameters.items()})
            latent = site.latent_of(value, latents)
            if latent is None:
                site.sample(like, generator, latents)
            else:
                latents.update(site.split(latent))
            for part in _above(site):
                self.hyper[_key(part.name)] = nn.Parameter(latents[part.name])
            for name, parameter in parameters.items():
                parameter.copy_(latents[name])


_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def _is_dropout(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


def attach(net: nn.Module, priors: Mapping[str, object] | object) -> BayesianModule:
    """Put priors on the parameters of any torch module.

    Args:
        net: the module. It is used in place, not copied; its class and `state_dict` keys stay as they are.
            Tied parameters count once.
        priors: one prior for everything, or {glob pattern over parameter names: prior}; the first match wins. A prior is a
            `bp.priors.Prior` or any torch/Pyro distribution. A tuple of patterns as the key puts one joint prior on all
            parameters that match any of them: on the vector of their elements, in the module's order. Parameters with
            `requires_grad=False` keep their value, and `Fixed()` sets that.

    Raises:
        TypeError: `net` is no module, or a prior is none. ValueError: a parameter matches no pattern, a
            pattern matches no parameter, or batch normalisation or dropout is in training mode.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"attach: {type(net).__name__} given, expected a torch.nn.Module")
    if isinstance(net, BayesianModule):
        raise TypeError("attach: this module has priors already; attach to the plain module (model.net)")
    _refuse_stochastic(net)
    shared: dict[str, Site] = {}
    return BayesianModule(net, [_site(found, shared) for found in match(net, priors)])


def _site(found: Match, shared: dict[str, Site]) -> Site:
    shapes = {name: tuple(parameter.shape) for name, parameter in found.parameters.items()}
    shape = (sum(map(math.prod, shapes.values())),) if found.is_joint else shapes[found.name]
    try:
        site = Site(found.name, found.prior, shape, members=shapes, shared=shared)
    except ValueError as error:
        raise ValueError(f"attach: {found.name} {shape}: {error}") from error
    if site.latent_shape != site.shape:
        raise ValueError(
            f"attach: {site.name}: {found.prior!r} has latents of shape {site.latent_shape} for a parameter of shape {shape}, "
            "and a module's parameter cannot change its shape; use a prior whose support is a product of intervals"
        )
    return site


def _refuse_stochastic(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, _BATCH_NORM) and (module.training or not module.track_running_stats):
            raise ValueError(
                f"attach: {name or 'the module'} is {type(module).__name__} in training mode, where one "
                f"example's output depends on "
                "the rest of its batch, so there is no likelihood to sample from. Use GroupNorm or a "
                "FilterResponseNorm, or freeze "
                "its statistics with net.eval() before attach"
            )
        if _is_dropout(module) and module.training:
            raise ValueError(
                f"attach: {name or 'the module'} is {type(module).__name__} in training mode, which makes the density random. "
                "Call net.eval() before attach, or remove it"
            )


def _above(site: Site) -> list[Site]:
    """The hyperparameters of a tensor that no earlier tensor holds."""
    return list(site.walk())[1:]


def _key(name: str) -> str:
    return name.replace(".", "/")


def _drop_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    old = prefix + PREFIX
    renamed = {prefix + k[len(old) :]: state.pop(k) for k in list(state) if k.startswith(old)}
    state.update(renamed)


def _add_prefix(module: BayesianModule, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {f"{prefix}hyper.{key}" for key in module.hyper}
    renamed = {
        prefix + PREFIX + k[len(prefix) :]: state.pop(k)
        for k in list(state)
        if k.startswith(prefix) and k not in own
    }
    state.update(renamed)
