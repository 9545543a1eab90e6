"""The three published convolutional GPs on MNIST: kernel matrices, then classification, for one or more training sizes.

The matrices go to folders tile by tile: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.cost import free_memory, size
from bnnpriors.disk import free_bytes
from bnnpriors.infinite import zoo
from bnnpriors.infinite.factor import check_memory, memory_to_solve
from bnnpriors.infinite.nngp import MEMORY
from bnnpriors.infinite.tile_work import duration, seconds_per_pair

NETWORKS = {"convnet": zoo.convnet_gp, "residual": zoo.residual_cnn_gp, "resnet": zoo.resnet32_gp}
FEW = 300
"""Points from which the scale of a softmax classifier is chosen."""
HERE = Path(__file__).parent
console = Console(stderr=True, highlight=False)


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


def announce(name: str, made: infinite.InfiniteWidthKernel, x: dict[str, Tensor], folder: Path) -> int:
    """Say what a network will take, before it begins; the number of pairs."""
    train = x["train"]
    pairs = len(train) * (len(train) + 1) // 2 + len(train) * (len(x["test"]) + len(x["ood"]))
    each = seconds_per_pair(made, train[:1024].numpy(), MEMORY, torch.device("cpu"))
    console.print(
        f"{name}: {', '.join(f'{len(values)} {part}' for part, values in x.items())} images, {pairs:.4g} pairs in "
        f"{train.dtype}\n"
        f"  time: at {1e6 * each:.3g} µs a pair, measured now, about {duration(pairs * each)} on {torch.get_num_threads()} "
        f"threads, less what is in {folder}\n"
        f"  disk: about {size(pairs * train.element_size())}, {size(free_bytes(folder))} is free\n"
        f"  memory: {size(memory_to_solve(len(train)))} for the solve, {size(free_memory())} is free; {size(MEMORY)} for a "
        "block of pairs until then"
    )
    return pairs


def grams(
    made: infinite.InfiniteWidthKernel, x: dict[str, Tensor], folder: Path
) -> tuple[dict[str, infinite.StoredGram], dict[str, float]]:
    """The matrices of the training images with those of each part, and the seconds that each took in all runs together."""
    clock, found = folder / "seconds.json", {}
    seconds: dict[str, float] = json.loads(clock.read_text()) if clock.is_file() else {}
    for part, values in x.items():
        key, start = f"{part}-{len(values)}", time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            others = None if part == "train" else values
            found[part] = made.gram(x["train"], others, out=folder / f"{key}.zarr", resume=True)
        finally:
            seconds[key] = seconds.get(key, 0.0) + time.monotonic() - start
            clock.write_text(json.dumps(seconds) + "\n")
    return found, {part: seconds[f"{part}-{len(values)}"] for part, values in x.items()}


def noise_and_scale(precomputed: infinite.PrecomputedKernel, train: Tensor, y: Tensor) -> dict[str, float]:
    """By leaving one out; here, so that the memory of it is free before all points are solved for."""
    targets = torch.nn.functional.one_hot(y, 10).double() - 0.1
    gp = infinite.GPRegression(precomputed, train, targets).select_noise("leave_one_out")
    return {"noise": gp.noise.item(), "scale": gp.scale.item()}


def classify(
    precomputed: infinite.PrecomputedKernel, labels: dict[str, Tensor], count: int, select: int, methods: list[str]
) -> dict[str, Any]:  # fmt: skip
    """What `bp.evaluate` says of each method trained on the first `count` points, and its seconds."""
    rows, points = precomputed.shape
    train, test = torch.arange(count), torch.arange(rows, rows + len(labels["test"]))
    ood = torch.arange(rows + len(test), points)
    y, results = labels["train"][:count], {}
    for method in methods:
        start = time.perf_counter()
        classifier: Any
        chosen: dict[str, float] = {}
        if method == "least squares":
            chosen = noise_and_scale(precomputed, train[:select], y[:select])
            classifier = infinite.LeastSquaresClassifier(precomputed, train, y, num_classes=10, **chosen)
            chosen |= {"jitter": classifier.regression.jitter, "temperature": classifier.temperature}
        elif method == "dirichlet":
            classifier = infinite.DirichletClassifier(precomputed, train, y, num_classes=10).fit(FEW)
        else:
            few = infinite.SoftmaxClassifier(precomputed, train[:FEW], y[:FEW], num_classes=10).fit()
            classifier = infinite.SoftmaxClassifier(
                precomputed, train, y, num_classes=10, num_inducing=min(count, 1000), scale=few.scale
            ).fit(learn_scale=False)
        figures = bp.evaluate(classifier.predict(test), labels["test"], ood=classifier.predict(ood))
        results[method] = figures | chosen | {"seconds": time.perf_counter() - start}
    return results


def write(file: Path, result: dict[str, Any]) -> None:
    """A file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(file)


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
    parser.add_argument(
        "--select", type=int, default=2000, help="first images by which noise and scale are chosen"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"], help="of the recursion")
    parser.add_argument("--only-kernels", action="store_true", help="compute the matrices, and stop there")
    parser.add_argument(
        "--swapped", action="store_true", help="train on the first test images, test on the next"
    )
    args = parser.parse_args()
    most, dtype = max(args.train), getattr(torch, args.dtype)
    x, labels = images(args.data, most, args.test, args.ood, swapped=args.swapped)
    x = {part: values.to(dtype) for part, values in x.items()}
    for name in args.networks:
        made, run = kernel(name), f"{name}-{args.dtype}{'-swapped' if args.swapped else ''}"
        folder = args.runs / f"{run}-{most:05d}"
        pairs = announce(name, made, x, folder)
        if not args.only_kernels:
            check_memory(most)
        found, seconds = grams(made, x, folder)
        if args.only_kernels:
            continue
        variances = torch.cat([made.variance(values).detach() for values in x.values()])
        precomputed = infinite.PrecomputedKernel(list(found.values()), variances)
        for count in args.train:
            result = {
                "network": name,
                "train": count,
                "test": args.test,
                "dtype": args.dtype,
                "swapped": args.swapped,
                "kernel_seconds": seconds,
                "kernel_pairs": pairs,
                "methods": classify(precomputed, labels, count, args.select, args.methods),
            }
            write(args.results / f"{run}-{count:05d}-{args.test:05d}.json", result)
            errors = {method: f"{1 - m['accuracy']:.2%}" for method, m in result["methods"].items()}
            console.print(f"{name}, {count} images: error {errors}")


if __name__ == "__main__":
    main()
