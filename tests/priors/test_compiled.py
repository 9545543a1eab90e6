"""Hierarchies with linear algebra, simplexes and bounded values as compiled programs."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.programs import Plan


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "prior",
    [
        P.CorrelatedNormal(P.HalfNormal(1.0), "matern32", P.Gamma(2.0, 2.0).per("filter")),
        P.MatrixNormal(P.HalfCauchy(1.0).per("output"), P.LKJCholesky(2.0)),
        P.Mixture(
            [P.Normal(), P.StudentT(3.0, 0.0, P.HalfNormal(1.0))], P.Dirichlet(P.Gamma()).per("output")
        ),
        P.RegularizedHorseshoe(0.3),
        P.Uniform(-1.0, 2.0),
    ],
    ids=["correlated", "matrix", "mixture", "horseshoe", "uniform"],
)
def test_compiled_and_traced_programs_agree(prior: P.Prior) -> None:
    posterior = bp.Posterior(bp.attach(nn.Conv2d(2, 3, 3, bias=False).double(), prior))
    theta = torch.stack([posterior.sample_prior(torch.Generator().manual_seed(seed)) for seed in range(3)])
    value, gradient = posterior.target(3, Plan(3, 1, True)).value_and_gradient(theta)
    expected, slope = posterior.target(3, Plan(1, 1, False)).value_and_gradient(theta)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-8)
