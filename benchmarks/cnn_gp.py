"""What one pair of images costs in the kernels of infinitely wide convolutional networks, fused and in torch.

    python -m benchmarks.cnn_gp                       # all networks, float32 and float64, one thread
    python -m benchmarks.cnn_gp --threads 2 --seconds 10 --only "CNN-GP-14"
    python -m benchmarks.cnn_gp --peer-python PATH    # beside neural-tangents, in an environment of its own
    python -m benchmarks.cnn_gp --device cuda         # on a GPU: cnn_gp_cuda.py

A figure is the least of many short repetitions: with one thread of processor time, which other processes disturb little; with
several of the time on the clock. Images are random; what is known of each by itself is prepared beforehand (a cost of each image,
not of each pair). The limit is the rate of multiply-adds in registers, measured by a few lines of C++, over the
multiplications that one entry of a layer takes.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import bnnpriors as bp
from bnnpriors import extension
from bnnpriors.infinite import zoo
from bnnpriors.infinite.blocks import own_maps
from bnnpriors.infinite.fused import FusedKernel

OPERATIONS = {torch.float32: 14, torch.float64: 23}
"""Multiplications and multiply-adds of one entry of a layer with ReLU: the affine map, ρ, κ by its polynomial, its factors. Sums
over windows and comparisons, ten more, have units of their own on some processors."""


@dataclass(frozen=True)
class Job:
    """A network, and how many images to take.

    Attributes:
        make: the network. shape: of an image. columns: of the tile that is timed. torch_images: of the block for torch.
    """

    make: Callable[[], bp.BayesianModule]
    shape: tuple[int, int, int]
    rows: int
    columns: int
    torch_images: tuple[int, ...]
    mean_terms: bool = True


MNIST = (1, 28, 28)
CIFAR = (3, 32, 32)
JOBS = {
    "ConvNet GP": Job(zoo.convnet_gp, MNIST, 32, 32, (4, 16, 64)),
    "Residual CNN GP": Job(zoo.residual_cnn_gp, MNIST, 32, 32, (4, 16, 64), mean_terms=False),
    "ResNet-32 GP": Job(zoo.resnet32_gp, MNIST, 32, 32, (4, 16, 64)),
    "CNN-GP-14, independent readout": Job(
        partial(zoo.cnn_gp_14, readout="independent"), CIFAR, 32, 32, (4, 16, 64)
    ),
    "CNN-GP-14, correlated readout": Job(partial(zoo.cnn_gp_14, readout=4.0), CIFAR, 1, 16, (1, 2)),
    "Myrtle10, mean readout": Job(zoo.myrtle10, CIFAR, 1, 16, (1, 2)),
}


PEAK = """
typedef float F __attribute__((vector_size(BYTES)));
typedef double D __attribute__((vector_size(BYTES)));
template <class V> static double spin(long count) {
    V sum[16] = {}, factor = sum[0] + 0.5f, term = sum[0] + 1.0f;
    for (long i = 0; i < count; i++)
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++) { sum[k] = sum[k] * factor + term; asm volatile("" : "+v"(sum[k])); }
    double total = 0;
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) total += sum[k][0];
    return total;
}
extern "C" double spin_float32(long count) { return spin<F>(count); }
extern "C" double spin_float64(long count) { return spin<D>(count); }
"""


def least(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the calls that fit into this time; one at least, after one that is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = clock()
        call()
        best = min(best, clock() - start)
    return best


def limit(dtype: torch.dtype, seconds: float) -> float:
    """Entries of layers a second and thread, if every vector operation ran as multiply-adds in registers do."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "peak.cpp", Path(folder) / "peak.so"
        source.write_text(PEAK)
        size = extension.load().bnnpriors_vector_bytes()  # type: ignore[union-attr]
        flags = {16: [], 32: ["-mavx2", "-mfma"], 64: ["-mavx512f", "-mfma"]}[size]
        command = ["g++", "-O3", f"-DBYTES={size}", *flags, "-shared", "-fPIC"]
        subprocess.run([*command, str(source), "-o", str(program)], check=True)
        spin = getattr(ctypes.CDLL(str(program)), f"spin_{dtype}".replace("torch.", ""))
        count, lanes = 100_000, size // dtype.itemsize
        return 16 * count * lanes / least(lambda: spin(ctypes.c_long(count)), seconds) / OPERATIONS[dtype]


