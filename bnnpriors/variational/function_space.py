"""Variational inference in function space: networks whose laws of functions are compared with a prior at measurement points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..draws import Draws
from ..posterior import Posterior
from .advice import warn_of_few_points, warn_of_jitter
from .ascent import Ascent, Bound, Schedule, climb, verdict
from .divergence import FunctionalDivergence
from .function_prior import NetworkPrior, ProcessPrior
from .gaussian import Gaussian
from .gaussian_fit import GaussianFit
from .linear_fit import ESTIMATORS
from .measurement import Measurement, Part
from .weight_space import MeanField

if TYPE_CHECKING:
    from ..evaluation.sampled import SamplePredictive

CLOSED, SSGE = ESTIMATORS


class FunctionSpace:
    """q over the latents of a posterior, fitted to L = E_q log p(y | f)/T − KL(q(f_X̃, u)‖p(f_X̃) p(u)), f_X̃ the function values at
    measurement points and u the likelihood's own latents (Sun et al. 1903.05779, §3; Burt et al. 2011.09421).

    The priors of the weights are of no account but for `prior=None`. Where the posterior tempers prior and likelihood, p(f) is
    N(0, T K), and the scores of the network's own prior are divided by T.

    "closed form" is the divergence of normal laws: q's is that of the network linearised at q's mean μ, N(f(μ), JΣJᵀ) with
    J = ∂f/∂θ at μ (Rudner et al. 2312.17199), which is exact for networks that are linear in their weights; that of
    the network's own prior has the mean and covariance of draws. "ssge" follows the gradient E[(∇ log q(f) − ∇ log p(f)) ∂f] with
    scores of draws (`SpectralScore`), biased as they are; u then has the divergence of its marginal law. The likelihood is
    always that of draws of the network itself.

    L is a bound of the log evidence of the GP where X̃ holds all training inputs and the network is linear in its weights,
    and none otherwise; `is_bound` says whether X̃ does. The divergence of a linearised network can be too small for what its
    likelihood uses: L can be above the log evidence by nats where units saturate, or where an augmented likelihood looks
    beside X̃. With a jitter it is a bound nearly: noisy values are nearer each other than the values are, so L is too high by
    what is smaller than η, and η must be small against the noise of the observations. The network's own prior in closed form
    has the inverse covariance of `num_prior_draws` draws, which is too large, and the divergence with it, unless there are
    many more draws than values.

    Args:
        posterior: with data and one temperature. Its batch size gives the likelihood a minibatch each step, scaled by N/B.
        jitter: standard deviation η, in the unit of the outputs, of independent noise that function values have under q and the
            prior, as for `functional_kl`; 0 for none.
        prior: of functions: a GPyTorch kernel (`bp.infinite.kernel(model)` is one), an independent process an output, or None for
            what the priors of the weights imply.
        measurement: X̃: "training" (all training inputs), "minibatch" (the likelihood's), a tensor of inputs, a function of a
            generator such as `Box(low, high, count)`, or a list of these, joined. With fewer values than training inputs and
            weights, drawn anew or not, q is held to the prior at these alone, while the likelihood counts all data: it over-fits.
        estimator: "closed form" or "ssge".
        family: `MeanField`, `LowRank` or `FullRank`, or one of them made of this posterior: `LowRank(posterior, rank=5)`.
            A fitted one is where the fit begins. It is changed in place.
        num_prior_draws: of the network, for `prior=None`; more than there are function values. seed: of these, and of q's start.

    Attributes:
        q: the family. history: the bound along the last fit, on all data and one set of measurement points. jitter, is_bound.

    Raises:
        ValueError, TypeError: what does not fit, with what was expected. IllDefinedError (by `fit` and `bound`): the divergence
            is infinite, as for a q of finite rank against a process of full rank without jitter.
    """

    def __init__(
        self,
        posterior: Posterior,
        *,
        jitter: float,
        prior: Any = None,
        measurement: Part | Sequence[Part] = "training",
        estimator: str = CLOSED,
        family: GaussianFit | type[GaussianFit] = MeanField,
        num_prior_draws: int = 500,
        seed: int = 0,
    ) -> None:
        if posterior.data.x is None:
            raise ValueError(
                "FunctionSpace: a posterior without data given, expected one with likelihood, x and y"
            )
        if estimator not in ESTIMATORS or not 0 <= jitter < math.inf:
            raise ValueError(
                f"FunctionSpace: estimator {estimator!r} and jitter {jitter} given, expected one of {ESTIMATORS} and a "
                "standard deviation from 0"
            )
        if isinstance(family, GaussianFit) and family.posterior is not posterior:
            raise ValueError(f"FunctionSpace: {type(family).__name__} of another posterior given as family")
        self.posterior, self.jitter, self.estimator = posterior, float(jitter), estimator
        self.q = family if isinstance(family, GaussianFit) else family(posterior, seed=seed)
        self.measurement = Measurement(measurement, posterior)
        self.prior = (
            NetworkPrior(posterior, num_prior_draws, seed)
            if prior is None
            else ProcessPrior(prior, posterior)
        )
        self.history: list[Bound] = []
        self._temperature = posterior.temperatures[0]
        self._divergence = FunctionalDivergence(
            self.q,
            self.prior,
            jitter=self.jitter,
            temperature=self._temperature if posterior.tempering == "posterior" else 1.0,
        )

    @property
    def is_bound(self) -> bool:
        """Whether the measurement points hold all training inputs at every step: then L is a bound for a network that is linear
        in its weights, up to the jitter.
        """
        return self.measurement.holds_training

    def fit(
        self,
        *,
        num_steps: int = 2000,
        learning_rate: float = 0.01,
        num_draws: int | None = None,
        schedule: Schedule | None = None,
        tolerance: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> FunctionSpace:
        """Maximise L by Adam. A second call goes on from the first. Warns of too few measurement points, and of a jitter above a
        quarter of the noise that is learnt.

        Args:
            num_draws: of θ a step; 8 for "closed form" and 100 for "ssge" unless given. seed: of draws, minibatches and
                measurement points. Others as for `GaussianFit.fit`.

        Raises:
            IllDefinedError: the divergence is infinite; found before the first step. Others as for `GaussianFit.fit`.
        """
        draws = (8 if self.estimator == CLOSED else 100) if num_draws is None else num_draws
        how = Ascent(num_steps, draws, learning_rate, schedule, tolerance)
        how.check()
        x, size = self.posterior.data.x, self.posterior.batch_size
        assert x is not None
        warn_of_few_points(
            self.posterior, self.measurement(self._generator(seed), None if size is None else x[:size])
        )
        self._bound(0, draws, seed)
        generator = self._generator(seed)
        heading = f"{self!r}, {num_steps} steps of {draws} draws"
        self.history = climb(
            self.q.parameters(),
            lambda: -self._objective(draws, generator),
            lambda step: self._bound(step, draws, seed),
            how,
            heading=heading,
            progress=progress,
        )
        warn_of_jitter(self.posterior, self.q.loc, self.jitter)
        return self

    def bound(self, *, num_draws: int = 500, seed: int = 1) -> Bound:
        """L with all data, fresh draws and one set of measurement points, the divergence in closed form for "ssge" too."""
        return self._bound(0, num_draws, seed)

    @property
    def verdict(self) -> str:
        """Whether the last fit's L has converged, in one sentence with its figures."""
        return verdict(self.history)

    def sample(self, num_draws: int, *, seed: int = 0) -> Float[Tensor, "draws dim"]:
        """Independent draws of θ."""
        return self.q.sample(num_draws, seed=seed)

    def draws(self, num_draws: int = 500, *, seed: int = 0) -> Draws:
        """Independent draws of q as those of a run of one chain; see `GaussianFit.draws`."""
        return self.q.draws(num_draws, seed=seed)

    def predict(self, x: Any, *, num_draws: int = 500, seed: int = 0) -> SamplePredictive:
        """The predictive distribution at inputs, from draws of q through the network itself."""
        return self.q.predict(x, num_draws=num_draws, seed=seed)

    def law(self, x: Shaped[Tensor, "points *shape"]) -> Gaussian:
        """q's law of the function values, the points of the first output first, linearised at q's mean; with gradients."""
        mean, jacobian = self._divergence.linearised(self.posterior.prepare_inputs(x))
        root = self.q.spread(jacobian.to(self.q.loc)).double()
        return Gaussian(mean, root @ root.mT)

    def _objective(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """What has the gradient of L, on fresh draws, minibatch and measurement points."""
        data, size = self.posterior.data, self.posterior.batch_size
        x, y = data.x, data.y
        assert x is not None
        assert y is not None
        if size is not None:
            rows = torch.randint(len(x), (size,), generator=generator, device=x.device)
            x, y = x[rows], y[rows]
        points = self.measurement(generator, None if size is None else x)
        theta = self._draw(num_draws, generator)
        likelihood = self._log_likelihood(theta, x, y, generator).mean()
        if self.estimator == CLOSED:
            return likelihood - self._divergence.closed(theta, points)
        return likelihood - self._divergence.surrogate(theta, points, generator)

    @torch.no_grad()
    def _bound(self, step: int, num_draws: int, seed: int) -> Bound:
        generator = self._generator(seed)
        data = self.posterior.data
        assert data.x is not None
        assert data.y is not None
        theta = self._draw(num_draws, generator)
        each = self._log_likelihood(theta, data.x, data.y, generator)
        rows = None
        if (size := self.posterior.batch_size) is not None:
            rows = data.x[torch.randint(len(data.x), (size,), generator=generator, device=data.x.device)]
        value = each.mean() - self._divergence.closed(theta, self.measurement(generator, rows))
        error = float(each.std()) / math.sqrt(num_draws) if num_draws > 1 else math.nan
        return Bound(step, float(value), error)

    def _draw(self, num_draws: int, generator: torch.Generator) -> Float[Tensor, "draws dim"]:
        loc = self.q.loc
        noise = torch.randn(
            num_draws, self.q.noise_size(), generator=generator, dtype=loc.dtype, device=loc.device
        )
        return self.q.push(noise)

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.posterior.device).manual_seed(seed)

    def _log_likelihood(self, theta: Tensor, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """log p(y | f)/T of each draw, scaled by N/B; random transformations of the data are fresh for each draw."""
        nothing = torch.zeros(len(theta), dtype=theta.dtype, device=theta.device)
        scale = self.posterior.num_data / len(x)
        noise = self.posterior.noise(x, len(theta), generator)
        value = self.posterior.potential(
            theta, nothing, x, y, noise, scale=scale, per_chain=False, with_prior=False
        )
        return -value / self._temperature

    def __repr__(self) -> str:
        return (
            f"FunctionSpace({type(self.q).__name__} of {self.posterior.dim} latents; prior: {self.prior.description}; "
            f"measured at {self.measurement.description}, {'a bound' if self.is_bound else 'no bound'}; {self.estimator}; "
            f"jitter {self.jitter:g})"
        )
