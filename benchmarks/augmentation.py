"""What a minibatch gradient with K transformed copies of each image costs beside a plain one.

    python -m benchmarks.augmentation                        # MNIST's FCNN and CNN, K = 8, one thread
    python -m benchmarks.augmentation --networks fcnn --copies 4 --pairs 30

Both are the gradient estimate that samplers take, of one chain: 784–100–100–10 or `models.mnist_cnn`, on 28 × 28 images.
Transformations are a crop with padding 2 and a rotation by ±30°, fresh at each step. Gradients alternate (A B B A …); the figure
is the ratio of the least processor times. K = 8 is to cost at most 8.5 plain ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

import bnnpriors as bp
from bnnpriors.streams import Streams

BATCHES = {"fcnn": 128, "cnn": 32}


def gradient(name: str, likelihood: bp.likelihoods.Likelihood) -> Callable[[], None]:
    """One gradient estimate."""
    torch.manual_seed(0)
    shape = (1, 28, 28)
    x, y = torch.randn(1000, *shape), torch.randint(10, (1000,))
    net = bp.models.mnist_cnn() if name == "cnn" else bp.models.mlp(784, 10)
    if name == "fcnn":
        x = x.flatten(1)
    model = bp.attach(net, bp.priors.Normal(0.0, 0.05))
    target = bp.Posterior(model, likelihood, x, y, batch_size=BATCHES[name]).target(1)
    theta = model.layout.pack(model.latents()).detach()[None]
    streams = Streams(0, [(0, 0)], dtype=theta.dtype, device=theta.device)

    def step() -> None:
        target.gradient_estimate(theta, streams)

    return step


def seconds(step: Callable[[], None]) -> float:
    """Processor time of one step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--copies", type=int, default=8, help="K")
    parser.add_argument(
        "--pairs", type=int, default=12, help="pairs of gradients that are counted, after two that are not"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    transform = bp.transforms.Compose([bp.transforms.CropWithPadding(2), bp.transforms.Rotation(30.0)])
    for name in options.networks:
        shape = (1, 28, 28) if name == "fcnn" else None
        plain = bp.likelihoods.Categorical()
        for average in ("probs", "logits", "losses"):
            augmented = bp.likelihoods.Augmented(
                plain, transform, options.copies, average=average, image_shape=shape
            )
            steps = [gradient(name, plain), gradient(name, augmented)]
            pairs = []
            for index in range(options.pairs + 2):
                order = (0, 1) if index % 2 else (1, 0)
                times = {which: seconds(steps[which]) for which in order}
                if index >= 2:
                    pairs.append((times[0], times[1]))
            base, ours = (min(pair[k] for pair in pairs) for k in (0, 1))
            print(
                f"{name:5} {average:7} plain {1e3 * base:7.2f} ms, K = {options.copies} {1e3 * ours:7.2f} ms, "
                f"ratio {ours / base:.2f}"
            )


if __name__ == "__main__":
    main()
