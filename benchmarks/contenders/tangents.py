"""Seconds of a pair of images in neural-tangents, in an environment that has it:

python tangents.py NETWORK DTYPE SECONDS THREADS
"""

from __future__ import annotations

import os
import sys
import time
import types
from typing import Any

NETWORK, DTYPE, SECONDS, THREADS = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
os.environ["JAX_ENABLE_X64"] = "1" if DTYPE == "float64" else "0"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.modules["neural_tangents.experimental"] = types.ModuleType(
    "experimental"
)  # needs TensorFlow, kernels do not

import jax  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402


def conv(size: int, weight: float, bias: float = 0.0, stride: int = 1, padding: str = "SAME") -> Any:
    """A convolution with these variances, of a weight per tap and of a bias."""
    std = (weight * size * size) ** 0.5
    return stax.Conv(1, (size, size), (stride, stride), padding, W_std=std, b_std=bias**0.5 or None)


def convnet() -> Any:
    """The ConvNet GP."""
    layers = [layer for _ in range(7) for layer in (conv(7, 2.79, 7.86), stax.Relu())]
    return stax.serial(*layers, stax.Flatten(), stax.Dense(1, W_std=2.79**0.5, b_std=7.86**0.5))


def as_gaussian() -> Any:
    """The identity, after which a sum does not refuse what is not Gaussian: the published kernel is that of no network."""
    return (
        lambda _, shape: (shape, ()),
        lambda _, x, **given: x,
        lambda k, **given: k.replace(is_gaussian=True),
    )


def residual() -> Any:
    """The Residual CNN GP."""
    blocks = [
        layer
        for _ in range(8)
        for layer in (
            stax.FanOut(2),
            stax.parallel(as_gaussian(), stax.serial(conv(4, 7.27, 4.69), stax.Relu(), as_gaussian())),
            stax.FanInSum(),
        )
    ]
    head = (conv(4, 7.27, 4.69), stax.Relu(), stax.Flatten(), stax.Dense(1, W_std=7.27**0.5, b_std=4.69**0.5))
    return stax.serial(*blocks, *head)


def resnet() -> Any:
    """The ResNet-32 GP."""

    def block(stride: int, is_first: bool) -> Any:
        branch = (conv(3, 1 / 9, stride=stride), stax.Relu(), conv(3, 1 / 9))
        if is_first:
            both = stax.parallel(stax.serial(*branch), conv(1, 1.0, stride=stride))
            return stax.serial(stax.Relu(), stax.FanOut(2), both, stax.FanInSum())
        both = stax.parallel(stax.serial(stax.Relu(), *branch), stax.Identity())
        return stax.serial(stax.FanOut(2), both, stax.FanInSum())

    blocks = [block(stride if i == 0 else 1, i == 0) for stride in (1, 2, 2) for i in range(5)]
    head = (conv(7, 1 / 49, padding="VALID"), stax.Relu(), stax.Flatten(), stax.Dense(1))
    return stax.serial(conv(3, 1 / 9), *blocks, *head)


def main() -> None:
    """Print the least time of a pair, over block sizes and repetitions; processor time with one thread."""
    kernel = {"ConvNet GP": convnet, "Residual CNN GP": residual, "ResNet-32 GP": resnet}[NETWORK]()[2]
    compiled = jax.jit(lambda a, b: kernel(a, b, "nngp"))
    clock = time.process_time if THREADS == 1 else time.perf_counter
    best = float("inf")
    for count in (16, 32):
        x = np.random.default_rng(0).random((2, count, 28, 28, 1)).astype(DTYPE)
        compiled(x[0], x[1]).block_until_ready()
        end = time.perf_counter() + SECONDS / 2
        while True:
            start = clock()
            compiled(x[0], x[1]).block_until_ready()
            best = min(best, (clock() - start) / count**2)
            if time.perf_counter() > end:
                break
    print(best)


if __name__ == "__main__":
    main()
