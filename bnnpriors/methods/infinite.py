"""The infinitely wide network of the same module and priors, as a Gaussian process."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..likelihoods import Categorical, Gaussian
from ..module import BayesianModule, attach
from ..posterior import Posterior
from .base import Fitted, Method, NotApplicableError

PRIOR_DRAWS = 101
"""Draws of which a hyperparameter's starting value is the median."""


@dataclass(frozen=True)
class InfiniteWidth(Method):
    """Exact regression under Gaussian noise, a variational approximation under softmax, with the kernel of the infinitely wide
    network.

    A noise with a prior is set to the value of highest marginal likelihood.

    Args:
        learn: the variances of the layers too are those of highest marginal likelihood, beginning at the priors' own;
            hyperpriors, under which the limit is a mixture of Gaussian processes, give way to numbers.
        num_steps: of L-BFGS, for what is learnt.
        num_inducing: of the classifier; all training points if not given.
    """

    learn: bool = False
    num_steps: int = 50
    num_inducing: int | None = None

    def check(self, posterior: Posterior) -> None:
        """The network and its priors have a limit, and the likelihood one of the two inferences."""
        if posterior.temperatures != (1.0,):
            raise NotApplicableError(
                f"the Gaussian process has temperature 1, and {posterior.temperatures[0]} is asked for"
            )
        if not isinstance(posterior.likelihood, (Gaussian, Categorical)):
            raise NotApplicableError(
                f"there is no inference here for the likelihood {type(posterior.likelihood).__name__}, only for Gaussian and "
                "Categorical"
            )
        if self.learn and isinstance(posterior.likelihood, Categorical):
            raise NotApplicableError(
                "learn=True is for regression; classification takes the priors as they are"
            )
        self._kernel(posterior, seed=0)

    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Factorise, after learning where something is learnt."""
        from ..infinite import SoftmaxClassifier

        x, y = posterior.data.x, posterior.data.y
        assert x is not None
        assert y is not None
        if isinstance(posterior.likelihood, Categorical):
            kernel = self._kernel(posterior, seed)
            classes = posterior.model(x[:1]).shape[1]
            made = SoftmaxClassifier(kernel, x, y, num_classes=classes, num_inducing=self.num_inducing)
            made.fit(learn_scale=False)
            return Fitted(made.predict, {"bound": made.bound})
        gp = self.regression(posterior, seed)
        with torch.no_grad():
            figures = {
                "log_evidence": float(gp.log_marginal_likelihood()),
                "noise": float(gp.noise.sqrt()),
            }
        return Fitted(gp.predict, figures)

    def kernel(self, posterior: Posterior, seed: int) -> Any:
        """The kernel that `fit` predicts with, learnt where something is learnt."""
        return self.regression(posterior, seed).kernel if self.learn else self._kernel(posterior, seed)

    def regression(self, posterior: Posterior, seed: int) -> Any:
        """`infinite.GPRegression` on the posterior's data, after learning."""
        from ..infinite import GPRegression

        kernel, likelihood = self._kernel(posterior, seed), posterior.likelihood
        x, y = posterior.data.x, posterior.data.y
        assert x is not None
        assert y is not None
        learnt = bool(likelihood.sites)
        noise = 0.1 if learnt else float(likelihood.scale) ** 2
        gp = GPRegression(kernel, x, y, noise=noise)
        gp.raw_noise.requires_grad_(learnt)
        for parameter in kernel.parameters():
            parameter.requires_grad_(self.learn)
        if learnt or self.learn:
            gp.fit(self.num_steps)
        return gp

    def _kernel(self, posterior: Posterior, seed: int) -> Any:
        from .. import infinite

        model = without_hyperpriors(posterior.model, seed) if self.learn else posterior.model
        try:
            return infinite.kernel(model)
        except ValueError as error:
            raise NotApplicableError(str(error)) from error


def without_hyperpriors(model: BayesianModule, seed: int) -> BayesianModule:
    """The same network with numbers for hyperparameters: the median of draws from their priors."""
    if all(not site.children for site in model.sites):
        return model
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    draws = [model.values(model.sample_prior(generator))[0] for _ in range(PRIOR_DRAWS)]
    middle: dict[str, Tensor] = {
        name: torch.stack([draw[name].detach() for draw in draws]).median(0).values for name in draws[0]
    }
    priors = {
        tuple(site.members) if site.is_joint else site.name: site.condition(middle) for site in model.sites
    }
    return attach(copy.deepcopy(model.net), priors)
