"""Where the chains of a run begin."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from .draws import Draws
from .posterior import Posterior
from .samplers import MAP
from .streams import Streams

MAP_STEPS = 1000
"""Of Adam, before a run with init="map"."""


def check_init(posterior: Posterior, init: Any, num_chains: int) -> None:
    """Raise ValueError or TypeError for a start that the run cannot have."""
    if isinstance(init, Draws):
        expected = (num_chains, posterior.layout)
        if (init.num_chains, init.layout) != expected:
            raise ValueError(
                f"sample: init of {init.num_chains} chains over {init.layout.dim} latents given, expected draws of the same "
                f"model "
                f"and of {num_chains} chains, all rungs together, over {posterior.dim} latents: each chain begins at its last "
                f"draw"
            )
    elif init not in ("prior", "model", "map"):
        raise ValueError(
            f"sample: init {init!r} given, expected 'prior', 'model', 'map' or the draws of another run"
        )


def identity_of(init: Any) -> str:
    """What a store remembers of the start."""
    if isinstance(init, Draws):
        return "draws " + hashlib.sha256(_last(init).numpy().tobytes()).hexdigest()[:16]
    return str(init)


def start(posterior: Posterior, streams: Streams, init: Any) -> Tensor:
    """θ of every chain, [chains, dim]."""
    if isinstance(init, Draws):
        return _last(init).to(posterior.device, posterior.dtype)
    if init == "model":
        return posterior.current().repeat(len(streams.generators), 1)
    theta = torch.stack([posterior.sample_prior(generator) for generator in streams.generators])
    return theta if init == "prior" else _maximum(posterior, theta, streams)


def _maximum(posterior: Posterior, theta: Tensor, streams: Streams) -> Tensor:
    """Where `MAP` comes to from θ, each chain by itself."""
    target, sampler = posterior.target(len(theta)), MAP()
    state = sampler.init(target, theta, streams)
    for index in range(MAP_STEPS):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, index, MAP_STEPS)
    return state.theta


def _last(draws: Draws) -> Tensor:
    return draws.theta[:, -1].contiguous()
