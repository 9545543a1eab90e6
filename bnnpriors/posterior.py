"""The tempered log density over flat latents, batched over chains: the one place where prior, likelihood, N and T meet.

U(θ) = −log p(y | x, θ) − log p(θ), summed over all N data, and the target is exp(−U(θ)/T) (Wenzel et al. 2002.02405: likelihood
and prior are tempered). `tempering="likelihood"` targets p(y | x, θ)^{1/T} p(θ) instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.func import vmap

from .counts import as_integer
from .joint import Joint, as_tensor
from .likelihoods import Likelihood
from .module import BayesianModule
from .planning import default_plan
from .programs import Batch, Cache, Plan, Programs
from .target import Target

__all__ = ["Posterior", "Target", "Temperatures"]

Temperatures = float | Sequence[float] | np.generic | np.ndarray | Tensor


class Posterior(Joint):
    """A model, a likelihood and data.

    Args:
        model: from `bp.attach`.
        likelihood: any object with `log_prob(outputs, y) -> [batch]`; None with `x` None for the prior alone.
        x: inputs [N, ...], tensor or array. y: targets [N, ...]. Both are copied: later changes to them change nothing here.
        temperature: T > 0, or a sequence, array or tensor of them: a ladder with one group of chains a rung.
        batch_size: examples in a minibatch of the stochastic samplers, drawn for each chain and step on its own, uniformly with
            replacement; None for the full data.
        tempering: "posterior" or "likelihood" (see above).

    Raises:
        ValueError: shapes that do not fit, data that are NaN or infinite in the model's dtype, labels out of range, T ≤ 0,
            batch_size out of range. TypeError: a network that returns anything but one tensor.
    """

    def __init__(
        self,
        model: BayesianModule,
        likelihood: Any = None,
        x: Any = None,
        y: Any = None,
        *,
        temperature: Temperatures = 1.0,
        batch_size: int | None = None,
        tempering: str = "posterior",
    ) -> None:
        super().__init__(model, likelihood)
        self.temperatures = _temperatures(temperature)
        if tempering not in ("posterior", "likelihood"):
            raise ValueError(
                f"Posterior: tempering {tempering!r} given, expected 'posterior' or 'likelihood'"
            )
        self.tempering = tempering
        self.is_ladder = not _is_number(temperature)
        self._programs: dict[Plan, Programs] = {}
        self._cache = Cache()
        self.data = self._prepare(x, y)
        self.num_data = 0 if self.data.x is None else len(self.data.x)
        count = as_integer(batch_size)
        if batch_size is not None and (count is None or not 0 < count <= self.num_data):
            raise ValueError(
                f"Posterior: batch_size {batch_size!r} given, expected 1 to {self.num_data} (the number of data)"
            )
        self.batch_size = None if count == self.num_data else count

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_programs": {}}

    def target(self, num_chains: int, plan: Plan | None = None) -> Target:
        """What samplers see: the potential of `num_chains` chains, split evenly over the rungs in order."""
        if num_chains % len(self.temperatures):
            raise ValueError(
                f"{num_chains} chains given for {len(self.temperatures)} temperatures: expected a multiple, "
                "one group of chains a temperature"
            )
        repeats = num_chains // len(self.temperatures)
        temperature = torch.tensor(self.temperatures, dtype=self.dtype, device=self.device).repeat_interleave(
            repeats
        )
        return Target(self, temperature, plan or default_plan(self, num_chains))

    def programs(self, plan: Plan) -> Programs:
        """The programs of a plan; kept, so that a second run on this posterior traces and compiles nothing again."""
        if plan not in self._programs:
            if self.data.x is not None:
                self.forward_for(
                    self.data.x
                )  # chosen here, on real tensors and not while a program is traced
            self._programs[plan] = Programs(self.potential, plan, self._cache)
        return self._programs[plan]

    def log_density(self, theta: Float[Tensor, "chains dim"]) -> Float64[Tensor, " chains"]:
        """−U(θ)/T of each chain, on the full data; unnormalised."""
        theta = torch.as_tensor(theta)
        if theta.ndim != 2 or theta.shape[1] != self.dim:
            raise ValueError(f"log_density: theta {tuple(theta.shape)} given, expected (chains, {self.dim})")
        if theta.dtype != self.dtype:
            raise ValueError(f"log_density: theta of {theta.dtype} given, expected the model's {self.dtype}")
        if theta.requires_grad:
            weight = self.prior_weight(self.target(len(theta)).temperature)
            x, y = self.data.x, self.data.y
            self.refuse_random("log_density")
            value = self.potential(theta, weight, x, y, None, scale=1.0, per_chain=False, with_prior=True)
            return -value / self.target(len(theta)).temperature.double()
        target = self.target(len(theta))
        return -target.potential(theta) / target.temperature.double()

    def prior_weight(self, temperature: Tensor) -> Tensor:
        """What multiplies −log p(θ) in the potential: 1, or T where the likelihood alone is tempered."""
        return torch.ones_like(temperature) if self.tempering == "posterior" else temperature

    def potential(
        self,
        theta: Float[Tensor, "chains dim"],
        prior_weight: Float[Tensor, " chains"],
        x: Tensor | None,
        y: Tensor | None,
        noise: Tensor | None,
        *,
        scale: float,
        per_chain: bool,
        with_prior: bool,
    ) -> Float64[Tensor, " chains"]:
        """U = −scale · Σ_batch log p(y|x,θ) − prior_weight · log p(θ); `scale` is N/B on a minibatch.

        Copies of an example under an augmented likelihood are averaged within it, so N stays the number of data.
        """
        latents = self.layout.unpack(theta)
        weights, log_prior = vmap(self.weights)(theta)
        total = -prior_weight * log_prior if with_prior else torch.zeros_like(log_prior)
        if x is None:
            return total
        forward = self.forward_for(x[0] if per_chain else x)
        if self.augmented is None:
            outputs = forward(weights, x, per_chain)
        else:
            outputs = forward(weights, *self.copies(x, noise, per_chain))
            outputs = outputs.unflatten(1, (x.shape[1] if per_chain else x.shape[0], -1))
        own = self.likelihood_swaps(latents)
        each = vmap(self.log_likelihood, in_dims=(0, 0, 0 if per_chain else None))(own, outputs, y)
        return total - scale * each.flatten(1).sum(1, dtype=torch.float64)

    @property
    def is_random(self) -> bool:
        """Whether the likelihood's transformations are drawn anew at each step, so that its density has noise."""
        return self.augmented is not None and self.augmented.is_random

    def noise(
        self, x: Tensor, num_chains: int, generator: torch.Generator
    ) -> Float[Tensor, "chains batch copies numbers"] | None:
        """The random numbers of each chain's transformations of the examples x; None where they are not random."""
        if self.augmented is None or not self.is_random:
            return None
        return torch.stack([self.augmented.noise(x, generator) for _ in range(num_chains)])  # type: ignore[misc]

    def refuse_random(self, who: str) -> None:
        """Raise ValueError, with what to do, where the density has noise."""
        if self.is_random:
            raise ValueError(
                f"{who} needs the exact potential, and Augmented(..., orbit='full') draws new transformations each time: its "
                "potential is random, and a Metropolis test on it would not be exact. Average over a finite orbit, such as "
                "Augmented(base, bp.transforms.FlipGroup(), orbit='finite'), or freeze the draws: "
                "Augmented(base, bp.transforms.Frozen(transform, num_samples=8), orbit='finite'); or use a sampler without a "
                "test, such as SGHMC, or GGMC with steps_per_test=None"
            )

    def _prepare(self, x: Any, y: Any) -> Batch:
        if (x is None) != (y is None) or (x is None) != (self.likelihood is None):
            raise ValueError(
                "Posterior: give likelihood, x and y together, or none of them for the prior alone"
            )
        if x is None:
            return Batch(None, None, False)
        x, y = self.prepare_inputs(x, copy=True), as_tensor(y).to(self.device, copy=True)
        if len(x) != len(y) or not len(x):
            raise ValueError(
                f"Posterior: {len(x)} inputs and {len(y)} targets given, expected the same number, at least one"
            )
        if isinstance(self.likelihood, Likelihood):
            y = self.likelihood.prepare(y, self.dtype)
        if y.is_floating_point() and not y.isfinite().all():
            bad = int((~y.isfinite()).flatten(1).any(1).sum() if y.ndim > 1 else (~y.isfinite()).sum())
            raise ValueError(
                f"Posterior: {bad} of {len(y)} targets are NaN or infinite in {y.dtype}; remove, impute or rescale them"
            )
        with torch.no_grad():
            try:
                outputs, again, first = self.model(x[:16]), self.model(x[:16]), self.model(x[:1])
            except RuntimeError as error:
                raise ValueError(
                    f"Posterior: the model cannot take inputs of shape (batch, {', '.join(map(str, x.shape[1:]))}): {error}"
                ) from error
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"Posterior: the model returns a {type(outputs).__name__}, expected one tensor [batch, ...]: wrap it in a module "
                "whose forward returns the tensor that the likelihood is about"
            )
        if not torch.equal(outputs, again) or not torch.allclose(outputs[:1], first, rtol=1e-3, atol=1e-4):
            raise ValueError(
                "Posterior: the model's output is random, or depends on the rest of the batch, so it defines no density: "
                "call net.eval() before attach, or remove dropout and batch statistics"
            )
        if isinstance(self.likelihood, Likelihood):
            self.likelihood.check((len(x), *outputs.shape[1:]), y)
        if self.augmented is not None:
            self.augmented.check_inputs(x[:2])
            outputs = outputs[:, None]
        with torch.no_grad():
            each = tuple(self.likelihood.log_prob(outputs[:2], y[:2]).shape)
        if each != (len(x[:2]),):
            raise ValueError(
                f"Posterior: the likelihood's log_prob returned shape {each} for outputs {tuple(outputs[:2].shape)} and targets "
                f"{tuple(y[:2].shape)}, expected ({len(x[:2])},): one number an example"
            )
        return Batch(x, y, False)


def _is_number(given: Temperatures) -> bool:
    return isinstance(given, (int, float)) or getattr(given, "ndim", None) == 0


def _temperatures(given: Temperatures) -> tuple[float, ...]:
    values = (float(given),) if _is_number(given) else tuple(float(t) for t in given)  # type: ignore[arg-type, union-attr]
    if not values or not all(t > 0 and math.isfinite(t) for t in values):
        raise ValueError(f"Posterior: temperature {given} given, expected positive finite numbers")
    if len(set(values)) != len(values):
        raise ValueError(
            f"Posterior: temperature {given} given, expected each value once; raise num_chains for more chains a rung"
        )
    return values
