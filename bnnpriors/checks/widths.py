"""A kernel against the networks whose limit it is."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ..infinite.program import Dense
from ..infinite.trace import trace
from ..module import BayesianModule
from .covariances import KernelSubject
from .report import NotApplicable

DRAWS = 400
WIDTHS = (24, 96)
POINTS = 3


@torch.no_grad()
def check_networks(subject: KernelSubject) -> tuple[bool, str]:
    """Networks drawn from their priors have the kernel on average, and differ from it by 1/√width each.

    The covariance of the outputs given the hidden layers is σ_b² + σ_w² h hᵀ / F: the last layer is integrated out. Its mean over
    400 draws of width 96 is within 5.5 standard errors of K, beside the bias of a finite width, 2/width of the variance: 6
    entries, a false alarm of 3e-7. The ratio of spreads at widths 24 and 96 is 2, with a relative standard error of about 10 %;
    1.2 and 3.3, five of them away, are allowed.
    """
    if subject.networks is None:
        raise NotApplicable(
            "no networks= given, a function of the width that returns the model with its priors"
        )
    x = subject.x[:POINTS]
    kernel = subject.matrix(x)
    scale = kernel.diagonal().mean()
    spreads = []
    for width in WIDTHS:
        draws = (_covariances(subject.networks(width), x, subject.generator(width)) - kernel) / scale
        spreads.append(float(draws.square().mean().sqrt()))
    error = draws.std(0) / DRAWS**0.5
    bias = 2 / WIDTHS[1]
    away = float(((draws.mean(0).abs() - bias) / error).max())
    off = float(draws.mean(0).abs().max())
    ratio = spreads[0] / spreads[1]
    return (
        away <= 5.5 and 1.2 < ratio < 3.3,
        f"{DRAWS} networks of width {WIDTHS[1]}: mean {off:.1%} of a variance off, {away:.1f} standard errors beyond {bias:.1%}, "
        f"allowed 5.5; from width {WIDTHS[0]} to {WIDTHS[1]} the spread falls {ratio:.2f} times, expected 2, allowed 1.2 to 3.3",
    )


def _covariances(
    model: BayesianModule, x: Tensor, generator: torch.Generator
) -> Float64[Tensor, "draws points points"]:
    """The covariance of the outputs given the hidden layers, of each draw."""
    program = trace(model)
    last = program.nodes[-1]
    if not isinstance(last, Dense):
        raise NotApplicable(
            f"the network ends in {type(last).__name__}, and only a Linear layer is integrated out"
        )
    layer = program.layers[last.layer]
    caught: list[Tensor] = []
    head = model.net.get_submodule(layer.name)
    hook = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    dtype = next(model.parameters()).dtype
    try:
        for _ in range(DRAWS):
            model.sample_prior_(generator=generator)(x.to(dtype))
    finally:
        hook.remove()
    features = torch.stack(caught).double()
    return layer.bias_variance + layer.weight_variance * features @ features.mT / features.shape[-1]
