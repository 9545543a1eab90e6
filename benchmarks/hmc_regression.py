"""Job: full-batch HMC on a small regression network; gradient evaluations per second at 1 to 512 chains."""

from benchmarks.harness import Entry
from benchmarks.problem import Problem

PROBLEM = Problem(
    name="hmc_regression",
    title="HMC, 13-50-50-1 tanh, 455 rows, full batch, 50 leapfrog steps a draw, float32",
    sampler="hmc",
    layer_sizes=(13, 50, 50, 1),
    activation="tanh",
    kind="regression",
    num_data=455,
    step_size=1e-3,
    steps_per_block=500,
    steps_per_draw=50,
    chains=(1, 8, 64, 512),
)

CONTENDERS = (
    Entry("bnnpriors", "ours", ("torch", "bnnpriors"), ours=True),
    Entry("blackjax", "blackjax", ("jax", "blackjax")),
    Entry("blackjax, a device a core", "blackjax_devices", ("jax", "blackjax"), chains=(8, 64, 512)),
    Entry("numpyro", "numpyro", ("jax", "numpyro")),
    Entry("posteriors (BAOA)", "posteriors", ("torch", "posteriors")),
    Entry("pyro", "pyro", ("torch", "pyro"), chains=(1,)),
)
