"""The three published convolutional GPs on MNIST: kernel matrices, then classification, for one or more training sizes."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from blocks import compute, read
from rich.console import Console
from torch import Tensor

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import zoo

NETWORKS = {"convnet": zoo.convnet_gp, "residual": zoo.residual_cnn_gp, "resnet": zoo.resnet32_gp}
SUBSET = 2000
"""Points from which the noise and scale of a regression are chosen."""
FEW = 300
"""Points from which the scale of a softmax classifier is chosen."""
HERE = Path(__file__).parent


def kernel(name: str) -> infinite.InfiniteWidthKernel:
    """The kernel of a published network; the Residual CNN GP without the products of means, as published."""
    return infinite.kernel(NETWORKS[name](), mean_terms=name != "residual")


def images(
    data: Path, train: int, test: int, ood: int, *, swapped: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Grey levels from 0 to 1 of the first images of MNIST and notMNIST, and labels.

    Args:
        swapped: train on the first test images, and test on those that follow them.
    """
    count = train + test if swapped else test
    mnist = bp.datasets.idx(
        data / "mnist", num_train=train, num_test=count, flatten=False, dtype=torch.float64
    )
    other = bp.datasets.out_of_distribution(mnist, data / "notmnist")[:ood]
    x = {"train": mnist.x_train, "test": mnist.x_test, "ood": other}
    y = {"train": mnist.y_train, "test": mnist.y_test}
    if swapped:
        x |= {"train": mnist.x_test[:train], "test": mnist.x_test[train:]}
        y = {"train": mnist.y_test[:train], "test": mnist.y_test[train:]}
    return {name: mnist.denormalize(values) for name, values in x.items()}, y


def seconds_per_pair(made: infinite.InfiniteWidthKernel, x: Tensor) -> float:
    """Measured on 64 × 64 images; the time that blocks took is in their files."""
    made.gram(x[:2], x[:2])
    start = time.perf_counter()
    made.gram(x[:64], x[:64])
    return (time.perf_counter() - start) / min(64, len(x)) ** 2


def classify(
    precomputed: infinite.PrecomputedKernel, labels: dict[str, Tensor], count: int, methods: list[str]
) -> dict[str, Any]:
    """What `bp.evaluate` says of each method trained on the first `count` points, and its seconds."""
    rows = precomputed.stored.shape[0]
    train = torch.arange(count)
    test = torch.arange(rows, rows + len(labels["test"]))
    ood = torch.arange(rows + len(test), precomputed.stored.shape[1])
    y, results = labels["train"][:count], {}
    for method in methods:
        start = time.perf_counter()
        classifier: Any
        if method == "least squares":
            targets = torch.nn.functional.one_hot(y[:SUBSET], 10).double() - 0.1
            gp = infinite.GPRegression(precomputed, train[:SUBSET], targets).select_noise("leave_one_out")
            classifier = infinite.LeastSquaresClassifier(
                precomputed, train, y, num_classes=10, noise=gp.noise.item(), scale=gp.scale.item()
            )
        elif method == "dirichlet":
            classifier = infinite.DirichletClassifier(precomputed, train, y, num_classes=10).fit(FEW)
        else:
            few = infinite.SoftmaxClassifier(precomputed, train[:FEW], y[:FEW], num_classes=10).fit()
            classifier = infinite.SoftmaxClassifier(
                precomputed, train, y, num_classes=10, num_inducing=min(count, 1000), scale=few.scale
            ).fit(learn_scale=False)
        figures = bp.evaluate(classifier.predict(test), labels["test"], ood=classifier.predict(ood))
        results[method] = figures | {"seconds": time.perf_counter() - start}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mnist/ and notmnist/ in IDX files"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/cnn_gp"), help="where the kernel matrices go")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results" / "mnist", help="where the figures go"
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument(
        "--train", type=int, nargs="+", default=[1000], help="training images: one or more sizes"
    )
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--ood", type=int, default=1000, help="images of notMNIST")
    parser.add_argument("--methods", nargs="+", default=["least squares"], help="also dirichlet, softmax")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"], help="of the recursion")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop computing kernels after this time")
    parser.add_argument(
        "--swapped", action="store_true", help="train on the first test images, test on the next"
    )
    args = parser.parse_args()
    most, console = max(args.train), Console(stderr=True)
    pairs = most * (most + 1) // 2 + most * (args.test + args.ood)
    gigabytes = most * (most + args.test + args.ood) * 8 / 1e9
    console.print(f"{pairs:.3g} pairs of images a network, and {gigabytes:.2g} GB for its matrix in float64")
    deadline = time.monotonic() + 60 * args.minutes
    x, labels = images(args.data, most, args.test, args.ood, swapped=args.swapped)
    for name in args.networks:
        made = kernel(name)
        folder = args.runs / f"{name}-{args.dtype}{'-swapped' if args.swapped else ''}"
        inputs = {part: values.to(getattr(torch, args.dtype)) for part, values in x.items()}
        minutes = pairs * seconds_per_pair(made, inputs["train"]) / 60
        console.print(f"{name}: about {minutes:.2g} minutes, less the blocks in {folder}")
        for part, others in (("train", None), ("test", inputs["test"]), ("ood", inputs["ood"])):
            if not compute(made, folder, part, inputs["train"], others, deadline):
                return
        parts = [read(folder, "train", most, None)]
        parts += [read(folder, part, most, len(x[part])) for part in ("test", "ood")]
        variances = torch.cat([made.variance(inputs[part]).detach().double() for part in inputs])
        precomputed = infinite.PrecomputedKernel(torch.cat([matrix for matrix, _ in parts], 1), variances)
        for count in args.train:
            result = {
                "network": name,
                "train": count,
                "test": args.test,
                "dtype": args.dtype,
                "swapped": args.swapped,
                "kernel_seconds": {part: seconds for part, (_, seconds) in zip(inputs, parts, strict=True)},
                "kernel_pairs": pairs,
                "methods": classify(precomputed, labels, count, args.methods),
            }
            args.results.mkdir(parents=True, exist_ok=True)
            file = args.results / f"{folder.name}-{count:05d}-{args.test:05d}.json"
            file.write_text(json.dumps(result, indent=1) + "\n")
            errors = {method: f"{1 - m['accuracy']:.2%}" for method, m in result["methods"].items()}
            console.print(f"{name}, {count} images: error {errors}")


if __name__ == "__main__":
    main()
