"""Job: SGLD on an MNIST-sized classifier; minibatch steps per second with 1 to 64 chains."""

from benchmarks.harness import Entry
from benchmarks.problem import Problem

PROBLEM = Problem(
    name="sgld_mlp",
    title="SGLD, 784-100-100-10 ReLU, 60,000 rows, batches of 128, float32, every 100th position kept",
    sampler="sgld",
    layer_sizes=(784, 100, 100, 10),
    activation="relu",
    kind="classification",
    num_data=60_000,
    step_size=1e-3,
    steps_per_block=100,
    steps_per_draw=100,
    chains=(1, 8, 64),
    batch_size=128,
)

CONTENDERS = (
    Entry("bnnpriors", "ours", ("torch", "bnnpriors"), ours=True),
    Entry("blackjax", "blackjax", ("jax", "blackjax")),
    Entry("blackjax, rbg random numbers", "blackjax_rbg", ("jax", "blackjax")),
    Entry("posteriors", "posteriors", ("torch", "posteriors")),
    Entry("eager torch", "eager_torch", ("torch",), chains=(1,)),
)
