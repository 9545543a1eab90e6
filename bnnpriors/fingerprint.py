"""What makes two runs the same run: every setting that changes the draws, as plain values that can be stored and compared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .posterior import Posterior
from .samplers import Sampler


def fingerprint(posterior: Posterior, sampler: Sampler, **settings: Any) -> dict[str, Any]:
    """Model, priors, likelihood, data (by sha256), temperatures, sampler and the driver's own settings."""
    net = posterior.model.net
    sampled = {name for site in posterior.model.sites for name in site.members}
    fixed = [value for name, value in net.named_parameters() if name not in sampled]
    return {
        "model": str(net),
        "constants": _digest(*fixed, *net.buffers()),
        "priors": {name: describe(prior) for name, prior in posterior.model.named_priors().items()},
        "likelihood": describe(posterior.likelihood),
        "latents": [[name, list(shape)] for name, shape in posterior.layout.shapes],
        "dtype": str(posterior.dtype),
        "device": posterior.device.type,
        "data": _digest(posterior.data.x, posterior.data.y),
        "temperatures": list(posterior.temperatures),
        "tempering": posterior.tempering,
        "batch_size": posterior.batch_size,
        "sampler": describe(sampler),
        **settings,
    } | ({"start": _digest(posterior.current())} if settings.get("init") == "model" else {})


def difference(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """One line for each entry that differs."""
    keys = [key for key in stored | given if stored.get(key) != given.get(key)]
    return [f"  {key}: the store has {stored.get(key)!r}, this run {given.get(key)!r}" for key in keys]


def describe(value: object) -> str:
    """Class and attributes of an object, to any depth: equal for equal settings in any process; tensors by sha256."""
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {_digest(value)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{type(value).__name__}({', '.join(describe(item) for item in value)})"
    if isinstance(value, nn.Module):
        attributes = {k: v for k, v in vars(value).items() if k not in vars(_EMPTY) and k != "sites"}
        attributes |= dict(value.named_buffers(recurse=False)) | dict(value.named_children())
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        attributes = {k: v for k, v in vars(value).items() if not k.startswith("__")}
    else:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    body = ", ".join(f"{name}={describe(item)}" for name, item in sorted(attributes.items()))
    return f"{type(value).__qualname__}({body})"


_EMPTY = nn.Module()


def _digest(*tensors: Tensor | None) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            total.update(repr((tensor.shape, tensor.dtype)).encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
