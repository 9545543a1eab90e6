"""How a run evaluates its potentials: chains in one call, examples in one call, traced or compiled.

Short runs take a fixed rule: dense networks run eight chains at a time (which fits the cache), other networks one after
the other, accelerators all at once; compiled programs run on as many threads as torch has, each with its own chains. Long
runs, and those for which compiled programs are asked, measure candidates once on this machine (`bnnpriors.timings`) and
remember the figures, so that the same problem gets the same plan, and with it the same bits, the next time. `chunk_size` and
`compile` of `bp.sample` together fix the plan.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .batched import is_dense
from .programs import Plan
from .timings import Timings
from .tracing import CompileError
from .workers import onednn_pays

if TYPE_CHECKING:
    from .posterior import Posterior

logger = logging.getLogger("bnnpriors")

BLOCK_BYTES = 256 * 2**20
MEASURE_ABOVE = 15.0
COMPILE_ABOVE = 45.0
CHUNK = 8
BARRIERS = 1.2  # the best of a few timings flatters operations whose threads wait for one another: another process stops them


def default_plan(
    posterior: Posterior, num_chains: int, chunk_size: int | None = None, compiled: bool = False
) -> Plan:
    """The fixed rule."""
    if chunk_size is None:
        x = posterior.data.x
        dense = x is None or is_dense(posterior.forward_for(x))
        chunk_size = num_chains if posterior.device.type != "cpu" else CHUNK if dense else 1
    if chunk_size < 1:
        raise ValueError(f"chunk_size {chunk_size} given, expected 1 or more chains")
    return _plan(
        posterior, num_chains, chunk_size, _threads(posterior, num_chains) if compiled else 1, compiled
    )


def choose_plan(
    posterior: Posterior,
    theta: Tensor,
    gradients: tuple[float, float],
    *,
    chunk_size: int | None,
    compile: bool | None,
) -> Plan:
    """The plan for a run of all chains in `theta`.

    Args:
        gradients: how many exact ones and estimates (`Sampler.gradients`) the whole run takes of each chain.
        chunk_size, compile: fixed by the user where they are not None.
    """
    chains = theta.shape[0]
    plan = default_plan(posterior, chains, chunk_size, bool(compile))
    if posterior.device.type != "cpu" or (chunk_size is not None and compile is not None):
        return plan
    timings = Timings(posterior, theta, gradients)
    if not compile:
        if timings.estimate(plan._replace(compiled=False, workers=1)) < MEASURE_ABOVE:
            return plan
        sizes = [chunk_size] if chunk_size is not None else sorted({1, min(CHUNK, chains), chains})
        threads = _threads(posterior, chains)
        pairs = [(size, count) for count in sorted({1, threads}) for size in sizes]
        candidates = list(dict.fromkeys(_plan(posterior, chains, *pair, False) for pair in pairs))
        plan = min(candidates, key=lambda p: timings.seconds(p) * (BARRIERS if p.workers < threads else 1.0))
        if compile is None and timings.seconds(plan) > COMPILE_ABOVE:
            plan = _compiled_if_it_pays(
                timings, plan, _plan(posterior, chains, plan.chunk_size, threads, True)
            )
    variants = [plan]
    if posterior.dtype == torch.float32 and onednn_pays():
        variants.append(plan._replace(onednn=True))
    if plan.workers == 1 and torch.get_num_threads() > 1:
        variants += [variant._replace(ahead=True) for variant in variants]
    return min(variants, key=timings.seconds)


def _compiled_if_it_pays(timings: Timings, plan: Plan, compiled: Plan) -> Plan:
    try:
        pays = timings.seconds(plan) - timings.seconds(compiled) > 2 * timings.setup(compiled)
        if pays:
            timings.build(compiled)  # the figures may be older than the compiler's last breakage
    except CompileError as error:
        logger.warning("programs stay uncompiled, about half as fast: %s", error)
        return plan
    return compiled if pays else plan


def _threads(posterior: Posterior, chains: int) -> int:
    """Threads that can share the chains: torch's own number, or one where there are fewer chains than that."""
    threads = torch.get_num_threads() if posterior.device.type == "cpu" else 1
    return threads if chains >= threads else 1


def _plan(posterior: Posterior, chains: int, chunk_size: int, workers: int, compiled: bool) -> Plan:
    chunk_size = min(chunk_size, -(-chains // workers))
    return Plan(chunk_size, _block_size(posterior, chunk_size), compiled, workers)


def _block_size(posterior: Posterior, chunk_size: int) -> int:
    """Examples a call such that activations, forward and backward, stay near `BLOCK_BYTES`."""
    x = posterior.data.x
    if x is None:
        return 1
    numbers = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal numbers
        if isinstance(output, Tensor):
            numbers += output.numel()

    hooks = [m.register_forward_hook(count) for m in posterior.model.modules() if not list(m.children())]
    try:
        with torch.no_grad():
            posterior.model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    copies = 1 if posterior.augmented is None else posterior.augmented.num_samples
    image_bytes = 3 * chunk_size * x.element_size() * max(numbers, 1) + x[0].numel() * x.element_size()
    images = max(32, BLOCK_BYTES // image_bytes)
    return max(1, min(len(x), images // copies))
