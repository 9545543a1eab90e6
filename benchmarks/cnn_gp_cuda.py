"""What one pair of images costs in the kernels of infinitely wide convolutional networks on a GPU, by Triton and in torch.

    python -m benchmarks.cnn_gp --device cuda         # or cuda:1; --seconds, --only and --without-torch as on the CPU

A figure is the least of several repetitions, from one synchronisation with the device to the next, of a block of `IMAGES` with as
many others; what is known of each image by itself is prepared beforehand. "MNIST" is what 1.75 billion pairs take at that rate:
50,000 training images among themselves, and with 10,000 others. The error is the largest difference from the recursion in torch
in float64, over the geometric mean of two variances.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

import bnnpriors as bp
from bnnpriors.infinite.blocks import kernel_matrix, own_maps
from bnnpriors.infinite.triton_kernel import TritonKernel

from .cnn_gp import JOBS, Job

IMAGES = 2048
CHECKED = 64
FULL = ("correlated readout", "mean readout")
"""Networks with covariances of different positions, which torch does on a GPU."""
MNIST_PAIRS = 50_000 * 50_001 // 2 + 50_000 * 10_000


def least(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    """The shortest of the calls that fit into this time; one at least, after one that is not counted."""

    def once() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    best, end = once(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, once())
    return best


@torch.no_grad()
def measure(
    job: Job,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
    *,
    images: int = IMAGES,
    with_torch: bool,
) -> dict[str, float]:
    """Seconds of a pair, by Triton and in torch, of an image by itself, and of the first call; and the error."""
    kernel = bp.infinite.kernel(job.make(), mean_terms=job.mean_terms)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2 * images, *job.shape, generator=generator, dtype=torch.float64).to(device)
    few, inputs = x[: min(CHECKED, images)], x.to(dtype)
    expected = kernel_matrix(kernel._recursion(few), few, None, 2**28)[0]
    recursion = kernel._recursion(inputs)
    start = time.perf_counter()
    fused = TritonKernel(recursion, inputs)
    ours = fused.matrix(few.to(dtype), None, 2**28).double()
    found = {"first": time.perf_counter() - start}
    own = expected.diagonal()
    found["error"] = float(((ours - expected).abs() / (own[:, None] * own).sqrt()).max())
    one, other = fused.prepare(inputs[:images], 2**28), fused.prepare(inputs[images:], 2**28)
    found["fused"] = least(lambda: fused.block(one, other), seconds, device) / images**2
    found["image"] = least(lambda: fused.prepare(inputs[:images], 2**28), seconds / 4, device) / images
    if with_torch:
        some = inputs[: min(CHECKED, images)]
        maps = own_maps(recursion, some, 2**28)
        found["torch"] = (
            least(partial(recursion.cross, some, some, maps, maps), seconds, device) / len(some) ** 2
        )
    return found


def report(name: str, only: Sequence[str], seconds: float, *, with_torch: bool) -> None:
    """Print a table.

    Raises:
        SystemExit: there is no such device.
    """
    device = torch.device(name)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise SystemExit(
            f"--device {name}: expected cpu or cuda, and a GPU that torch sees; it sees none of that name"
        )
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}\n")
    names = [
        "network",
        "dtype",
        "Triton, ns a pair",
        "torch",
        "ratio",
        "MNIST, s",
        "error",
        "first call, s",
        "µs an image",
    ]
    print("| " + " | ".join(names) + " |")
    print("|---|---" + "|--:" * (len(names) - 2) + "|")
    for dtype in (torch.float32, torch.float64):
        for title, job in JOBS.items():
            if any(title.startswith(wanted) for wanted in only) and not title.endswith(FULL):
                print(
                    row(title, dtype, measure(job, dtype, device, seconds, with_torch=with_torch)), flush=True
                )


def row(title: str, dtype: torch.dtype, found: dict[str, float]) -> str:
    """A line of the table."""
    ours = found["fused"]
    cells = [title, str(dtype).removeprefix("torch."), f"{1e9 * ours:.3g}"]
    cells += [f"{1e9 * found['torch']:.3g}", f"{found['torch'] / ours:.3g}"] if "torch" in found else ["", ""]
    cells += [
        f"{MNIST_PAIRS * ours:.3g}",
        f"{found['error']:.1e}",
        f"{found['first']:.3g}",
        f"{1e6 * found['image']:.3g}",
    ]
    return "| " + " | ".join(cells) + " |"
