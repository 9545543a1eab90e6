"""Mixtures: each weight comes from one of several priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from .base import Parameter, Prior, as_prior, draw, substitute
from .constrained import Dirichlet
from .hierarchy import broadcasts
from .location_scale import Normal

Weights = Sequence[float] | Tensor | Prior | torch.distributions.Distribution


class Mixture(Prior):
    """One component per weight: log p(w) = log Σ_k π_k p_k(w). Variance Σ π_k E_k[w²] − (Σ π_k E_k[w])².

    Args:
        components: the priors p_k, elementwise, on one support; their parameters may have hyperpriors.
        weights: π, positive numbers that sum to one; None for equal ones; or a prior on the simplex, such as `Dirichlet(1.0)`.
        selection: "weight"; or "tensor" for one component per tensor, log p(w) = log Σ_k π_k Π_i p_k(w_i), an unusual meaning.

    Raises:
        ValueError: fewer than two components, different supports, a non-centred component, weights that do not fit.
    """

    def __init__(
        self,
        components: Sequence[Prior | torch.distributions.Distribution],
        weights: Weights | None = None,
        *,
        selection: str = "weight",
    ) -> None:
        self.components = tuple(as_prior(component) for component in components)
        self.weights = _probabilities(weights, len(self.components))
        self.selection = selection
        if selection not in ("weight", "tensor"):
            raise ValueError(f"Mixture: selection {selection!r} given, expected 'weight' or 'tensor'")
        if len(self.components) < 2:
            raise ValueError(f"Mixture: {len(self.components)} components given, expected two or more")
        for part in self.components:
            if not part.centred:
                raise ValueError(
                    f"Mixture: the component {part!r} is non-centred, but a mixed weight has no latent z of one component's own; "
                    "use centred=True"
                )
            if part.support is not self.components[0].support:
                raise ValueError(
                    f"Mixture: components on different supports given, {self.components[0]!r} and {part!r}; expected one support"
                )
            if part.extent != "tensor" or part.shared_as:
                raise ValueError(
                    f"Mixture: the component {part!r} has per() or shared(), which belong on a hyperprior"
                )

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        """The components' own."""
        return self.components[0].support

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where a component does not fit the shape."""
        for component in self.components:
            component.check_shape(shape)
        if isinstance(self.weights, Tensor) and not broadcasts(tuple(self.weights.shape[:-1]), shape):
            raise ValueError(
                f"Mixture: weights of shape {tuple(self.weights.shape)} given, expected one set of weights or dimensions that "
                f"broadcast to the parameter's {tuple(shape)} before the last"
            )

    def parameter_shape(self, name: str, grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """[..., K] for the weights; a component's own for its parameters."""
        if name != "weights":
            _, index, own = name.split(".", 2)
            return self.components[int(index)].parameter_shape(own, grid, shape)
        if self.selection == "tensor" and grid:
            raise ValueError(
                "Mixture: weights .per(...) given with selection='tensor', expected weights for the whole tensor"
            )
        return (*grid, len(self.components))

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
        """Log density, elementwise; a scalar for `selection="tensor"`. Raises ValueError if a component's is not elementwise."""
        each = [component.log_prob(w) for component in self.components]
        if self.selection == "tensor":
            each = [value.sum() for value in each]
        elif any(value.shape != w.shape for value in each):
            raise ValueError(
                f"{self!r}: a component's log_prob has shapes {[tuple(value.shape) for value in each]} for a tensor "
                f"{tuple(w.shape)}, expected elementwise ones; selection='tensor' takes others"
            )
        log_weights = self._weights(w).log()
        return _log_sum_exp([value + log_weights[..., k] for k, value in enumerate(each)])

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A draw of every component and, for each weight, the choice of one of them."""
        like = torch.empty((), dtype=dtype, device=device or (generator.device if generator else None))
        draws = torch.stack([draw(component, shape, like, generator) for component in self.components], -1)
        places = shape if self.selection == "weight" else (1,) * len(shape)
        uniform = torch.empty(places, dtype=torch.float64, device=like.device).uniform_(generator=generator)
        ends = self._weights(uniform).cumsum(-1)[..., :-1]
        chosen = (uniform[..., None] >= ends).sum(-1, keepdim=True)
        return draws.gather(-1, chosen.expand(*shape, 1))[..., 0]

    def mean(self) -> float | Tensor:
        """Σ π_k E_k[w]."""
        return sum(p * part.mean() for p, part in zip(self._expected_weights(), self.components, strict=True))

    def variance(self) -> float | Tensor:
        """Σ π_k E_k[w²] − E[w]²; infinite where a component's is."""
        parts = list(zip(self._expected_weights(), self.components, strict=True))
        if any(bool((torch.as_tensor(part.variance()) == math.inf).any()) for _, part in parts):
            return math.inf
        mean = self.mean()
        return sum(p * (part.variance() + part.mean() ** 2) for p, part in parts) - mean * mean

    def _weights(self, like: Tensor) -> Tensor:
        if isinstance(self.weights, Prior):
            raise TypeError(
                f"{self!r}: weights have a prior, so the density of w alone is not defined. Attach it to a module (bp.attach)"
            )
        return self.weights.to(like)

    def _expected_weights(self) -> list[float | Tensor]:
        count = len(self.components)
        if not isinstance(self.weights, Prior):
            return [
                self.weights[..., k] if self.weights.ndim > 1 else float(self.weights[k])
                for k in range(count)
            ]
        if isinstance(self.weights, Dirichlet) and not isinstance(self.weights.concentration, Tensor):
            return [1 / count] * count
        mean = self.weights.mean()
        assert isinstance(mean, Tensor)
        return [mean[..., k] for k in range(count)]


