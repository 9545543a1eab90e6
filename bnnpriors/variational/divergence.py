"""KL(q(f_X̃, u)‖p(f_X̃) p(u)) of a network's function values and its likelihood's own latents: in closed form, and by scores."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.func import jacrev, vmap

from ..posterior import Posterior
from .function_prior import NetworkPrior, ProcessPrior, function_values
from .gaussian import Gaussian, kl_divergence, regular_divergence
from .gaussian_fit import GaussianFit
from .score import Score, SpectralScore, divergence_surrogate
from .thin import Whitening, thin_divergence


class FunctionalDivergence:
    """The divergence of one q from one prior, with gradients in q's parameters.

    Args:
        q: the family; its posterior has the network and the likelihood. prior: of functions.
        jitter: standard deviation of the noise of function values, of both laws. temperature: T of N(m, T K), by which
            scores are divided.
    """

    def __init__(
        self,
        q: GaussianFit,
        prior: ProcessPrior | NetworkPrior,
        *,
        jitter: float,
        temperature: float,
    ) -> None:
        self.q, self.prior, self.jitter, self.temperature = q, prior, jitter, temperature
        posterior: Posterior = q.posterior
        own = posterior.dim - posterior.model.layout.dim
        self._own, self._own_size = slice(posterior.dim - own, posterior.dim), own
        self._law: tuple[Tensor, Gaussian] | None = None
        self._white: tuple[Gaussian, Whitening] | None = None
        self._score: tuple[Tensor, SpectralScore] | None = None

    def linearised(
        self, x: Shaped[Tensor, "points *shape"]
    ) -> tuple[Float[Tensor, " values"], Float[Tensor, "values dim"]]:
        """f(μ) in float64 and J = ∂f/∂θ, at q's mean μ.

        Every point has a copy of μ, as a chain of its own: one backward pass an output gives the gradients of all points.
        """
        loc = self.q.loc
        jacobian, mean = jacrev(self._summed, has_aux=True)(loc.expand(len(x), len(loc)), x)
        return mean, jacobian.flatten(0, 1)

    def closed(
        self, theta: Float[Tensor, "draws dim"], x: Shaped[Tensor, "points *shape"]
    ) -> Float[Tensor, ""]:
        """KL between normal laws of (f, u), with N(0, I) in place of p(u), plus E_q[log N(u; 0, I) − log p(u)/T] of the draws.

        Raises:
            IllDefinedError: it is infinite.
        """
        mean, jacobian = self.linearised(x)
        law = self._prior_law(x)
        rows = jacobian.to(theta)
        if self._own_size:
            rows = torch.cat([rows, self._own_rows()])
            mean = torch.cat([mean, self.q.loc[self._own].double()])
        root = self.q.spread(rows).double()
        if self.jitter and len(law.mean) > root.shape[1]:
            value = thin_divergence(mean, root, self._whitening(law))
        else:
            value = self._dense(mean, root, law)
        return value + self._own_cross(theta, is_relative=True)

    def surrogate(
        self,
        theta: Float[Tensor, "draws dim"],
        x: Shaped[Tensor, "points *shape"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """A number whose gradient is SSGE's of KL(q(f)‖p(f)) plus that of KL(q(u)‖p(u)), whose q(u) is the marginal law."""
        values = function_values(self.q.posterior, theta, x)
        law = self._prior_score(x, generator) if isinstance(self.prior, NetworkPrior) else self._prior_law(x)
        total = divergence_surrogate(values, law, jitter=self.jitter, generator=generator)
        if not self._own_size:
            return total
        root = self.q.spread(self._own_rows()).double()
        entropy = 0.5 * torch.logdet(2 * math.pi * math.e * root @ root.mT)
        return total - entropy + self._own_cross(theta, is_relative=False)

    def _dense(self, mean: Tensor, root: Tensor, law: Gaussian) -> Tensor:
        """The divergence with A = RRᵀ + η²I in full."""
        size = len(law.mean)
        own = torch.eye(len(mean) - size, dtype=torch.float64, device=mean.device)
        noise = torch.zeros_like(mean)
        noise[:size] = self.jitter**2
        prior = Gaussian(
            torch.cat([law.mean, own.new_zeros(len(own))]),
            torch.block_diag(law.covariance, own) + noise.diag(),
        )
        return (regular_divergence if self.jitter else kl_divergence)(
            Gaussian(mean, root @ root.mT + noise.diag()), prior
        )

    def _summed(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs at points, each with weights of its own: summed over the points, and the points of the first output first."""
        posterior = self.q.posterior
        weights, _ = vmap(posterior.weights)(theta)
        outputs = posterior.forward_for(x)(weights, x[:, None], True).flatten(1)
        return outputs.sum(0), outputs.mT.flatten().double()

    def _whitening(self, law: Gaussian) -> Whitening:
        """Of the prior's law; kept for a next call with the same."""
        if self._white is None or self._white[0] is not law:
            self._white = law, Whitening.of(law, self.jitter)
        return self._white[1]

    def _prior_law(self, x: Tensor) -> Gaussian:
        """p(f) as a normal law, tempered; kept for a next call at the same points."""
        if self._law is None or self._law[0] is not x:
            law = self.prior.law(x)
            self._law = x, Gaussian(law.mean, self.temperature * law.covariance)
        return self._law[1]

    def _prior_score(self, x: Tensor, generator: torch.Generator) -> Score:
        """∇ log p(f)/T of the network's own prior, whose function values have the jitter's noise; kept likewise."""
        assert isinstance(self.prior, NetworkPrior)
        if self._score is None or self._score[0] is not x:
            values = self.prior.values(x)
            noise = torch.randn(values.shape, generator=generator, dtype=values.dtype, device=values.device)
            self._score = x, SpectralScore(values + self.jitter * noise)
        score = self._score[1]
        return lambda values: score(values) / self.temperature

    def _own_rows(self) -> Tensor:
        """The rows of the unit matrix that pick u out of θ."""
        rows = torch.zeros(self._own_size, self.q.posterior.dim).to(self.q.loc)
        rows[:, self._own] = torch.eye(self._own_size).to(rows)
        return rows

    def _own_cross(self, theta: Tensor, *, is_relative: bool) -> Tensor | float:
        """−E_q[log p(u)]/T by draws; plus E_q[log N(u; 0, I)] if relative."""
        if not self._own_size:
            return 0.0
        posterior = self.q.posterior
        log_prior = vmap(posterior.likelihood_log_prior)(theta)
        total = -log_prior.mean() / self.temperature
        if is_relative:
            u = theta[:, self._own].double()
            total = total - 0.5 * (u.square() + math.log(2 * math.pi)).sum(1).mean()
        return total
