"""The Laplace approximation: a normal law at a maximum of the posterior, with the curvature there."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..counts import as_integer
from ..draws import Draws
from ..evaluation import GaussianPredictive, Predictive
from ..likelihoods import Gaussian
from ..posterior import Posterior
from ..streams import Streams
from .curvature import Local, chosen_indices
from .kronecker import Kronecker
from .modes import climb, polish
from .noise import check_noise, noise_at, noise_of_evidence, with_noise
from .precision import Diagonal, Full, IndefiniteError, Precision
from .stored import in_memory

if TYPE_CHECKING:
    from ..evaluation.sampled import SamplePredictive

LARGEST = 20_000
"""Latents of which a full matrix is made at most: 3.2 GB."""
ROUNDS, SETTLED = 20, 0.01
"""Of choosing the noise by the evidence, at most, and the relative change at which it ends."""
REFRESH = 50
"""Iterations of L-BFGS between two curvatures by which it is scaled."""
SCALED_IN_FULL = 2000
"""Latents up to which that curvature is the full matrix of all, whatever the structure of q."""


class Laplace:
    """q = N(θ*, P⁻¹) over the flat latents, θ* a maximum of the tempered posterior and P = (G + H)/T its curvature there (MacKay
    1992; Daxberger et al. 2106.14806): G the generalised Gauss–Newton matrix of the likelihood, H = −∂² log p(θ) that of the
    prior, whatever the prior. Where the likelihood alone is tempered P = G/T + H.

    The latents of the likelihood, such as a learnt noise, and those that are not chosen keep their value at θ*.

    Args:
        posterior: one temperature.
        structure: of P: "full"; "diag", its diagonal; "kron", Kronecker factors for each layer, for Normal priors of fixed scale
            (by laplace-torch: `pip install 'bnnpriors[laplace]'`).
        latents: a glob over the names of latents that q spreads, or "last_layer".

    Attributes:
        mode: θ*, [dim], after `fit`. decrement: √(gᵀP⁻¹g), g the gradient left at θ*: how many of q's own standard deviations a
            Newton step would still go. Far above 0.1 this is no maximum, and q stands in the wrong place: fit with more steps.

    Raises:
        ValueError: a ladder of temperatures, no data, another structure, names that match nothing, too many latents for "full",
            a prior or layer that "kron" cannot take. ImportError: "kron" without laplace-torch.
    """

    def __init__(
        self,
        posterior: Posterior,
        *,
        structure: str = "full",
        latents: str = "*",
    ) -> None:
        if len(posterior.temperatures) > 1 or posterior.data.x is None:
            raise ValueError(
                f"Laplace: a posterior with temperatures {list(posterior.temperatures)} and {posterior.num_data} data given, "
                "expected one temperature, and data"
            )
        if posterior.augmented is not None:
            raise ValueError(
                "Laplace: an Augmented likelihood given, whose copies the curvature does not average; use its base likelihood, "
                "or bp.variational.MeanField"
            )
        if structure not in ("full", "diag", "kron"):
            raise ValueError(f"Laplace: structure {structure!r} given, expected 'full', 'diag' or 'kron'")
        self.posterior, self.structure = posterior, structure
        self.mode: Tensor = posterior.current()
        self.decrement = math.nan
        self._chosen = chosen_indices(posterior, latents)
        if structure == "full" and len(self._chosen) > LARGEST:
            raise ValueError(
                f"Laplace: structure='full' given for {len(self._chosen)} latents, expected {LARGEST} at most; use 'kron' or "
                "'diag', or latents='last_layer'"
            )
        if structure == "kron":
            Kronecker.check(posterior, latents)
        self._precision: Precision | None = None
        self._local: Local | None = None

    def fit(
        self,
        *,
        num_steps: int = 2000,
        learning_rate: float = 0.01,
        num_polish: int = 1000,
        num_starts: int = 1,
        noise: str = "maximum",
        init: str = "prior",
        seed: int = 0,
        progress: bool = True,
    ) -> Laplace:
        """Climb to a maximum by `samplers.MAP` (Adam, with the posterior's minibatches), then by L-BFGS on the full data, in
        coordinates in which the curvature is about one (`modes.polish`), and take the curvature there.

        Args:
            num_steps: of Adam; 0 for none. num_polish: iterations of L-BFGS, at most: it ends where
                nothing is higher. 0 for none.
            num_starts: climbs side by side, of which the highest maximum is taken.
            noise: what a learnt σ of a Gaussian likelihood is set to. "maximum" is its value at the maximum of the joint density,
                which a network that interpolates drives to the smallest that its prior lets through. "evidence" alternates
                climbs and σ² = Σ|y − f|²/(N − γ), with γ = tr G(G + H)⁻¹ the number of latents that the data determine
                (MacKay 1992, eq. 4.10), until σ stands still.
            init: "prior" starts each at a draw from the prior, "model" at the module's present latents, such as those of a
                training script of your own.
            seed: of these draws and the minibatches.

        Raises:
            ValueError: counts out of range, or a place where the curvature is not positive.
        """
        counts = {"num_steps": (num_steps, 0), "num_polish": (num_polish, 0), "num_starts": (num_starts, 1)}
        for name, (value, least) in counts.items():
            count = as_integer(value)
            if count is None or count < least:
                raise ValueError(f"fit: {name} {value!r} given, expected an integer from {least}")
        if init not in ("prior", "model"):
            raise ValueError(f"fit: init {init!r} given, expected 'prior' or 'model'")
        check_noise(self.posterior, noise)
        theta = climb(self.posterior, num_steps, learning_rate, num_starts, init, seed, progress)
        self._settle(theta, num_polish, hold_noise=noise == "evidence")
        for _ in range(ROUNDS if noise == "evidence" else 0):
            before = noise_at(self.posterior, self.mode)
            precision, local = self._fitted()
            after = noise_of_evidence(self.posterior, local, precision)
            self._settle(with_noise(self.posterior, self.mode, after), num_polish, hold_noise=True)
            if abs(math.log(after / before)) < SETTLED:
                break
        return self

    def log_evidence(self) -> float:
        """log p(y) ≈ log p(y, θ*) + ½ dim log 2π − ½ log |P| at temperature 1, in nats, of the latents that are chosen; those
        that keep their value count with their density. At other temperatures, of the tempered density.
        """
        precision, _ = self._fitted()
        height = float(self.posterior.log_density(self.mode[None]))
        return height + 0.5 * (len(self._chosen) * math.log(2 * math.pi) - precision.log_det)

    def sample(self, num_draws: int, *, seed: int = 0) -> Float[Tensor, "draws dim"]:
        """Independent draws of θ."""
        precision, _ = self._fitted()
        streams = Streams(seed, [(0, 0)], dtype=self.posterior.dtype, device=self.posterior.device)
        size = len(self._chosen)
        moved = precision.push(streams.normal(num_draws * size).view(num_draws, size))
        return self.mode.repeat(num_draws, 1).index_add(1, self._chosen, moved)

    def draws(self, num_draws: int = 500, *, seed: int = 0) -> Draws:
        """Independent draws of q as those of a run of one chain, in memory: names, predictions, export."""
        return in_memory(self.posterior, self.sample(num_draws, seed=seed))

    @torch.no_grad()
    def predict(
        self, x: Tensor, *, linearised: bool = True, num_draws: int = 500, seed: int = 0
    ) -> Predictive:
        """The predictive distribution at inputs.

        Args:
            linearised: of the network f(x; θ*) + J(x)(θ − θ*), to which the Gauss–Newton matrix belongs (Immer et al.
                2008.08400); in closed form under Gaussian noise, from draws of θ otherwise. False puts draws through the network
                itself, which far from θ* is not what P has seen, and often predicts badly.
            num_draws, seed: of draws of θ.
        """
        precision, local = self._fitted()
        if not linearised:
            return self.draws(num_draws, seed=seed).predict(x)
        x = self.posterior.prepare_inputs(x)
        if isinstance(self.posterior.likelihood, Gaussian):
            parts = [(outputs, precision.variances(rows)) for _, outputs, rows in local.blocks(x)]
            mean, variance = (torch.cat(part) for part in zip(*parts, strict=True))
            return GaussianPredictive(
                mean, variance, mean.new_tensor(noise_at(self.posterior, self.mode) ** 2)
            )
        return self._sampled(x, local, num_draws, seed)

    def _sampled(self, x: Tensor, local: Local, num_draws: int, seed: int) -> SamplePredictive:
        from ..evaluation.sampled import SamplePredictive

        theta = self.sample(num_draws, seed=seed)
        moved = (theta - self.mode)[:, self._chosen]
        parts = [outputs + torch.einsum("bks,ds->dbk", rows, moved) for _, outputs, rows in local.blocks(x)]
        shape = self.posterior.model(x[:1]).shape[1:]
        own = self.posterior.likelihood_swaps(self.posterior.layout.unpack(theta))
        return SamplePredictive(torch.cat(parts, 1).unflatten(2, shape), self.posterior.likelihood, own)

    def _settle(self, theta: Tensor, num_polish: int, *, hold_noise: bool) -> None:
        """Climb from θ to a maximum, and stand there; the curvature that scales the climb is taken anew along the way."""
        posterior, chosen, structure = self.posterior, self._chosen, self.structure
        if posterior.dim <= SCALED_IN_FULL:
            chosen, structure = chosen_indices(posterior, "*"), "full"
        for left in range(num_polish, 0, -REFRESH):
            precision: Precision | None = None
            with suppress(IndefiniteError):
                precision = self._curvature(Local(posterior, theta, chosen), structure)
            steps = min(left, REFRESH)
            found = polish(posterior, theta, steps, chosen=chosen, precision=precision, hold_noise=hold_noise)
            if torch.equal(found, theta):
                break
            theta = found
        self._stand(theta)

    def _stand(self, theta: Tensor) -> None:
        """Take this place and the curvature there."""
        self.mode = theta
        self._local = Local(self.posterior, theta, self._chosen)
        self._precision = self._curvature(self._local, self.structure)
        _, gradient = self.posterior.target(1).value_and_gradient(theta[None])
        left = gradient[:, self._chosen] / self.posterior.temperatures[0]
        self.decrement = float(self._precision.variances(left[None]).sqrt())

    def _curvature(self, local: Local, structure: str) -> Precision:
        posterior = self.posterior
        if structure == "kron":
            return Kronecker(posterior, local.theta, noise_at(posterior, local.theta))
        temperature = posterior.temperatures[0]
        weight = float(posterior.prior_weight(torch.tensor([temperature], dtype=torch.float64)))
        if structure == "full":
            return Full((local.likelihood_matrix() + weight * local.prior_matrix()) / temperature)
        return Diagonal((local.likelihood_diagonal() + weight * local.prior_diagonal()) / temperature)

    def _fitted(self) -> tuple[Precision, Local]:
        if self._precision is None or self._local is None:
            raise RuntimeError("Laplace: not fitted yet; call fit() first")
        return self._precision, self._local