class ScaleMixture(Mixture):
    """Normals of several scales: log p(w) = log Σ_k π_k N(w; 0, scale_k²), with two scales a continuous spike and slab, such as
    `ScaleMixture((0.01, 1.0), (0.9, 0.1))`. Variance Σ π_k scale_k².

    Args:
        scales: positive numbers, rules or priors. weights, selection: as for `Mixture`.
        centred: `False` makes w divided by the largest scale the latent, so that a sampler sees latents of one size whatever the
            fan-in; the scales are then numbers or rules.

    Raises:
        ValueError: as for `Mixture`, and for `centred=False` with a scale that has a prior or is a tensor.
    """

    def __init__(
        self,
        scales: Sequence[Parameter],
        weights: Weights | None = None,
        *,
        selection: str = "weight",
        centred: bool = True,
    ) -> None:
        super().__init__([Normal(0.0, scale) for scale in scales], weights, selection=selection)
        self.centred = centred
        if not centred and any(isinstance(scale, (Prior, Tensor)) for scale in self._scales()):
            raise ValueError(
                f"ScaleMixture: centred=False given with scales {list(scales)}, expected numbers or rules: the latent is w "
                "divided by the largest of them; use centred=True"
            )

    def standard(self) -> Prior:
        """The mixture with every scale divided by the largest: the prior of the latent of the non-centred form."""
        widest = self._widest()
        scales = {f"components.{k}.scale": scale / widest for k, scale in enumerate(self._scales())}
        return substitute(self, {"centred": True, **scales})

    def from_standard(self, z: Tensor) -> Tensor:
        """w = max_k scale_k · z."""
        return self._widest() * z

    def to_standard(self, w: Tensor) -> Tensor:
        """z = w / max_k scale_k."""
        return w / self._widest()

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
        """Log density, as for `Mixture`.

        Where the scales are numbers, with the largest s₀ and c_k = log π_k/s_k: c₀ − w²/(2s₀²) − log √(2π) +
        log(1 + Σ_k exp(c_k − c₀ − w²/2 · (1/s_k² − 1/s₀²))).
        """
        scales = self._scales()
        if self.selection == "tensor" or not all(isinstance(scale, (int, float)) for scale in scales):
            return super().log_prob(w)
        square, widest = w * w, max(range(len(scales)), key=scales.__getitem__)
        log_factors = self._weights(w).log() - w.new_tensor(scales).log()
        base = log_factors[..., widest]
        others = [
            torch.add(
                log_factors[..., k] - base, square, alpha=-0.5 * (scale**-2 - scales[widest] ** -2)
            ).exp()
            for k, scale in enumerate(scales)
            if k != widest
        ]
        tail = torch.add(torch.log1p(reduce(torch.add, others)), square, alpha=-0.5 * scales[widest] ** -2)
        return tail + (base - 0.5 * math.log(2 * math.pi))

    def _scales(self) -> list[Any]:
        return [vars(component)["scale"] for component in self.components]

    def _widest(self) -> float:
        """The largest scale, once rules are numbers."""
        return float(max(self._scales()))


def _log_sum_exp(terms: list[Tensor]) -> Tensor:
    """log Σ_k e^(term_k); faster than `torch.logaddexp` on a CPU, and without a copy of the terms as `torch.logsumexp` needs."""
    largest = reduce(torch.maximum, [term.detach() for term in terms])
    largest = largest.clamp_min(torch.finfo(largest.dtype).min)
    return largest + reduce(torch.add, [(term - largest).exp() for term in terms]).log()


def _probabilities(given: Weights | None, count: int) -> Tensor | Prior:
    if given is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    if isinstance(given, (Prior, torch.distributions.Distribution)):
        prior = as_prior(given)
        if prior.support is not constraints.simplex:
            raise ValueError(
                f"Mixture: weights have the prior {prior!r}, expected one on probabilities, such as Dirichlet(1.0)"
            )
        return prior
    weights = torch.as_tensor(given, dtype=torch.float64)
    if not weights.ndim or weights.shape[-1] != count:
        raise ValueError(
            f"Mixture: weights of shape {tuple(weights.shape)} given for {count} components, expected (..., {count})"
        )
    if not (weights > 0).all() or not torch.allclose(weights.sum(-1), torch.ones(()).double(), atol=1e-6):
        raise ValueError(f"Mixture: weights {given} given, expected positive numbers that sum to one")
    return weights
