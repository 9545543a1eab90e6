"""A model and a likelihood as one joint over flat latents: what every posterior and every store of draws shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor
from torch.func import functional_call, vmap

from .batched import Forward, forward_for
from .layout import Layout
from .likelihoods import Augmented, Likelihood
from .module import BayesianModule
from .priors.flat_runs import flat_runs

LIKELIHOOD = "likelihood."


class Joint:
    """Latents of a model and of its likelihood in one flat vector: the model's first, then the
    likelihood's, named `likelihood.*`."""

    def __init__(self, model: BayesianModule, likelihood: Any = None) -> None:
        if not isinstance(model, BayesianModule):
            raise TypeError(
                f"{type(model).__name__} given as model, expected the result of bp.attach(net, priors)"
            )
        if not model.sites:
            raise ValueError("every parameter of the model is frozen or Fixed(): there is nothing to sample")
        self.model, self.likelihood = model, likelihood
        self.augmented = likelihood if isinstance(likelihood, Augmented) else None
        own = likelihood.layout.shapes if _is_ours(likelihood) else ()
        self._own_names = {LIKELIHOOD + name: name for name, _ in own}
        if taken := sorted(set(model.layout.names) & set(self._own_names)):
            raise ValueError(
                f"the network and the likelihood both have a parameter {taken[0]!r}, expected different names: rename the "
                f"network's submodule 'likelihood'"
            )
        self.layout = Layout(model.layout.shapes + tuple((LIKELIHOOD + name, shape) for name, shape in own))
        self._like = next(iter(model.latents().values())).detach()
        self._forwards: dict[tuple[int, ...], Forward] = {}
        self._runs, self._in_runs = flat_runs(model.sites)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_forwards": {}}  # programs belong to this object and are built again

    @property
    def dim(self) -> int:
        """D, the number of latents."""
        return self.layout.dim

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of latents and data."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Where latents and data live."""
        return self._like.device

    def sample_prior(self, generator: torch.Generator | None = None) -> Float[Tensor, " dim"]:
        """One flat draw of all latents from the prior."""
        latents = self.model.sample_prior(generator)
        if _is_ours(self.likelihood):
            own = self.likelihood.sample_prior(self._like, generator)
            latents |= {LIKELIHOOD + name: value for name, value in own.items()}
        return self.layout.pack(latents)

    def current(self) -> Float[Tensor, " dim"]:
        """The model's and likelihood's present latents, flat."""
        latents: dict[str, Tensor] = dict(self.model.latents())
        if _is_ours(self.likelihood):
            latents |= {
                LIKELIHOOD + name: value.to(self._like) for name, value in self.likelihood.latents().items()
            }
        return self.layout.pack(latents).detach().clone()

    def values(self, theta: Float[Tensor, " dim"], names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Weights, hyperparameters and likelihood parameters (`likelihood.*`) of one draw, by name: all, or `names` alone."""
        wanted = self.layout.names if names is None else names
        latents = self.layout.unpack(theta)
        values: dict[str, Tensor] = {}
        for site in self.model.sites:
            held = {part.name for part in site.walk()} | set(site.members)
            if not held.isdisjoint(wanted):
                site.evaluate(latents, values)
        if not set(self._own_names).isdisjoint(wanted):
            own, _ = self.likelihood.values(self._own(latents))
            values |= {LIKELIHOOD + name: value for name, value in own.items()}
        return {name: values[name] for name in wanted}

    def weights(self, theta: Float[Tensor, " dim"]) -> tuple[dict[str, Tensor], Float64[Tensor, ""]]:
        """The network's weights at one flat vector of latents, and the log prior density of all latents."""
        latents = self.layout.unpack(theta)
        values: dict[str, Tensor] = {}
        terms = [prior.log_prob(theta[part]).sum(dtype=torch.float64) for part, prior in self._runs]
        for site in self.model.sites:
            if site.name in self._in_runs:
                values[site.name] = latents[site.name]
            else:
                terms.append(site.evaluate(latents, values))
        if self._own_names:
            terms.append(self.likelihood.values(self._own(latents))[1])
        weights = {name: values[name] for site in self.model.sites for name in site.members}
        return weights, sum(terms[1:], terms[0])

    def log_likelihood(self, swaps: Mapping[str, Tensor], outputs: Tensor, y: Tensor | None) -> Tensor:
        """log p(y | outputs) of each example, with the likelihood's own latents as `likelihood_swaps` gives them."""
        if swaps:
            return functional_call(self.likelihood, dict(swaps), (outputs, y))
        return self.likelihood.log_prob(outputs, y)

    def likelihood_swaps(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The likelihood's own latents under the parameter names that `functional_call(likelihood, ...)` expects."""
        return self.likelihood.swaps(self._own(latents)) if self._own_names else {}

    def likelihood_log_prior(self, theta: Float[Tensor, " dim"]) -> Float64[Tensor, ""]:
        """The log prior density of the likelihood's own latents; they are the last of θ. Zero where there are none."""
        if not self._own_names:
            return torch.zeros((), dtype=torch.float64, device=theta.device)
        return self.likelihood.values(self._own(self.layout.unpack(theta)))[1]

    def _own(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {short: latents[name] for name, short in self._own_names.items()}

    def forward_for(self, x: Tensor) -> Forward:
        """The program that evaluates the network for all chains on inputs like `x`."""
        shape = tuple(x.shape[1:])
        if shape not in self._forwards:
            self._forwards[shape] = forward_for(self.model.net, x)
        return self._forwards[shape]

    @property
    def test_likelihood(self) -> Any:
        """What judges `outputs`: the likelihood, or of an augmented one that of its average in predictions."""
        return self.likelihood if self.augmented is None else self.augmented.at_test()

    def copies(
        self, x: Tensor, noise: Tensor | None, per_chain: bool
    ) -> tuple[Shaped[Tensor, "*chains rows *one"], bool]:
        """Every transformation of every example, example after example, and whether each chain has its own."""
        assert self.augmented is not None
        if noise is None:
            found = self.augmented.copies(x.flatten(0, 1) if per_chain else x, None)
            return (found.view(len(x), -1, *x.shape[2:]) if per_chain else found.flatten(0, 1)), per_chain
        chains, batch = noise.shape[:2]
        images = x if per_chain else x.expand(chains, *x.shape)
        found = self.augmented.copies(images.flatten(0, 1), noise.flatten(0, 1))
        return found.view(chains, batch * noise.shape[2], *images.shape[2:]), True

    @torch.no_grad()
    def outputs(self, theta: Float[Tensor, "draws dim"], x: Any) -> Float[Tensor, "draws batch *out"]:
        """The network's outputs for each draw, a bounded number of draws and examples at a time.

        With an augmented likelihood they are [draws, batch, copies, *out], of transformations that all draws share, or in less
        room what `test_likelihood` takes for the same.

        Raises:
            ValueError: inputs that the network does not take, or that are NaN or infinite.
        """
        x = self.prepare_inputs(x)
        try:
            self.model(x[:1])
        except RuntimeError as error:
            shape = f"(batch, {', '.join(map(str, x.shape[1:]))})"
            raise ValueError(f"predict: the model cannot take inputs of shape {shape}: {error}") from error
        if self.augmented is not None:
            return self._averaged_outputs(theta, x)
        forward = self.forward_for(x)
        rows = []
        for part in theta.split(16):
            weights, _ = vmap(self.weights)(part)
            rows.append(torch.cat([forward(weights, block, False) for block in x.split(2048)], dim=1))
        return torch.cat(rows)

    def _averaged_outputs(self, theta: Float[Tensor, "draws dim"], x: Tensor) -> Tensor:
        assert self.augmented is not None
        self.augmented.check_inputs(x[:1])
        forward, judge = self.forward_for(x), self.augmented.at_test()
        generator = self.augmented.test_generator(x.device)
        columns = []
        for block in x.split(max(1, 2048 // self.augmented.num_test_samples)):
            copies = self.augmented.copies(block, self.augmented.noise(block, generator, test=True))
            rows = []
            for part in theta.split(16):
                weights, _ = vmap(self.weights)(part)
                found = forward(weights, copies.flatten(0, 1), False)
                rows.append(judge.reduced(found.unflatten(1, copies.shape[:2])))
            columns.append(torch.cat(rows))
        return torch.cat(columns, dim=1)

    def prepare_inputs(self, x: Any, *, copy: bool = False) -> Tensor:
        """Inputs as a tensor on the model's device, floating ones in its dtype. Raises ValueError for NaN or infinity.

        Args:
            copy: whether the result must not share memory with `x`.
        """
        x = as_tensor(x)
        x = x.to(self.device, self.dtype if x.is_floating_point() else x.dtype, copy=copy)
        if x.is_floating_point() and not (finite := x.isfinite()).all():
            rows = int((~finite).flatten(1).any(1).sum() if x.ndim > 1 else (~finite).sum())
            raise ValueError(
                f"inputs: {rows} of {len(x)} examples hold NaN or infinite values; remove or impute them"
            )
        return x


def _is_ours(likelihood: Any) -> bool:
    return isinstance(likelihood, Likelihood)


def as_tensor(value: Any) -> Tensor:
    """A tensor without gradient, from a tensor or anything numpy takes."""
    return value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.ascontiguousarray(value))
