"""What every contender must sample: a network, perhaps with convolutions first, its data and its log density, in numpy only.

The log density is, up to a constant, with weights W_l, biases b_l and outputs f(x),

    log p(theta, data) = - sum_l fan_in_l |W_l|^2 / 2 - sum_l |b_l|^2 / 2 + log p(y | f(x)),

that is W_l ~ N(0, 1/fan_in_l), b_l ~ N(0, 1), and either y ~ N(f(x), noise_scale^2) or y ~ Categorical(softmax f(x)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

Parameters = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A posterior and the sampler to run on it.

    Attributes:
        name: the word used on the command line and in the results.
        title: one line for the table.
        sampler: "hmc" (full batch, `steps_per_draw` leapfrog steps a draw), or "sgld" or "sghmc" (`batch_size` rows a step).
        layer_sizes: widths from input to output.
        channels: of the convolutions before the dense layers, from those of the square input image; each is 3×3 with stride 2
            and padding 1. The dense layers then begin with the flattened result.
        activation: between layers.
        kind: "regression" (Gaussian noise) or "classification" (softmax).
        num_data: rows of data.
        step_size: h of the sampler: leapfrog step; theta <- theta - (h^2/2) grad U + h eps for SGLD; m <- a m - h grad U + noise,
            theta <- theta + h m for SGHMC.
        momentum_decay: a of SGHMC.
        steps_per_block: gradient evaluations of one chain in a block, the smallest amount of work that is timed.
        steps_per_draw: every how many gradient evaluations a position is kept.
        chains: the numbers of chains to measure.
        batch_size: rows a gradient; None for all.
        noise_scale: standard deviation of the noise in a regression.
    """

    name: str
    title: str
    sampler: Literal["hmc", "sgld", "sghmc"]
    layer_sizes: tuple[int, ...]
    activation: Literal["tanh", "relu"]
    kind: Literal["regression", "classification"]
    num_data: int
    step_size: float
    steps_per_block: int
    steps_per_draw: int
    chains: tuple[int, ...]
    batch_size: int | None = None
    noise_scale: float = 0.3
    channels: tuple[int, ...] = ()
    momentum_decay: float = 0.9

    @property
    def draws_per_block(self) -> int:
        """Positions kept by one chain in a block."""
        return self.steps_per_block // self.steps_per_draw

    @property
    def inputs(self) -> int:
        """Numbers in one input."""
        if not self.channels:
            return self.layer_sizes[0]
        return self.channels[0] * self.side(0) ** 2

    def side(self, layer: int) -> int:
        """Height and width of the image before convolution `layer`."""
        convolutions = len(self.channels) - 1
        last = round((self.layer_sizes[0] / self.channels[-1]) ** 0.5)
        return last * 2 ** (convolutions - layer)

    def names(self) -> list[str]:
        """Places of the layers with weights in a Sequential: [Unflatten, Conv2d, activation, ..., Flatten,] Linear, ..."""
        convolutions = max(len(self.channels) - 1, 0)
        first = [1 + 2 * k for k in range(convolutions)]
        begin = 2 * convolutions + 2 if convolutions else 0
        return [str(n) for n in first + [begin + 2 * k for k in range(len(self.layer_sizes) - 1)]]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names, as `torch.nn.Sequential` gives them, with their shapes."""
        weights: list[tuple[int, ...]] = [(b, a, 3, 3) for a, b in pairwise(self.channels)]
        weights += [(b, a) for a, b in pairwise(self.layer_sizes)]
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in zip(self.names(), weights, strict=True):
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return shapes

    def precisions(self) -> dict[str, float]:
        """Prior precision of each parameter: fan-in for a weight, 1 for a bias."""
        return {name: float(math.prod(shape[1:])) for name, shape in self.shapes().items()}

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Synthetic inputs `[num_data, in]` and targets: `[num_data, 1]` floats or `[num_data]` class indices."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.num_data, self.inputs), dtype=np.float32)
        if self.kind == "regression":
            noise = 0.1 * rng.standard_normal((self.num_data, 1), dtype=np.float32)
            return x, np.sin(x[:, :1]) + np.float32(0.3) * x[:, 1:2] + noise
        teacher = rng.standard_normal((self.inputs, self.layer_sizes[-1]), dtype=np.float32)
        return x, (x @ teacher).argmax(1)

    def prior_draws(self, chains: int, seed: int) -> dict[str, np.ndarray]:
        """Independent prior draws, each `[chains, *shape]`, float32: where the chains start."""
        rng = np.random.default_rng(seed)
        return {
            name: (rng.standard_normal((chains, *shape)) / self.precisions()[name] ** 0.5).astype(np.float32)
            for name, shape in self.shapes().items()
        }

    def log_density(self, theta: Parameters) -> float:
        """Full-data log density at `theta` less that at theta = 0, in float64: what each contender is checked against."""
        return self._log_density(theta) - self._log_density(
            {name: 0.0 * value for name, value in theta.items()}
        )

    def _log_density(self, theta: Parameters) -> float:
        x, y = self.data()
        hidden = x.astype(np.float64)
        names = self.names()
        for layer, name in enumerate(names):
            weight, bias = theta[f"{name}.weight"], theta[f"{name}.bias"]
            if layer < len(self.channels) - 1:
                size = self.side(layer)
                hidden = _convolve(hidden.reshape(len(x), -1, size, size), weight) + bias[:, None, None]
            else:
                hidden = hidden.reshape(len(x), -1) @ weight.T + bias
            if layer < len(names) - 1:
                hidden = np.tanh(hidden) if self.activation == "tanh" else np.maximum(hidden, 0.0)
        log_prior = -0.5 * sum(
            p * float(np.square(theta[name]).sum()) for name, p in self.precisions().items()
        )
        if self.kind == "regression":
            return log_prior - 0.5 * float(np.square(hidden - y).sum()) / self.noise_scale**2
        hidden = hidden - hidden.max(1, keepdims=True)
        log_probs = hidden - np.log(np.exp(hidden).sum(1, keepdims=True))
        return log_prior + float(log_probs[np.arange(len(y)), y].sum())


def _convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3×3, stride 2, padding 1; x [rows, in, side, side]."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = (x.shape[-1] - 2) // 2
    taps = ((i, j, x[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2]) for i in range(3) for j in range(3))
    return sum(np.einsum("nchw,dc->ndhw", part, weight[:, :, i, j], optimize=True) for i, j, part in taps)
