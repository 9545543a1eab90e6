"""What a likelihood is: log p(y | outputs) for each example, and any latent parameters of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..layout import Layout
from ..priors import Prior
from ..priors.site import Site


class Likelihood(nn.Module):
    """Base class. A subclass sets `kind` and defines `log_prob`; a parameter with a prior is declared by `add_parameter`.

    A likelihood need not derive from this class: any object with `log_prob(outputs, y) -> [batch]` serves as one.
    `forward` is `log_prob`, so that `torch.func.functional_call` can put other latents in.
    """

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[Site] = []
        self._given: dict[str, float | Prior | Tensor] = {}

    def add_parameter(self, name: str, value: float | Prior) -> None:
        """Declare a scalar parameter: a positive number, or a prior, whose latent then is `self.<name>_latent`."""
        self._given[name] = value
        if isinstance(value, Prior):
            site = Site(name, value, ())
            self.sites.append(site)
            for part in site.walk():
                self.register_parameter(_latent(part.name), nn.Parameter(torch.zeros(part.latent_shape)))

    def parameter_value(self, name: str) -> float | Tensor:
        """The number given, or the value at the present latent."""
        given = self._given[name]
        return self.values()[0][name] if isinstance(given, Prior) else given

    def latents(self) -> dict[str, Tensor]:
        """Name -> unconstrained latent."""
        return {part.name: getattr(self, _latent(part.name)) for site in self.sites for part in site.walk()}

    @property
    def layout(self) -> Layout:
        """The order of the flat latents."""
        return Layout(tuple((name, tuple(value.shape)) for name, value in self.latents().items()))

    def values(self, latents: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Every latent parameter's value, and the log prior density of the latents (float64)."""
        given = self.latents() if latents is None else latents
        values: dict[str, Tensor] = {}
        total = torch.zeros((), dtype=torch.float64)
        for site in self.sites:
            total = total + site.evaluate(given, values)
        return values, total

    def log_prior(self) -> Float[Tensor, ""]:
        """log p of the present latents; zero where there are none."""
        return self.values()[1].to(torch.get_default_dtype())

    def sample_prior(self, like: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """One draw of the latents from their prior."""
        latents: dict[str, Tensor] = {name: value.detach().to(like) for name, value in self.latents().items()}
        for site in self.sites:
            site.sample(like, generator, latents)
        return latents

    def swaps(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The latents under the parameter names that `torch.func.functional_call` expects."""
        return {_latent(name): value for name, value in latents.items()}

    def at(self, values: Mapping[str, Tensor | float]) -> Likelihood:
        """The same likelihood with its parameters fixed at these values."""
        new = copy.copy(self)
        new.sites = []
        new._given = {**self._given, **values}
        return new

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """`log_prob`."""
        return self.log_prob(outputs, y)

    def log_prob(self, outputs: Float[Tensor, "batch *out"], y: Any) -> Float[Tensor, " batch"]:
        """log p(y_i | outputs_i) for each example of one draw."""
        raise NotImplementedError(
            f"{type(self).__name__} has no log_prob(outputs, y): define it in your class"
        )

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """`y` in the form that `log_prob` takes, checked once before any work. Raises ValueError for unfit targets."""
        return y

    def check(self, outputs_shape: tuple[int, ...], y: Tensor) -> None:
        """Raise ValueError where outputs of this shape cannot be judged against `y`."""


def _latent(name: str) -> str:
    return name.replace(".", "_") + "_latent"
