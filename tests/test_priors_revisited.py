"""The families of experiments/priors_revisited are on equal terms, as its README says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.cli.parsers import build_parser

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "priors_revisited"
WITHOUT_VARIANCE = ("Cauchy", "Horseshoe of inputs")
MEDIAN = stats.norm.ppf(0.75) * math.sqrt(2)  # of |w| √fan-in under the Normal


@pytest.fixture(scope="module")
def families() -> dict[str, dict[str, P.Prior]]:
    line = ["sweep", "--config", str(FOLDER / "priors.yaml")]
    parser = build_parser(line)
    return parser.instantiate(parser.parse_args(line)).sweep.priors


def weight_priors(priors: dict[str, P.Prior]) -> dict[int, P.Prior]:
    """Fan-in -> the prior of the weights with it."""
    model = bp.attach(bp.models.mlp(7, 2, hidden=(30,)), priors)
    named = model.named_priors()
    return {7: named["0.weight"], 30: named["2.weight"]}


def test_families_with_a_variance_have_two_over_the_fan_in(families: dict[str, dict[str, P.Prior]]) -> None:
    assert len(families) == 9
    for name in set(families) - set(WITHOUT_VARIANCE):
        for fan_in, prior in weight_priors(families[name]).items():
            assert float(prior.variance()) == pytest.approx(2 / fan_in, rel=1e-6), name


def test_the_others_have_the_median_of_the_normal(families: dict[str, dict[str, P.Prior]]) -> None:
    """Cauchy: the median of |w| is the scale. Horseshoe: w = g x z with x = τλ/g, whose density is (4/π²) log x / (x² − 1)."""
    for name in WITHOUT_VARIANCE:
        for fan_in, prior in weight_priors(families[name]).items():
            median = MEDIAN / math.sqrt(fan_in)
            if name == "Cauchy":
                assert isinstance(prior, P.Cauchy)
                assert prior.scale == pytest.approx(median, rel=1e-5)
                continue
            assert isinstance(prior, P.Horseshoe)
            assert isinstance(prior.scale, P.HalfCauchy)
            assert isinstance(prior.scale.scale, P.HalfCauchy)
            width = median / float(torch.as_tensor(prior.scale.scale.scale))

            def mass(u: float, width: float = width) -> float:
                """At x = e^u, where log x / (x² − 1) · x = u / (2 sinh u)."""
                density = 2 / np.pi**2 * (u / np.sinh(u) if u else 1.0)
                return density * (2 * stats.norm.cdf(width * np.exp(-u)) - 1)

            inside, _ = integrate.quad(mass, -40, 40, points=[0.0], limit=200)
            assert inside == pytest.approx(0.5, abs=1e-4), name


@pytest.mark.parametrize("names", [["mnist", "long"], ["mnist", "gpu"], ["boston"], ["concrete"], ["energy"]])
def test_the_configurations_are_read(names: list[str]) -> None:
    files = ["priors.yaml", *(f"{name}.yaml" for name in names)]
    line = ["sweep", *(part for file in files for part in ("--config", str(FOLDER / file)))]
    settings = build_parser(line).parse_args(line).sweep
    assert settings.init == "model"
    assert 1.0 in settings.temperatures
