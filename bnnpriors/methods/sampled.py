"""Methods whose predictive is a mixture over networks that `bp.sample` gives: MCMC and deep ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..draws import Draws
from ..evaluation import convergence
from ..posterior import Posterior
from ..samplers import MAP, Sampler
from ..sampling import sample
from .base import Fitted, Method

PREDICTED = 128
"""Training inputs at which R̂ of the predictions is taken."""


@dataclass(frozen=True)
class MCMC(Method):
    """`bp.sample`, or the draws of a finished run.

    Args:
        sampler, num_samples, num_warmup, num_chains, thin: as for `bp.sample`.
        draws: a store of an earlier run on the same posterior, such as `runs/a/draws/posterior`, which is then read in place of
            sampling.
    """

    sampler: Sampler
    num_samples: int = 200
    num_warmup: int = 200
    num_chains: int = 4
    thin: int = 1
    draws: str | None = None

    def check(self, posterior: Posterior) -> None:
        """The sampler serves the posterior, and a store that is given has its latents."""
        if self.draws is not None:
            given = Draws.open(self.draws, posterior=posterior)
            if given.layout != posterior.layout or set(given.temperatures.tolist()) != set(
                posterior.temperatures
            ):
                raise ValueError(
                    f"MCMC: {given!r} has other latents or temperatures than this posterior, expected draws of the same network "
                    "and priors"
                )
        else:
            self.sampler.check(posterior.target(self.num_chains))
            self.sampler.check_run(num_samples=self.num_samples, num_warmup=self.num_warmup, thin=self.thin)

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Sample, or continue what `store` holds; R̂ and ESS of predictions at training inputs come with it."""
        if self.draws is not None:
            draws = Draws.open(self.draws, posterior=posterior)
        else:
            draws = sample(
                posterior, self.sampler, num_samples=self.num_samples, num_warmup=self.num_warmup, num_chains=self.num_chains,
                thin=self.thin, seed=seed, store=store, resume=store is not None,
            )  # fmt: skip
        figures = {name: float(value.double().mean()) for name, value in _stats(draws).items()}
        x = posterior.data.x
        if draws.num_draws > 3 and x is not None:
            found = convergence(draws.predict(x[:PREDICTED]).outputs_by_chain())
            figures |= {
                "rhat_median": float(np.nanmedian(found.rhat)),
                "rhat_max": float(np.nanmax(found.rhat)),
                "ess_median": float(np.nanmedian(found.ess_bulk)),
            }
        return Fitted(draws.predict, figures)


@dataclass(frozen=True)
class DeepEnsemble(Method):
    """Networks trained from draws of the prior to a maximum of the posterior each (Lakshminarayanan et al. 1612.01474), by
    `samplers.MAP`; with one member the MAP estimate.

    Args:
        num_members: networks. num_steps, learning_rate: of Adam.
    """

    num_members: int = 10
    num_steps: int = 2000
    learning_rate: float = 0.01

    def check(self, posterior: Posterior) -> None:
        """The counts are positive."""
        if self.num_members < 1 or self.num_steps < 1:
            raise ValueError(
                f"DeepEnsemble: num_members {self.num_members} and num_steps {self.num_steps} given, expected integers from 1"
            )

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Train all members in one vectorised run."""
        draws = sample(
            posterior, MAP(step_size=self.learning_rate), num_samples=1, num_warmup=self.num_steps,
            num_chains=self.num_members, seed=seed, store=store, resume=store is not None,
        )  # fmt: skip
        heights = posterior.log_density(draws.theta[:, 0].to(posterior.device))
        return Fitted(draws.predict, {"log_density_best": float(heights.max())})


def _stats(draws: Draws) -> dict[str, Tensor]:
    return {name: draws.stats[name] for name in ("acceptance", "divergent") if name in draws.stats}
