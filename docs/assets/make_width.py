"""How finite networks approach their kernel, as `width.png`: the outputs' covariance given each draw of the hidden layers."""

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.evaluation.plots import COLOURS

P = bp.priors
WIDTHS, DRAWS, POINTS = (8, 16, 32, 64, 128, 256), 100, 5
HEAD = P.Normal(0.0, P.fan_in(1.3))


def dense(width: int) -> tuple[nn.Module, int, dict[str, object]]:
    """Two hidden layers; the second has heavy-tailed weights."""
    body = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
    return body, width, {"0.2.weight": P.StudentT(3.0, 0.0, P.fan_in(1.3), matched="variance")}


def pooled(width: int) -> tuple[nn.Module, int, dict[str, object]]:
    """Correlated filters and pooling."""
    convolutions = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    body = nn.Sequential(
        convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return body, width, {"0.2.weight": P.CorrelatedNormal(P.fan_in(1.3), "matern32", 1.0)}


NETWORKS: dict[str, tuple[Callable[[int], tuple[nn.Module, int, dict[str, object]]], tuple[int, ...]]] = {
    "two Tanh layers, Student-t(3) weights": (dense, (4,)),
    "two convolutions, correlated filters, pooling": (pooled, (1, 5, 5)),
}


def attached(
    make: Callable[[int], tuple[nn.Module, int, dict[str, object]]], width: int
) -> bp.BayesianModule:
    """The network of a width, with its priors."""
    body, features, priors = make(width)
    net = nn.Sequential(body, nn.Linear(features, 1, bias=False))
    return bp.attach(net, {**priors, "*.weight": HEAD, "*.bias": P.Normal(0.0, 0.3)})


@torch.no_grad()
def deviations(name: str) -> list[float]:
    """For each width the root mean square over draws and entries of the deviation from the kernel, over its mean diagonal."""
    make, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(POINTS, *shape, generator=generator)
    kernel = bp.infinite.kernel(attached(make, 2)).gram(x)
    result = []
    for width in WIDTHS:
        model, squares = attached(make, width), []
        for _ in range(DRAWS):
            features = model.sample_prior_(generator=generator).net[0](x)
            finite = 1.3**2 * features @ features.T / width
            squares.append(((finite - kernel) / kernel.diagonal().mean()).square().mean())
        result.append(float(torch.stack(squares).mean().sqrt()))
    return result


def main() -> None:
    """Draw, and save the figure."""
    warnings.simplefilter("ignore")
    figure, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    for colour, marker, name in zip(COLOURS, "os", NETWORKS, strict=False):
        values = deviations(name)
        slope = np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]
        label = f"{name}: slope {slope:.2f}"
        axis.loglog(WIDTHS, values, marker=marker, markersize=4, linewidth=1, color=colour, label=label)
        print(label, [round(value, 3) for value in values])
    axis.loglog(
        WIDTHS,
        [WIDTHS[0] ** 0.5 / width**0.5 for width in WIDTHS],
        color="0.6",
        linewidth=1,
        label="1/√width",
    )
    axis.set(xlabel="width", ylabel="deviation from the kernel", xticks=WIDTHS, xticklabels=WIDTHS)
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_name("width.png"), dpi=130)


if __name__ == "__main__":
    main()
