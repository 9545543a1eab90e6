"""Correlated weights on CIFAR-10: accuracy against the lengthscale of the readout, from independent weights to mean pooling."""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

import bnnpriors as bp
from bnnpriors import infinite

HERE = Path(__file__).parent
LENGTHSCALES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
"""In positions; between 0 (independent weights) and infinity (mean pooling)."""


def kernel(shape: tuple[int, int, int], depth: int, lengthscale: float) -> infinite.InfiniteWidthKernel:
    """Of `depth` convolutions 3 × 3 with ReLU, σ_w² = 2, no biases, and a readout with Matérn-3/2 correlation between positions:
    `zoo.cnn_gp_14` with 14. Widths play no part.
    """
    size = (shape[1], shape[2])
    body: list[nn.Module] = []
    for channels in (shape[0], *(depth - 1) * [1]):
        body += [nn.Conv2d(channels, 1, 3, padding=1, bias=False), nn.ReLU()]
    prior: bp.priors.Prior = bp.priors.Normal(0.0, bp.priors.fan_in())
    if lengthscale == 0:
        head: list[nn.Module] = [nn.Flatten(), nn.Linear(math.prod(size), 1, bias=False)]
    elif lengthscale == math.inf:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False)]
    else:
        head = [nn.Conv2d(1, 1, size, bias=False), nn.Flatten()]
        prior = bp.priors.CorrelatedNormal(bp.priors.fan_in(), "matern32", lengthscale)
    net = nn.Sequential(nn.Sequential(*body), nn.Sequential(*head))
    return infinite.kernel(
        bp.attach(net, {"1.*": prior, "*": bp.priors.Normal(0.0, bp.priors.fan_in(2**0.5))})
    )


def kernels(x1: Tensor, x2: Tensor | None, depth: int) -> dict[float, Tensor]:
    """K for every lengthscale, [n, m]: one pass for each end, and one for all between them."""
    shape = (x1.shape[1], x1.shape[2], x1.shape[3])
    between = kernel(shape, depth, 1.0).lengthscale_sweep(x1, x2, lengthscales=LENGTHSCALES)
    found = {length: kernel(shape, depth, length).gram(x1, x2) for length in (0.0, math.inf)}
    return dict(sorted((found | dict(zip(LENGTHSCALES, between, strict=True))).items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder cifar-10-batches-bin")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where lengthscale.csv goes")
    parser.add_argument(
        "--train", type=int, nargs="+", default=[600], help="training images: one or more sizes"
    )
    parser.add_argument("--test", type=int, default=600, help="test images")
    parser.add_argument("--pool", type=int, default=4, help="images are averaged over squares of this side")
    parser.add_argument("--depth", type=int, default=5, help="convolutions; 14 for the published network")
    args = parser.parse_args()
    most = max(args.train)
    data = bp.datasets.cifar10(args.data, num_train=most, num_test=args.test)
    train, test = (avg_pool2d(x, args.pool) for x in (data.x_train, data.x_test))
    own, cross = kernels(train, None, args.depth), kernels(train, test, args.depth)
    shape = (train.shape[1], train.shape[2], train.shape[3])
    new = {length: kernel(shape, args.depth, length).variance(test).detach() for length in own}
    args.results.mkdir(parents=True, exist_ok=True)
    with (args.results / "lengthscale.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "train",
                "test",
                "size",
                "depth",
                "lengthscale",
                "accuracy",
                "accuracy_se",
                "nll",
                "log_evidence",
            ]
        )
        for count in args.train:
            for lengthscale, gram in own.items():
                variances = torch.cat([gram.diagonal()[:count], new[lengthscale]])
                both = [gram[:count, :count], cross[lengthscale][:count]]
                points = infinite.PrecomputedKernel(both, variances)
                classifier = infinite.LeastSquaresClassifier(
                    points, torch.arange(count), data.y_train[:count], num_classes=10
                )
                pred = classifier.predict(torch.arange(count, count + args.test))
                figures = bp.evaluate(pred, data.y_test)
                evidence = classifier.regression.log_marginal_likelihood().item()
                row = [count, args.test, train.shape[-1], args.depth, lengthscale]
                writer.writerow(
                    row
                    + [f"{figures[k]:.4f}" for k in ("accuracy", "accuracy_se", "nll")]
                    + [f"{evidence:.1f}"]
                )


if __name__ == "__main__":
    main()
