"""What a step of SGHMC costs beside a step of plain SGD: ResNet-20 of 3 × 32 × 32 images, batches of 128.

    python -m benchmarks.resnet20                     # 12 pairs of steps on the CPU, one thread
    python -m benchmarks.resnet20 --device cuda --pairs 200
    python -m benchmarks.resnet20 --optimizer SGLD --threads 2

Both train the same network on the same batch: `torch.optim.SGD` with momentum 0.9 on the mean cross-entropy, and the optimizer
of `bp.optim` on `bp.potential`, the same loss with the log prior of every weight. Steps alternate (A B B A ...); the figure is
the ratio of the least times, with the median of the ratios within a pair.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import bnnpriors as bp

NUM_DATA, BATCH = 50_000, 128


def plain(x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    """A step of SGD with momentum."""
    net = bp.models.resnet20().to(x.device)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()

    return step


def sampling(x: torch.Tensor, y: torch.Tensor, name: str) -> Callable[[], None]:
    """A step of an optimizer of `bp.optim`."""
    model = bp.attach(bp.models.resnet20().to(x.device), bp.priors.Normal())
    likelihood = bp.likelihoods.Categorical()
    opt = getattr(bp.optim, name)(model.parameters(), lr=0.01, num_data=NUM_DATA)

    def step() -> None:
        opt.zero_grad()
        bp.potential(model, likelihood, x, y, num_data=NUM_DATA).backward()
        opt.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    """The time of one step."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="where to run")
    parser.add_argument("--optimizer", default="SGHMC", choices=("SGLD", "SGHMC", "BAOAB", "GGMC", "SGNHT"))
    parser.add_argument(
        "--pairs", type=int, default=12, help="pairs of steps that are counted, after two that are not"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, device=options.device)
    y = torch.randint(10, (BATCH,), device=options.device)
    steps = [plain(x, y), sampling(x, y, options.optimizer)]
    pairs = []
    for index in range(options.pairs + 2):
        order = (0, 1) if index % 2 else (1, 0)
        times = {which: seconds(steps[which], options.device) for which in order}
        if index >= 2:
            pairs.append((times[0], times[1]))
    base, ours = (min(pair[k] for pair in pairs) for k in (0, 1))
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"SGD {1e3 * base:.1f} ms, {options.optimizer} {1e3 * ours:.1f} ms a step (least of {options.pairs})"
    )
    print(f"ratio {ours / base:.3f}, median within pairs {ratio:.3f}")


if __name__ == "__main__":
    main()