@torch.no_grad()
def measure(job: Job, dtype: torch.dtype, seconds: float, *, with_torch: bool) -> dict[str, float]:
    """Seconds of a pair, fused and in torch, and of an image by itself; entries of layers of a pair."""
    kernel = bp.infinite.kernel(job.make(), mean_terms=job.mean_terms)
    x = torch.rand(job.rows + job.columns, *job.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    recursion = kernel._recursion(x)
    fused = FusedKernel(recursion, job.shape[0])
    one, other = fused.prepare(x[: job.rows], 2**24), fused.prepare(x[job.rows :], 2**24)
    pairs = job.rows * job.columns
    found = {
        "fused": least(lambda: fused.block(one, other), seconds) / pairs,
        "image": least(lambda: fused.prepare(x[: job.rows], 2**24), seconds / 4) / job.rows,
        "entries": float(fused.lowered.nonlinear),
    }
    if with_torch:
        blocks = []
        for count in job.torch_images:
            maps = own_maps(recursion, x[:count], 2**24)
            call = partial(recursion.cross, x[:count], x[:count], maps, maps)
            blocks.append(least(call, seconds / len(job.torch_images)) / count**2)
        found["torch"] = min(blocks)
    return found


def neural_tangents(python: str | None, name: str, dtype: torch.dtype, seconds: float, threads: int) -> float:
    """Seconds of a pair in neural-tangents, which lives in an environment of its own; NaN where it does not do the network."""
    if python is None or name not in ("ConvNet GP", "Residual CNN GP", "ResNet-32 GP"):
        return float("nan")
    script = Path(__file__).parent / "contenders" / "tangents.py"
    command = [python, str(script), name, str(dtype).removeprefix("torch."), str(seconds), str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="of all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of repetitions for each figure")
    parser.add_argument(
        "--only", nargs="*", default=list(JOBS), help="networks, by the beginning of their names"
    )
    parser.add_argument("--without-torch", action="store_true", help="leave out the recursion in torch")
    parser.add_argument("--peer-python", help="interpreter that has neural-tangents")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args()
    if given.device != "cpu":
        from .cnn_gp_cuda import report

        report(given.device, given.only, given.seconds, with_torch=not given.without_torch)
        return
    torch.set_num_threads(given.threads)
    names = ["network", "dtype", "fused, µs a pair", "torch", "ratio", "neural-tangents", "ratio"]
    names += ["entries/s", "of the limit", "µs an image"]
    print("| " + " | ".join(names) + " |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for dtype in (torch.float32, torch.float64):
        most = given.threads * limit(dtype, given.seconds)
        for name, job in JOBS.items():
            if not any(name.startswith(wanted) for wanted in given.only):
                continue
            found = measure(job, dtype, given.seconds, with_torch=not given.without_torch)
            ours, rate = found["fused"], found["entries"] / found["fused"]
            peer = neural_tangents(given.peer_python, name, dtype, given.seconds, given.threads)
            cells = [name, str(dtype).removeprefix("torch."), f"{1e6 * ours:.3g}"]
            for other in (found.get("torch", float("nan")), peer):
                cells += ["", ""] if math.isnan(other) else [f"{1e6 * other:.3g}", f"{other / ours:.3g}"]
            cells += [f"{rate:.2g}", f"{rate / most:.0%}", f"{1e6 * found['image']:.3g}"]
            print("| " + " | ".join(cells) + " |", flush=True)
        print(f"\nlimit in {dtype}: {most:.3g} entries/s\n")


if __name__ == "__main__":
    main()
