"""Random search over convolutional GPs, as for 1808.05587: networks drawn at random, ranked by their validation error."""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch import nn

import bnnpriors as bp
from bnnpriors import infinite

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """One network: `depth` convolutions of equal size with a nonlinearity after each, and a dense layer.

    Attributes:
        weight_variance: σ_w². bias_variance: σ_b². filter_size: of every convolution. skip: convolutions that each sum jumps
        over; 0 without sums.
    """

    weight_variance: float
    bias_variance: float
    depth: int
    filter_size: int
    stride: int
    padding: Literal["valid", "same"]
    nonlinearity: Literal["relu", "erf"]
    skip: int


def draw(seed: int) -> Settings:
    """A network from the ranges of the published search; with sums it is deeper, and without strides.

    Convolutions that would leave nothing of a 28 × 28 image are left out.
    """
    random = np.random.default_rng(seed)
    skip = int(random.integers(1, 3)) if random.random() < 0.5 else 0
    depth = int(random.integers(4, 16) if skip else random.integers(2, 9))
    size = int(random.integers(3, 7 if skip else 8))
    stride = 1 if skip else int(random.integers(1, 4))
    padding: Literal["valid", "same"] = "same" if skip or random.random() < 0.5 else "valid"
    length, possible = 28, 0
    while possible < depth and (padding == "same" or length >= size) and (stride == 1 or length > 1):
        length = -(-length // stride) if padding == "same" else (length - size) // stride + 1
        possible += 1
    return Settings(
        weight_variance=float(random.uniform(0.5, 8.5)),
        bias_variance=float(random.uniform(0.2, 8.2)),
        depth=possible,
        filter_size=size,
        stride=stride,
        padding=padding,
        nonlinearity="relu" if random.random() < 0.5 else "erf",
        skip=skip,
    )


class Erf(nn.Module):
    """erf(x)."""

    def forward(self, x: Any) -> Any:
        """Of a tensor, or a proxy where the network is traced."""
        return torch.erf(x)


class Network(nn.Module):
    """The network of some settings, for images [n, 1, 28, 28]; one channel, as widths play no part in the kernel."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        size, self.skip = settings.filter_size, settings.skip
        low = (size - 1) // 2 if settings.padding == "same" else 0
        high = size - 1 - low if settings.padding == "same" else 0
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.ZeroPad2d((low, high, low, high)), nn.Conv2d(1, 1, size, settings.stride))
            for _ in range(settings.depth)
        )
        self.nonlinearity = nn.ReLU() if settings.nonlinearity == "relu" else Erf()
        with torch.no_grad():
            features = self._body(torch.zeros(1, 1, 28, 28)).numel()
        self.readout = nn.Linear(features, 1)

    def forward(self, x: Any) -> Any:
        """Of a tensor, or a proxy where the network is traced."""
        return self.readout(self._body(x).flatten(1))

    def _body(self, x: Any) -> Any:
        h = before = self.convolutions[0](x)
        for number, convolution in enumerate(self.convolutions[1:], 1):
            h = convolution(self.nonlinearity(h))
            if self.skip and number % self.skip == 0:
                h = before = h + before
        return self.nonlinearity(h)


def kernel(settings: Settings) -> infinite.InfiniteWidthKernel:
    """The kernel of a network."""
    priors = {
        "*.weight": bp.priors.Normal(0.0, bp.priors.fan_in(settings.weight_variance**0.5)),
        "*.bias": bp.priors.Normal(0.0, settings.bias_variance**0.5),
    }
    return infinite.kernel(bp.attach(Network(settings), priors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--draws", type=int, default=20, help="networks")
    parser.add_argument("--train", type=int, default=300, help="training images")
    parser.add_argument(
        "--validation", type=int, default=300, help="validation images: the training images that follow"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where search.csv goes")
    args = parser.parse_args()
    data = bp.datasets.idx(args.data, num_train=args.train + args.validation, num_test=1, flatten=False)
    x, y = data.denormalize(data.x_train), data.y_train
    args.results.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(args.draws):
        settings = draw(seed)
        classifier = infinite.LeastSquaresClassifier(
            kernel(settings), x[: args.train], y[: args.train], num_classes=10
        )
        figures = bp.evaluate(classifier.predict(x[args.train :]), y[args.train :])
        row = {"seed": seed, "error": round(1 - figures["accuracy"], 4), "nll": round(figures["nll"], 4)}
        rows.append(row | asdict(settings))
        Console(stderr=True).print(rows[-1])
    with (args.results / "search.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["error"]))


if __name__ == "__main__":
    main()
