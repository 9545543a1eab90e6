"""Methods that fit one law of the weights: mean-field, low-rank and function-space inference, and Laplace approximations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import variational
from ..posterior import Posterior
from ..variational import GaussianFit
from ..variational.ascent import change
from .base import Fitted, Method, NotApplicableError
from .infinite import InfiniteWidth

MAX_VALUES = 5000
"""Function values at most, where all training inputs are measurement points of `FunctionSpace`."""


class _Gaussian(Method):
    """A Gaussian family in weight space."""

    num_steps: int
    learning_rate: float
    num_draws: int
    scale: float
    num_predictive: int

    @abstractmethod
    def _family(self, posterior: Posterior, seed: int) -> GaussianFit: ...

    def check(self, posterior: Posterior) -> None:
        """The family can be made."""
        self._family(posterior, 0)

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Climb the bound; its value, how much it rose in the last fifth, and k̂ come with it."""
        fit = self._family(posterior, seed).fit(
            num_steps=self.num_steps, learning_rate=self.learning_rate, num_draws=self.num_draws, seed=seed
        )
        figures = {"bound": fit.bound().value, "khat": fit.pareto_k(), "rise": change(fit.history)[0]}
        return Fitted(partial(fit.predict, num_draws=self.num_predictive), figures)


@dataclass(frozen=True)
class MeanField(_Gaussian):
    """`variational.MeanField`.

    Args:
        num_steps, learning_rate, num_draws: as for its `fit`. scale: of its start. num_predictive: draws of the predictive.
    """

    num_steps: int = 4000
    learning_rate: float = 0.01
    num_draws: int = 8
    scale: float = 0.05
    num_predictive: int = 500

    def _family(self, posterior: Posterior, seed: int) -> GaussianFit:
        return variational.MeanField(posterior, scale=self.scale, seed=seed)


@dataclass(frozen=True)
class LowRank(_Gaussian):
    """`variational.LowRank`.

    Args:
        rank: of the correlations. Others as for `MeanField`.
    """

    rank: int = 10
    num_steps: int = 4000
    learning_rate: float = 0.01
    num_draws: int = 8
    scale: float = 0.05
    num_predictive: int = 500

    def _family(self, posterior: Posterior, seed: int) -> GaussianFit:
        return variational.LowRank(posterior, rank=self.rank, scale=self.scale, seed=seed)


@dataclass(frozen=True)
class FunctionSpace(Method):
    """`variational.FunctionSpace` with a mean-field q.

    Args:
        prior: of functions: the Gaussian process of `InfiniteWidth`, perhaps with what it learns, or None for what the priors of
            the weights imply.
        num_points: training inputs, drawn anew at every step, that are the measurement points; None for all of them (up to
            5,000 values), without which the objective is no bound. Far fewer than training inputs let q over-fit.
        jitter, estimator: as there. num_steps, learning_rate, num_draws: as for its `fit`. num_predictive: as for `MeanField`.
    """

    prior: InfiniteWidth | None = None
    num_points: int | None = None
    jitter: float = 0.01
    estimator: str = "closed form"
    num_steps: int = 2000
    learning_rate: float = 0.01
    num_draws: int = 8
    num_predictive: int = 500

    def check(self, posterior: Posterior) -> None:
        """The prior has its limit, there are as many training inputs as measurement points, and their values have a matrix."""
        if self.num_points is not None and not 1 <= self.num_points <= posterior.num_data:
            raise ValueError(
                f"FunctionSpace: num_points {self.num_points} given, expected 1 to {posterior.num_data}, or None for all"
            )
        x = posterior.data.x
        assert x is not None
        values = len(x) * posterior.model(x[:1]).numel()
        if self.num_points is None and values > MAX_VALUES:
            raise ValueError(
                f"FunctionSpace: num_points None given for {values} function values at all {len(x)} training inputs, expected "
                f"{MAX_VALUES} at most, whose covariances are a matrix: give num_points, as many as you can afford"
            )
        if self.prior is not None:
            self.prior.check(posterior)

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Climb the objective; with it come its value, the jitter, and whether all training inputs are measured (1 or 0)."""
        x = posterior.data.x
        assert x is not None

        def drawn(generator: torch.Generator) -> Tensor:
            return x[torch.randperm(len(x), generator=generator, device=x.device)[: self.num_points]]

        fit = variational.FunctionSpace(
            posterior,
            jitter=self.jitter,
            prior=None if self.prior is None else self.prior.kernel(posterior, seed),
            measurement="training" if self.num_points in (None, len(x)) else drawn,
            estimator=self.estimator,
            seed=seed,
        )
        fit.fit(
            num_steps=self.num_steps, learning_rate=self.learning_rate, num_draws=self.num_draws, seed=seed
        )
        figures = {
            "objective": fit.bound().value,
            "is_bound": float(fit.is_bound),
            "rise": change(fit.history)[0],
            "jitter": self.jitter,
        }
        return Fitted(partial(fit.predict, num_draws=self.num_predictive), figures)


@dataclass(frozen=True)
class Laplace(Method):
    """`variational.Laplace`.

    Args:
        structure, latents: as there. num_steps, learning_rate, num_polish, num_starts, noise: as for its `fit`.
        linearised: as for its `predict`, with `num_predictive` draws where there is no closed form.
    """

    structure: str = "full"
    latents: str = "*"
    num_steps: int = 2000
    learning_rate: float = 0.01
    num_polish: int = 1000
    num_starts: int = 1
    noise: str = "maximum"
    linearised: bool = True
    num_predictive: int = 500

    def check(self, posterior: Posterior) -> None:
        """The structure fits network and priors, and its library is there."""
        try:
            self._made(posterior)
        except ImportError as error:
            raise NotApplicableError(str(error)) from error

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Climb, and take the curvature; the evidence and what a Newton step would still go come with it."""
        fit = self._made(posterior).fit(
            num_steps=self.num_steps, learning_rate=self.learning_rate, num_polish=self.num_polish,
            num_starts=self.num_starts, noise=self.noise, seed=seed,
        )  # fmt: skip
        figures = {"log_evidence": fit.log_evidence(), "decrement": fit.decrement}
        predict = partial(fit.predict, linearised=self.linearised, num_draws=self.num_predictive)
        return Fitted(predict, figures)

    def _made(self, posterior: Posterior) -> variational.Laplace:
        return variational.Laplace(posterior, structure=self.structure, latents=self.latents)
