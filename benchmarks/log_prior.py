"""What the log prior of a family costs beside the Normal one, for one layer of a million weights.

    python -m benchmarks.log_prior                    # traced programs, 4 repetitions of each family
    python -m benchmarks.log_prior --compile          # as long runs evaluate it
    python -m benchmarks.log_prior --only StudentT Mixture --repeats 10

Every family is evaluated through the library's own program of a posterior without data, one chain, float32: the potential
alone, and the potential with its gradient. Repetitions of a family and of the Normal alternate; a figure is the median, and a
ratio the median of the ratios within a repetition. Families with hyperparameters say how many latents they have.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.programs import Plan
from bnnpriors.workers import keep_freed_memory

LINEAR = (1000, 1000)
CONV = (333, 333, 3, 3)
COLUMNS = torch.eye(LINEAR[1]) + 0.1

FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[], P.Prior]]] = {
    "Normal": (LINEAR, lambda: P.Normal(0.0, 0.5)),
    "Laplace": (LINEAR, lambda: P.Laplace(0.0, 0.5)),
    "Logistic": (LINEAR, lambda: P.Logistic(0.0, 0.5)),
    "Cauchy": (LINEAR, lambda: P.Cauchy(0.0, 0.5)),
    "StudentT": (LINEAR, lambda: P.StudentT(3.0, 0.0, 0.5)),
    "GeneralizedNormal": (LINEAR, lambda: P.GeneralizedNormal(0.0, 0.5, 0.7)),
    "Uniform": (LINEAR, lambda: P.Uniform(-1.0, 1.0)),
    "Improper": (LINEAR, P.Improper),
    "Distribution(Normal)": (LINEAR, lambda: P.Distribution(torch.distributions.Normal(0.0, 0.5))),
    "HalfNormal": (LINEAR, lambda: P.HalfNormal(0.5)),
    "HalfCauchy": (LINEAR, lambda: P.HalfCauchy(0.5)),
    "Gamma": (LINEAR, lambda: P.Gamma(2.0, 1.0)),
    "InverseGamma": (LINEAR, lambda: P.InverseGamma(3.0, 2.0)),
    "LogNormal": (LINEAR, lambda: P.LogNormal(0.0, 0.5)),
    "Normal, HalfCauchy scale": (LINEAR, lambda: P.Normal(0.0, P.HalfCauchy(1.0))),
    "the same, non-centred": (LINEAR, lambda: P.Normal(0.0, P.HalfCauchy(1.0), centred=False)),
    "Normal, scale per input": (LINEAR, lambda: P.Normal(0.0, P.HalfCauchy(1.0).per("input"))),
    "ScaleMixture of 2": (LINEAR, lambda: P.ScaleMixture((0.1, 1.0), (0.7, 0.3))),
    "Mixture of Normal, StudentT": (LINEAR, lambda: P.Mixture([P.Normal(0.0, 0.1), P.StudentT()])),
    "Horseshoe": (LINEAR, lambda: P.Horseshoe(0.1)),
    "RegularizedHorseshoe": (LINEAR, lambda: P.RegularizedHorseshoe(0.1)),
    "Horseshoe on inputs": (LINEAR, lambda: P.Horseshoe(0.1, groups="input")),
    "CorrelatedNormal": (CONV, lambda: P.CorrelatedNormal(0.5)),
    "CorrelatedNormal, learnt": (CONV, lambda: P.CorrelatedNormal(P.HalfNormal(), "matern32", P.Gamma())),
    "CorrelatedStudentT": (CONV, lambda: P.CorrelatedStudentT(3.0, 0.5)),
    "MatrixNormal, fixed columns": (LINEAR, lambda: P.MatrixNormal(0.5, COLUMNS)),
    "the same, centred": (LINEAR, lambda: P.MatrixNormal(0.5, COLUMNS, centred=True)),
}


class Weights(nn.Module):
    """A module that is one tensor."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


def program(name: str, compiled: bool) -> tuple[Callable[[bool], None], int]:
    """A call that evaluates the family's log prior (with its gradient if asked), and its number of latents."""
    shape, make = FAMILIES[name]
    posterior = bp.Posterior(bp.attach(Weights(shape), make()))
    target = posterior.target(1, Plan(1, 1, compiled))
    generator = torch.Generator().manual_seed(0)
    theta = 0.5 * torch.randn(1, posterior.dim, generator=generator)

    def call(gradient: bool) -> None:
        if gradient:
            target.value_and_gradient(theta)
        else:
            target.potential(theta)

    return call, posterior.dim


def seconds(call: Callable[[bool], None], gradient: bool) -> float:
    """The faster of two calls in a row."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call(gradient)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile", action="store_true", help="compile the programs, as long runs do")
    parser.add_argument("--repeats", type=int, default=4, help="repetitions")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="families")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as every run does
    normal, _ = program("Normal", options.compile)
    print(
        "| prior | latents | value, ms | × Normal | value and gradient, ms | × Normal |\n|---|--:|--:|--:|--:|--:|"
    )
    for name in options.only:
        call, latents = program(name, options.compile)
        row = [name, f"{latents:,}"]
        for gradient in (False, True):
            normal(gradient)
            call(gradient)
            pairs = [(seconds(call, gradient), seconds(normal, gradient)) for _ in range(options.repeats)]
            row += [
                f"{1e3 * statistics.median(own for own, _ in pairs):.2f}",
                f"{statistics.median(own / base for own, base in pairs):.2f}",
            ]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
