"""The base of Gaussian approximations of a posterior, fitted by stochastic variational inference on its flat latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, distributions, nn
from torch.func import vmap

from ..draws import Draws
from ..posterior import Posterior
from ..streams import Streams
from .ascent import Ascent, Bound, Schedule, climb, verdict
from .beginning import central_draw
from .flipout import Flipout
from .normal_part import normal_part
from .stored import in_memory

if TYPE_CHECKING:
    from ..evaluation.sampled import SamplePredictive


class GaussianFit(nn.Module):
    """Base of the Gaussian families: q(θ) over the flat latents of a posterior, so that every prior is served, scales included.

    `fit` maximises L = −E_q[U(θ)]/T + H[q] (Kucukelbir et al. 1603.00788, eq. 5), at T = 1 a lower bound of the log evidence, by
    reparametrised draws (Kingma & Welling 1312.6114): the potential's own program evaluates all of them at once. The entropy,
    and E_q[log p] of latents with normal priors of fixed parameters, are in closed form, and by draws for all other priors.

    Args:
        posterior: one temperature; with a batch size each draw sees a minibatch of its own.
        scale: the standard deviation of each latent that the fit begins with.
        init: "prior" begins at a draw from the prior (`central_draw`), "model" at the module's present latents.
        seed: of that draw.

    Attributes:
        history: the bound along the last fit.

    Raises:
        ValueError: a ladder of temperatures, a scale that is not positive, or another `init`.
    """

    is_diagonal = False

    def __init__(
        self, posterior: Posterior, *, scale: float = 0.05, init: str = "prior", seed: int = 0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if len(posterior.temperatures) > 1:
            raise ValueError(
                f"{name}: a posterior with temperatures {list(posterior.temperatures)} given, expected one; fit each by itself"
            )
        if not 0 < scale < math.inf or init not in ("prior", "model"):
            raise ValueError(
                f"{name}: scale {scale} and init {init!r} given, expected a positive number, and 'prior' or 'model'"
            )
        self.posterior = posterior
        start = central_draw(posterior, seed) if init == "prior" else posterior.current()
        self.loc = nn.Parameter(start.detach().clone())
        self.raw_scale = nn.Parameter(torch.full_like(start, math.log(scale)))
        self.history: list[Bound] = []
        self._normal = normal_part(posterior)
        self._temperature = posterior.temperatures[0]
        self._prior_weight = 1.0 if posterior.tempering == "posterior" else self._temperature

    def law(self) -> distributions.Distribution:
        """q as a distribution over [dim], with gradients in its parameters."""
        raise NotImplementedError

    def noise_size(self) -> int:
        """Standard normal numbers behind one draw."""
        return len(self.loc)

    def push(self, noise: Float[Tensor, "draws size"]) -> Float[Tensor, "draws dim"]:
        """Draws of q from standard normal numbers."""
        raise NotImplementedError

    def spread(self, jacobian: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows size"]:
        """J A, where a draw is θ = μ + A ε: the law of μ_f + J(θ − μ) has the covariance (JA)(JA)ᵀ. With gradients."""
        raise NotImplementedError

    def fit(
        self,
        *,
        num_steps: int = 2000,
        learning_rate: float = 0.01,
        num_draws: int = 8,
        schedule: Schedule | None = None,
        tolerance: float | None = None,
        flipout: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> GaussianFit:
        """Maximise L by Adam. A second call goes on from the first.

        Args:
            num_draws: draws of θ a step. schedule: of the learning rate, a function of the optimiser and the number of steps; a
                half cosine down to zero if None. tolerance: the relative change of the bound at which to stop early (see
                `verdict`); None for all steps. flipout: for `MeanField`, whether each example has signs of its own (`Flipout`):
                the gradient's noise then falls with the size of a minibatch, which all draws share. seed: of the draws, signs
                and minibatches.

        Raises:
            ValueError: counts below one, a rate or a tolerance that is not positive, flipout of a q with correlations or of a
                network without layers for it. FloatingPointError: q has left the finite numbers.
        """
        how = Ascent(num_steps, num_draws, learning_rate, schedule, tolerance)
        how.check()
        if flipout and not self.is_diagonal:
            raise ValueError(
                f"fit: flipout given for {type(self).__name__}, whose latents are correlated; it is for MeanField"
            )
        loss = self._flipped_loss(num_draws, seed) if flipout else self._shared_loss(num_draws, seed)
        heading = (
            f"{type(self).__name__}: {self.posterior.dim} latents, {num_steps} steps of {num_draws} draws"
        )
        self.history = climb(
            self.parameters(),
            loss,
            lambda step: self._bound(step, num_draws, seed),
            how,
            heading=heading,
            progress=progress,
        )
        return self

    @property
    def verdict(self) -> str:
        """Whether the last fit's bound has converged, in one sentence with its figures."""
        return verdict(self.history)

    @torch.no_grad()
    def sample(self, num_draws: int, *, seed: int = 0) -> Float[Tensor, "draws dim"]:
        """Independent draws of θ."""
        return self.push(self._streams(1, seed).normal(num_draws * self.noise_size()).view(num_draws, -1))

    def bound(self, *, num_draws: int = 500, seed: int = 1) -> Bound:
        """L on the full data from fresh draws."""
        return self._bound(0, num_draws, seed)

    @torch.no_grad()
    def pareto_k(self, *, num_draws: int = 1000, seed: int = 1) -> float:
        """k̂ of the importance ratios p(θ, y)/q(θ) (Yao et al. 1802.02538, §2): below 0.5 q is near, above 0.7 it is not, and its
        spread, tails or modes are wrong. In many dimensions even good fits of single latents have k̂ above 1.
        """
        from arviz_stats.base import array_stats

        log_ratio = self._log_ratio(self.sample(num_draws, seed=seed))
        return float(array_stats.psislw(log_ratio.cpu().numpy())[1])

    def draws(self, num_draws: int = 500, *, seed: int = 0) -> Draws:
        """Independent draws of q as those of a run of one chain, in memory: names, predictions, export."""
        return in_memory(self.posterior, self.sample(num_draws, seed=seed))

    def predict(self, x: Any, *, num_draws: int = 500, seed: int = 0) -> SamplePredictive:
        """The predictive distribution at inputs, from draws of q."""
        return self.draws(num_draws, seed=seed).predict(x)

    def _shared_loss(self, num_draws: int, seed: int) -> Callable[[], Tensor]:
        """A number with the gradient of −L: the potential's program at draws that all examples share."""
        target = self.posterior.target(num_draws)
        streams = self._streams(num_draws, seed)

        def loss() -> Tensor:
            theta = self.push(streams.normal(self.noise_size()))
            fixed = theta.detach()
            gradient = target.gradient_estimate(fixed, streams)
            if self._normal is not None:
                gradient = gradient - self._prior_weight * self._normal.gradient(fixed)
            # its gradient is that of −L: ∇U is a constant here, and θ is a function of the parameters
            return (gradient * theta).sum() / (num_draws * self._temperature) + self._known()

        return loss

    def _flipped_loss(self, num_draws: int, seed: int) -> Callable[[], Tensor]:
        """The same with signs of each example."""
        posterior, flip = self.posterior, Flipout(self.posterior)
        x, y, size = posterior.data.x, posterior.data.y, posterior.batch_size or posterior.num_data
        assert x is not None
        assert y is not None
        generator = torch.Generator(posterior.device).manual_seed(seed)

        def loss() -> Tensor:
            noise = torch.randn(
                num_draws, self.noise_size(), generator=generator, device=x.device, dtype=self.loc.dtype
            )
            theta = self.push(noise)
            rows = torch.randint(len(x), (size,), generator=generator, device=x.device)
            batch, targets = (x, y) if size == len(x) else (x[rows], y[rows])
            outputs = flip.outputs(theta, self.loc, batch, flip.signs(num_draws, size, generator))
            swaps = posterior.likelihood_swaps(posterior.layout.unpack(theta))
            each = vmap(posterior.log_likelihood, in_dims=(0, 0, None))(swaps, outputs, targets)
            potential = -len(x) / size * each.flatten(1).sum(1)
            potential = potential - self._prior_weight * vmap(posterior.weights)(theta)[1]
            if self._normal is not None:
                potential = potential - self._prior_weight * self._normal.energy(theta)
            return potential.mean() / self._temperature + self._known()

        return loss

    def _known(self) -> Tensor:
        """What has a closed form: E_q[−log p] of the latents with normal priors, over T, less the entropy."""
        law = self.law()
        if self._normal is None:
            return -law.entropy()
        prior = self._normal.expected(self.loc, law.variance)
        return self._prior_weight / self._temperature * prior - law.entropy()

    def _log_ratio(self, theta: Float[Tensor, "draws dim"]) -> Float64[Tensor, " draws"]:
        """log p(θ, y)/T − log q(θ)."""
        return self.posterior.log_density(theta) - self.law().log_prob(theta).double()

    @torch.no_grad()
    def _bound(self, step: int, num_draws: int, seed: int) -> Bound:
        theta = self.sample(num_draws, seed=seed)
        values = self.posterior.log_density(theta)
        if self._normal is not None:
            values = values + self._prior_weight / self._temperature * self._normal.energy(theta)
        value = float(values.mean() - self._known())
        return Bound(step, value, float(values.std()) / math.sqrt(num_draws) if num_draws > 1 else math.nan)

    def _streams(self, count: int, seed: int) -> Streams:
        keys = [(0, draw) for draw in range(count)]
        return Streams(seed, keys, dtype=self.posterior.dtype, device=self.posterior.device)
