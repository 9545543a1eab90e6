"""What makes two runs the same run: every setting that changes the draws, as plain values that can be stored and compared."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import Tensor

from .posterior import Posterior
from .samplers import Sampler


def fingerprint(posterior: Posterior, sampler: Sampler, **settings: Any) -> dict[str, Any]:
    """Model, priors, likelihood, data (by sha256), temperatures, sampler and the driver's own settings."""
    latents = {name for name, _ in posterior.layout.shapes}
    constants = {name: value for name, value in posterior.model.state_dict().items() if name not in latents}
    return {
        "model": _plain(posterior.model.net),
        "constants": _digest(*[v for k, v in sorted(constants.items()) if not k.startswith("hyper.")]),
        "priors": {name: _plain(prior) for name, prior in posterior.model.named_priors().items()},
        "likelihood": f"{type(posterior.likelihood).__name__} {_plain(posterior.likelihood)}",
        "latents": [[name, list(shape)] for name, shape in posterior.layout.shapes],
        "dtype": str(posterior.dtype),
        "device": posterior.device.type,
        "data": _digest(posterior.data.x, posterior.data.y),
        "temperatures": list(posterior.temperatures),
        "tempering": posterior.tempering,
        "batch_size": posterior.batch_size,
        "sampler": _plain(sampler),
        **settings,
    } | ({"start": _digest(posterior.current())} if settings.get("init") == "model" else {})


def difference(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """One line for each entry that differs."""
    keys = [key for key in stored | given if stored.get(key) != given.get(key)]
    return [f"  {key}: the store has {stored.get(key)!r}, this run {given.get(key)!r}" for key in keys]


def _plain(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _digest(*tensors: Tensor | None) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            total.update(repr((tensor.shape, tensor.dtype)).encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
