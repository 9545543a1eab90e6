"""Job: SGHMC on the classifier of `benchmarks.sgld_mlp`."""

from dataclasses import replace

from benchmarks import sgld_mlp
from benchmarks.harness import Entry

PROBLEM = replace(
    sgld_mlp.PROBLEM,
    name="sghmc_mlp",
    title=sgld_mlp.PROBLEM.title.replace("SGLD", "SGHMC"),
    sampler="sghmc",
    momentum_decay=0.9,
)

CONTENDERS = (
    *sgld_mlp.CONTENDERS,
    Entry("blackjax, a minibatch for 2 steps", "blackjax_fresh", ("jax", "blackjax")),
)
