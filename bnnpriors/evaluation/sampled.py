"""`SamplePredictive`: the predictive distribution as an equal mixture over posterior draws.

p(y | x, data) ≈ (1/S) Σ_s p(y | f(x; θ_s), φ_s), with θ_s the weights of draw s and φ_s the likelihood's own
latents (for example the noise scale) of the same draw.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .bisection import bisect
from .per_draw import checked_latents, per_draw
from .predictive import Kind, Predictive

_MAX_ELEMENTS = 2**24  # draws × points × outputs held at once by an intermediate result


class SamplePredictive(Predictive):
    """Mixture over draws; made by `draws.predict(x)`.

    Args:
        outputs: what the network gives, [draws, batch, out] or [draws, batch, classes] (logits). The draws
            of all chains, chain after chain.
        likelihood: an object with `log_prob(outputs [batch, …], y) -> [batch]` and `kind`. Regression needs
            also `mean(outputs)` and `variance(outputs)`, both [batch, out]; `cdf`, `quantile`, `interval`
            and `sample` take the noise to be normal unless the likelihood has `cdf(outputs, y) -> [batch,
            out]`. Classification needs `log_probs(outputs) -> [batch, classes]`. A likelihood with nothing
            but `log_prob` still gives `log_prob`.
        latents: the likelihood's own unconstrained latents draw by draw, name -> [draws, *shape]. They take
            the place of its parameters, so the likelihood has to be an `nn.Module`.
        num_chains: the number of chains the draws come from; it has to divide their number.

    Raises `ValueError` for outputs that are not [draws, batch, …], or hold NaN or infinities, for latents
    that do not fit and for a number of chains that does not divide the draws; `TypeError` for a likelihood
    without the method asked for.

    All results are differentiable with respect to `outputs` and `latents`. Memory stays bounded: work goes
    over the batch in pieces.
    """

    def __init__(
        self,
        outputs: Float[Tensor, "draws batch *out"],
        likelihood: Any,
        latents: Mapping[str, Tensor] | None = None,
        num_chains: int = 1,
    ) -> None:
        self.outputs = outputs
        self.likelihood = likelihood
        self.num_chains = num_chains
        self._check()
        self.latents = checked_latents(likelihood, latents or {}, self.num_draws)

    @property
    def kind(self) -> Kind:
        kind = getattr(self.likelihood, "kind", None)
        if kind not in ("regression", "classification"):
            raise TypeError(
                f"likelihood {type(self.likelihood).__name__} has kind {kind!r}: set its attribute `kind` "
                "to 'regression' or 'classification'"
            )
        return kind

    @property
    def num_points(self) -> int:
        return self.outputs.shape[1]

    @property
    def num_draws(self) -> int:
        """The number of draws S, over all chains."""
        return self.outputs.shape[0]

    def log_prob(self, y: Shaped[Tensor, "batch *out"]) -> Float[Tensor, " batch"]:
        """log p(y) = logsumexp_s log p(y | draw s) − log S, never through the probabilities themselves.

        Clamped probabilities would report a miss of 30 nats as about −16, with a gradient of zero.
        """
        if hasattr(self.likelihood, "mean") or hasattr(self.likelihood, "log_probs"):
            y = self.targets(y)
        parts = [
            torch.logsumexp(self._per_draw("log_prob", outputs, y[piece]), 0)
            for piece, outputs in self._pieces()
        ]
        return torch.cat(parts) - math.log(self.num_draws)

    @property
    def mean(self) -> Float[Tensor, "batch out"]:
        return self._moments[0]

    @property
    def epistemic_variance(self) -> Float[Tensor, "batch out"]:
        return self._moments[1]

    @property
    def aleatoric_variance(self) -> Float[Tensor, "batch out"]:
        return self._moments[2]

    def cdf(self, y: Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        self._require("regression", "cdf")
        y = self.targets(y)
        return torch.cat([self._mixture_cdf(outputs)(y[piece]) for piece, outputs in self._pieces()])

    def cdf_by_chain(
        self, y: Float[Tensor, "values points out"], points: slice = slice(None)
    ) -> Float[Tensor, "chains values points out"]:
        """P(Y ≤ y) at some of the points for several y, under the draws of each chain. Regression only."""
        self._require("regression", "cdf_by_chain")
        each = self._cdf(self.outputs[:, points])
        chains = [each(value).unflatten(0, (self.num_chains, -1)).mean(1) for value in y]
        return torch.stack(chains, dim=1)

    def quantile(self, probability: float | Float[Tensor, "batch out"]) -> Float[Tensor, "batch out"]:
        """The inverse of the mixture's `cdf`, by bisection. Raises `ValueError` for probabilities outside
        (0, 1).
        """
        self._require("regression", "quantile")
        centre = self.mean.detach()
        goal = torch.as_tensor(probability).to(centre).expand_as(centre)
        if not ((goal > 0) & (goal < 1)).all():
            raise ValueError("probability: expected values strictly between 0 and 1")
        width = self.variance.detach().sqrt()
        width = torch.where(torch.isfinite(width) & (width > 0), width, torch.ones_like(width))
        with torch.no_grad():
            parts = [
                bisect(self._mixture_cdf(outputs), goal[piece], centre[piece], width[piece])
                for piece, outputs in self._pieces()
            ]
        return torch.cat(parts)

    @cached_property
    def log_probs(self) -> Float[Tensor, "batch classes"]:
        """log p_c = logsumexp_s log p_c(draw s) − log S. Classification only."""
        return self._class_figures[0]

    @property
    def aleatoric_entropy(self) -> Float[Tensor, " batch"]:
        return self._class_figures[1]

    def sample(self, num_samples: int, *, generator: torch.Generator) -> Shaped[Tensor, "samples batch *out"]:
        """New observations, [samples, batch, out] (regression) or [samples, batch] class indices.

        Each sample takes one draw for all inputs, so the samples of a regression are coherent functions plus
        noise.
        """
        device = self.outputs.device
        picks = torch.randint(self.num_draws, (num_samples,), generator=generator, device=generator.device)
        chosen = self.take(picks.to(device))
        if self.kind == "classification":
            probs = chosen._per_draw("log_probs", chosen.outputs).exp().to(generator.device)
            labels = torch.multinomial(probs.flatten(0, 1), 1, generator=generator)
            return labels.view(probs.shape[:2]).to(device)
        means = chosen._per_draw("mean", chosen.outputs)
        like: dict[str, Any] = {"dtype": means.dtype, "generator": generator, "device": generator.device}
        if not hasattr(self.likelihood, "cdf"):
            noise = torch.randn(means.shape, **like).to(device)
            return means + chosen._per_draw("variance", chosen.outputs).sqrt() * noise
        tiny = torch.finfo(means.dtype).eps
        uniform = torch.rand(means.shape, **like).clamp(tiny, 1 - tiny).to(device)
        return torch.stack([chosen.take(slice(i, i + 1)).quantile(u) for i, u in enumerate(uniform)])

    def outputs_by_chain(self) -> Float[Tensor, "chains draws_per_chain batch *out"]:
        """The outputs, with the draws split into their chains."""
        return self.outputs.unflatten(0, (self.num_chains, -1))

    def predictions_by_chain(
        self, points: Tensor | slice = slice(None)
    ) -> Float[Tensor, "chains draws_per_chain batch out"]:
        """What each draw predicts at some of the points: E[y | draw], or the draw's class probabilities."""
        outputs = self.outputs[:, points]
        if self.kind == "regression":
            return self._per_draw("mean", outputs).unflatten(0, (self.num_chains, -1))
        return self._per_draw("log_probs", outputs).exp().unflatten(0, (self.num_chains, -1))

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor, Tensor]:
        self._require("regression", "mean and variance")
        parts = []
        for _, outputs in self._pieces():
            means = self._per_draw("mean", outputs)
            parts.append(
                (means.mean(0), means.var(0, correction=0), self._per_draw("variance", outputs).mean(0))
            )
        mean, epistemic, aleatoric = (torch.cat(part) for part in zip(*parts, strict=True))
        return mean, epistemic, aleatoric

    @cached_property
    def _class_figures(self) -> tuple[Tensor, Tensor]:
        self._require("classification", "log_probs and aleatoric_entropy")
        parts = []
        for _, outputs in self._pieces():
            log_probs = self._per_draw("log_probs", outputs)
            entropy = torch.special.entr(log_probs.exp()).sum(-1).mean(0)
            parts.append((torch.logsumexp(log_probs, 0) - math.log(self.num_draws), entropy))
        log_probs, entropy = (torch.cat(part) for part in zip(*parts, strict=True))
        return log_probs, entropy

    def _per_draw(self, method: str, outputs: Tensor, *shared: Tensor) -> Tensor:
        return per_draw(self.likelihood, method, self.latents, outputs, *shared)

    def _mixture_cdf(self, outputs: Tensor) -> Callable[[Tensor], Tensor]:
        each = self._cdf(outputs)
        return lambda y: each(y).mean(0)

    def _cdf(self, outputs: Tensor) -> Callable[[Tensor], Tensor]:
        """y [batch, out] -> P(Y ≤ y | draw), [draws, batch, out]."""
        if hasattr(self.likelihood, "cdf"):
            return lambda y: self._per_draw("cdf", outputs, y)
        means = self._per_draw("mean", outputs)
        scales = self._per_draw("variance", outputs).sqrt().clamp(min=torch.finfo(means.dtype).tiny)
        return lambda y: torch.special.ndtr((y - means) / scales)

    def _pieces(self) -> Iterator[tuple[slice, Tensor]]:
        size = max(1, _MAX_ELEMENTS // max(1, self.num_draws * math.prod(self.outputs.shape[2:])))
        for start in range(0, max(1, self.num_points), size):
            piece = slice(start, start + size)
            yield piece, self.outputs[:, piece]

    def take(self, index: Tensor | slice) -> "SamplePredictive":
        """The mixture over some of the draws, as one chain."""
        latents = {name: value[index] for name, value in self.latents.items()}
        return SamplePredictive(self.outputs[index], self.likelihood, latents)

    def _require(self, kind: Kind, name: str) -> None:
        if self.kind != kind:
            raise TypeError(f"{name}: defined for {kind} only, and this likelihood is for {self.kind}")

    def _check(self) -> None:
        shape = tuple(self.outputs.shape)
        if self.outputs.ndim < 3 or shape[0] == 0:
            classes = getattr(self.likelihood, "kind", None) == "classification"
            name, last = ("logits", "classes") if classes else ("outputs", "outputs")
            raise ValueError(f"{name} {shape}: expected (draws, batch, {last}) — use draws.predict(x)")
        broken = (~torch.isfinite(self.outputs)).flatten(1).any(1).nonzero().flatten().tolist()
        if broken:
            raise ValueError(
                f"outputs of {len(broken)} of {shape[0]} draws hold NaN or infinite values (first: "
                f"{broken[:5]}): the chain diverged; sample again with a smaller step_size, or leave those "
                "draws out"
            )
        if self.num_chains < 1 or shape[0] % self.num_chains:
            raise ValueError(f"num_chains {self.num_chains}: expected a divisor of the {shape[0]} draws")
