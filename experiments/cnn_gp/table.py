"""The tables and pictures of the README, from the results that the scripts left: `python experiments/cnn_gp/table.py`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

HERE = Path(__file__).parent / "results"
NAMES = {"convnet": "ConvNet GP", "residual": "Residual CNN GP", "resnet": "ResNet-32 GP"}
PUBLISHED = {"convnet": 1.03, "residual": 0.96, "resnet": 0.84}
METHODS = ("least squares", "dirichlet", "softmax")


def runs(*, num_methods: int = 1) -> list[dict[str, Any]]:
    """Results on MNIST by network and size, with so many methods at least; of several the one with the most test images."""
    found = [json.loads(file.read_text()) for file in sorted((HERE / "mnist").glob("*.json"))]
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for run in found:
        key = (run["network"], run["train"])
        if run["swapped"] or len(run["methods"]) < num_methods:
            continue
        if key not in best or run["test"] > best[key]["test"]:
            best[key] = run
    return [best[key] for key in sorted(best)]


def errors() -> str:
    """Test error of least squares by size."""
    sizes = sorted({run["train"] for run in runs()})
    lines = [
        "| network | " + " | ".join(f"{size:,}" for size in sizes) + " | paper, 50,000 |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for name, title in NAMES.items():
        found = {run["train"]: _error(run) for run in runs() if run["network"] == name}
        cells = [found.get(size, "–") for size in sizes]
        lines.append(f"| {title} | {' | '.join(cells)} | {PUBLISHED[name]} % |")
    return "\n".join(lines)


def methods() -> str:
    """The ways to classify, at the largest size that has all of them."""
    lines = [
        "| network | by | error | NLL | ECE | Brier | AUROC, notMNIST | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs(num_methods=len(METHODS)):
        for method in METHODS:
            m = run["methods"][method]
            error, calibration, name = 100 - 100 * m["accuracy"], 100 * m["ece"], NAMES[run["network"]]
            lines.append(
                f"| {name} | {method} | {error:.2f} % | {m['nll']:.3f} ± {m['nll_se']:.3f} | {calibration:.1f} % | "
                f"{m['brier']:.3f} | {m['auroc_ood']:.3f} | {m['seconds']:.0f} |"
            )
    return "\n".join(lines)


def learning_curve() -> None:
    """Error against the number of training images."""
    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for marker, (name, title) in zip("os^", NAMES.items(), strict=True):
        chosen = [run for run in runs() if run["network"] == name]
        x = [run["train"] for run in chosen]
        y = [100 - 100 * run["methods"]["least squares"]["accuracy"] for run in chosen]
        bars = [196 * run["methods"]["least squares"]["accuracy_se"] for run in chosen]
        line = axes.errorbar(x, y, bars, marker=marker, capsize=2, label=title)
        axes.plot([50_000], [PUBLISHED[name]], marker=marker, color=line[0].get_color(), mfc="none", ls="")
    axes.set(xscale="log", yscale="log", xlabel="training images", ylabel="test error, %")
    axes.plot([], [], "ko", mfc="none", ls="", label="published")
    axes.legend(frameon=False)
    figure.savefig(HERE / "learning-curve.png", dpi=130)


def lengthscales() -> str:
    """Accuracy on CIFAR-10 against the lengthscale, and its picture."""
    with (HERE / "lengthscale.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    counts = sorted({int(row["train"]) for row in rows})
    scales = [row["lengthscale"] for row in rows if int(row["train"]) == counts[0]]
    lines = [
        "| lengthscale | " + " | ".join(f"{count} images" for count in counts) + " |",
        "|---|" + "---|" * len(counts),
    ]
    names = {"0.0": "0 (independent)", "inf": "∞ (mean pooling)"}
    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    curves = {count: [row for row in rows if int(row["train"]) == count] for count in counts}
    for position, scale in enumerate(scales):
        cells = [f"{100 * float(curves[count][position]['accuracy']):.1f}" for count in counts]
        lines.append(f"| {names.get(scale, scale)} | {' | '.join(cells)} |")
    for marker, (count, curve) in zip("os^", curves.items(), strict=False):
        y = [100 * float(row["accuracy"]) for row in curve]
        axes.plot(range(len(y)), y, marker=marker, label=f"{count} images")
    axes.set_xticks(
        range(len(scales)), [{"0.0": "0", "inf": "∞"}.get(scale, f"{float(scale):g}") for scale in scales]
    )
    axes.set(xlabel="lengthscale of the readout, positions", ylabel="test accuracy, %")
    figure.legend(frameon=False, loc="outside upper center", ncols=len(curves))
    figure.savefig(HERE / "lengthscale.png", dpi=130)
    return "\n".join(lines)


def _error(run: dict[str, Any]) -> str:
    m = run["methods"]["least squares"]
    return f"{100 - 100 * m['accuracy']:.2f} ± {100 * m['accuracy_se']:.2f} %"


if __name__ == "__main__":
    learning_curve()
    print("\n\n".join([errors(), methods(), lengthscales()]))
