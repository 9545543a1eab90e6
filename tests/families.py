"""One list of priors, with every row of the table of families in it: what must hold for every family is tested over it."""

from __future__ import annotations

import inspect

import pyro
import torch
from torch import distributions as D

from bnnpriors import priors as P
from bnnpriors.priors.table import families

# A family stands here as it is by default; these need arguments, or have other forms that are worth a test.
EXAMPLES: dict[str, object] = {
    "Normal, fan-in": P.Normal(0.3, P.fan_in()),
    "Normal, a scale for each unit": P.Normal(torch.tensor([0.0, 5.0]), torch.tensor([[0.1], [1.0], [30.0]])),
    "StudentT, heavy": P.StudentT(0.7, 0.0, 0.5),
    "Gamma, singular at zero": P.Gamma(0.4, 3.0),
    "HalfCauchy, non-centred": P.HalfCauchy(2.0, centred=False),
    "Laplace, non-centred": P.Laplace(1.0, 2.0, centred=False),
    "Laplace, normal latent": P.Laplace(1.0, 2.0, normal_latent=True),
    "Logistic, normal latent": P.Logistic(0.0, P.HalfNormal(1.0), normal_latent=True),
    "two levels": P.Normal(0.0, P.HalfCauchy(P.Gamma(2.0, 1.0))),
    "all parameters learnt": P.StudentT(P.Gamma(4.0, 1.0), P.Normal(0.0, 3.0), P.HalfNormal(), centred=False),
    "Distribution": P.Distribution(D.Uniform(-2.0, 3.0)),
    "torch, correlated": D.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])),
    "Mixture": P.Mixture([P.Normal(0.0, 0.5), P.StudentT(3.0, 1.0, 2.0)]),
    "Mixture, learnt weights": P.Mixture([P.Normal(-1.0, 0.5), P.Laplace(1.0, 2.0)], P.Dirichlet(2.0)),
    "Mixture, one component for the tensor": P.Mixture(
        [P.Normal(0.0, 0.5), P.Normal(1.0, 2.0)], selection="tensor"
    ),
    "ScaleMixture": P.ScaleMixture([0.1, 1.0], [0.7, 0.3]),
    "ScaleMixture, non-centred": P.ScaleMixture([0.1, 1.5], [0.7, 0.3], centred=False),
    "spike and slab, learnt": P.ScaleMixture([0.05, P.HalfNormal(1.0)], P.Dirichlet(1.0)),
    "a scale for each input": P.Normal(0.0, P.HalfCauchy(1.0).per("input"), centred=False),
    "a scale for each output": P.Normal(0.0, P.InverseGamma(3.0, 1.0).per("output")),
    "Horseshoe for units": P.Horseshoe(0.5, groups="output"),
    "CorrelatedNormal, learnt": P.CorrelatedNormal(P.HalfNormal(1.0), "matern32", P.LogNormal(0.0, 0.5)),
    "CorrelatedStudentT, rbf": P.CorrelatedStudentT(4.0, 0.5, "rbf", 1.0),
    "LKJCholesky, learnt": P.LKJCholesky(P.Gamma(4.0, 2.0)),
    "matched variance": P.Laplace(0.0, 0.5, matched="variance"),
    "Pyro": pyro.distributions.LogNormal(-1.0, 0.2),
}


def _has_defaults(family: type[P.Prior]) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(family).parameters.values()
    return all(p.default is not p.empty or p.kind in variadic for p in parameters)


FAMILIES = {family.__name__: family() for family in families() if _has_defaults(family)} | EXAMPLES

NO_DISTRIBUTIONS = (P.Improper, P.Fixed)
"""They have no draws, no integral and nothing to sample."""
