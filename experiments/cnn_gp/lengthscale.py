"""Correlated weights on CIFAR-10: accuracy against the lengthscale of the readout, from independent weights to mean pooling."""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from offsets import offset_sums, readout
from rich.console import Console
from torch import Tensor
from torch.nn.functional import avg_pool2d

import bnnpriors as bp
from bnnpriors import infinite

HERE = Path(__file__).parent
LENGTHSCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, math.inf)
"""In positions; 0: independent weights, infinity: mean pooling."""
SIDE = 100
"""Images along a block."""


def kernels(
    x1: Tensor, x2: Tensor | None, depth: int, folder: Path, name: str, deadline: float
) -> Tensor | None:
    """K for every lengthscale, [lengthscales, n, m]; None where the clock ran out. Blocks are files, computed once."""
    size = (x1.shape[-2], x1.shape[-1])
    tables = torch.stack([readout(size, value) for value in LENGTHSCALES], -1)
    others = x1 if x2 is None else x2
    result = torch.empty(len(LENGTHSCALES), len(x1), len(others), dtype=torch.float64)
    for i in range(0, len(x1), SIDE):
        for j in range(i if x2 is None else 0, len(others), SIDE):
            file = folder / f"{name}-{i:05d}-{j:05d}.npy"
            if not file.is_file():
                if time.monotonic() > deadline:
                    return None
                block = offset_sums(x1[i : i + SIDE], others[j : j + SIDE], depth).double() @ tables
                with file.with_suffix(".partial").open("wb") as stream:
                    np.save(stream, block.numpy())
                file.with_suffix(".partial").replace(file)
            block = torch.from_numpy(np.load(file)).movedim(-1, 0)
            result[:, i : i + SIDE, j : j + SIDE] = block
            if x2 is None and i != j:
                result[:, j : j + SIDE, i : i + SIDE] = block.mT
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder cifar-10-batches-bin")
    parser.add_argument("--runs", type=Path, default=Path("runs/cnn_gp"), help="where the kernel matrices go")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where lengthscale.csv goes")
    parser.add_argument(
        "--train", type=int, nargs="+", default=[600], help="training images: one or more sizes"
    )
    parser.add_argument("--test", type=int, default=600, help="test images")
    parser.add_argument("--pool", type=int, default=4, help="images are averaged over squares of this side")
    parser.add_argument("--depth", type=int, default=5, help="convolutions; 14 for the published network")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop computing kernels after this time")
    args = parser.parse_args()
    most = max(args.train)
    data = bp.datasets.cifar10(args.data, num_train=most, num_test=args.test)
    train, test = (avg_pool2d(x, args.pool) for x in (data.x_train, data.x_test))
    folder = args.runs / f"cifar-{args.depth}-layers-{train.shape[-1]}"
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    own = kernels(train, None, args.depth, folder, "train", deadline)
    cross = None if own is None else kernels(train, test, args.depth, folder, "test", deadline)
    if own is None or cross is None:
        Console(stderr=True).print("out of time: give the same command again")
        return
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
            for lengthscale, gram, across in zip(LENGTHSCALES, own, cross, strict=True):
                both = torch.cat([gram[:count, :count], across[:count]], 1)
                level = (
                    gram.diagonal().mean()
                )  # variances of test images are of the same size, and rank nothing here
                variances = torch.cat([gram.diagonal()[:count], level.expand(args.test)])
                kernel = infinite.PrecomputedKernel(both, variances)
                classifier = infinite.LeastSquaresClassifier(
                    kernel, torch.arange(count), data.y_train[:count], num_classes=10
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
