"""Job: SGLD on a small convnet; minibatch steps per second with 1 and 8 chains."""

from benchmarks.problem import Problem
from benchmarks.sgld_mlp import CONTENDERS

PROBLEM = Problem(
    name="sgld_convnet",
    title="SGLD, 1×28×28, conv 3×3 stride 2 to 8 and 16 channels, dense 784-10, ReLU, 10,000 rows, batches of 128, float32",
    sampler="sgld",
    layer_sizes=(784, 10),
    channels=(1, 8, 16),
    activation="relu",
    kind="classification",
    num_data=10_000,
    step_size=1e-3,
    steps_per_block=20,
    steps_per_draw=20,
    chains=(1, 8),
    batch_size=128,
)

__all__ = ["CONTENDERS", "PROBLEM"]
