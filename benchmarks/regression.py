"""Regressions on real data with a learnt noise scale, in numpy only: what `benchmarks.prediction_ess` samples.

    y ~ N(f(x), σ²), f = in–50–1 with tanh, W_l ~ N(0, 1/fan_in_l), b_l ~ N(0, 1), σ ~ HalfNormal(1), sampled as log σ,

inputs and targets standardised. Up to a constant, with P the prior term of `benchmarks.problem`,

    log p(θ, log σ | data) = P(θ) − σ²/2 + log σ − |y − f(x)|²/(2σ²) − N log σ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.problem import Parameters, Problem

NOISE = "log_noise"
NUM_TEST = 64


@dataclass(frozen=True)
class Regression:
    """One data set.

    Attributes:
        problem: the network and the prior of its weights.
        x, y: standardised training data, [rows, in] and [rows, 1], float32.
        x_test: inputs whose predicted means are judged, [64, in].
    """

    problem: Problem
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters of one chain, log σ last."""
        return self.problem.shapes() | {NOISE: ()}

    def start(self, chains: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Prior draws of the weights at σ = 1, each [chains, *shape]."""
        return self.problem.prior_draws(chains, seed) | {NOISE: np.zeros(chains, dtype=np.float32)}

    def log_density(self, theta: Parameters) -> float:
        """Log density of one chain up to a constant, in float64: what each contender is checked against."""
        precisions, log_noise = self.problem.precisions(), float(theta[NOISE])
        total = -0.5 * sum(p * float(np.square(theta[name]).sum()) for name, p in precisions.items())
        error = float(np.square(self.outputs(theta, self.x) - self.y).sum())
        return (
            total
            - 0.5 * np.exp(2 * log_noise)
            + log_noise
            - 0.5 * error * np.exp(-2 * log_noise)
            - len(self.y) * log_noise
        )

    def outputs(self, theta: Parameters, x: np.ndarray) -> np.ndarray:
        """f(x), [..., rows, 1], for parameters [..., *shape]."""
        layers = [
            [np.asarray(theta[f"{n}.{part}"], np.float64) for part in ("weight", "bias")] for n in (0, 2)
        ]
        (first, shift), (second, last) = layers
        hidden = np.tanh(x.astype(np.float64) @ np.swapaxes(first, -1, -2) + shift[..., None, :])
        return hidden @ np.swapaxes(second, -1, -2) + last[..., None, :]


def load(name: str, folder: Path) -> Regression:
    """`diabetes` from scikit-learn (442 rows), or a UCI set by its folder under `folder`, the first published split.

    Raises:
        FileNotFoundError: no such folder.
    """
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True, scaled=False)
        order = np.random.default_rng(0).permutation(len(x))
        test, train = order[:NUM_TEST], order[NUM_TEST:]
    else:
        place = folder / name
        table = np.loadtxt(place / "data.txt")
        x, y = table[:, :-1], table[:, -1]
        train, test = (np.loadtxt(place / f"index_{part}_0.txt").astype(int) for part in ("train", "test"))
        test = test[:NUM_TEST]
    mean, scale = x[train].mean(0), x[train].std(0)
    x = ((x - mean) / scale).astype(np.float32)
    y = ((y - y[train].mean()) / y[train].std()).astype(np.float32)[:, None]
    problem = Problem(
        name=name,
        title=name,
        sampler="hmc",
        layer_sizes=(x.shape[1], 50, 1),
        activation="tanh",
        kind="regression",
        num_data=len(train),
        step_size=0.01,
        steps_per_block=1,
        steps_per_draw=1,
        chains=(),
    )
    return Regression(problem, x[train], y[train], x[test])
