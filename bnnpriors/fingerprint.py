"""What makes two runs the same run: every setting that changes the draws, as plain values that can be stored and compared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from operator import eq
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .batched import call_with_weights
from .likelihoods import Likelihood
from .posterior import Posterior


def fingerprint(posterior: Posterior, sampler: object, **settings: Any) -> dict[str, Any]:
    """Model with its own settings, priors, likelihood, data (by sha256), temperatures, sampler (or another method) and the
    settings of what drives it."""
    net = posterior.model.net
    sampled = {name for site in posterior.model.sites for name in site.members}
    fixed = [value for name, value in net.named_parameters() if name not in sampled]
    return {
        "model": _network(net, sampled, posterior.data.x),
        "constants": digest(*fixed, *net.buffers()),
        "priors": {name: describe(prior) for name, prior in posterior.model.named_priors().items()},
        "likelihood": describe(posterior.likelihood),
        "latents": [[name, list(shape)] for name, shape in posterior.layout.shapes],
        "dtype": str(posterior.dtype),
        "device": posterior.device.type,
        "data": digest(posterior.data.x, posterior.data.y),
        "temperatures": list(posterior.temperatures),
        "tempering": posterior.tempering,
        "batch_size": posterior.batch_size,
        "sampler": describe(sampler),
        **settings,
    } | ({"start": digest(posterior.current())} if settings.get("init") == "model" else {})


def difference(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """One line for each entry that differs; of long entries the part that differs."""
    keys = [key for key in stored | given if stored.get(key) != given.get(key)]
    parts = [(key, *_apart(repr(stored.get(key)), repr(given.get(key)))) for key in keys]
    return [f"  {key}: the store has {one}, this run {other}" for key, one, other in parts]


def describe(value: object) -> str:
    """Class and attributes of an object, to any depth: equal for equal settings in any process; tensors and arrays by sha256.

    Parameters count by their shape: a prior or a frozen value says what they are.
    """
    return _describe(value, ())


def _describe(value: object, above: tuple[int, ...]) -> str:
    if id(value) in above:
        return f"{type(value).__qualname__}(above)"
    above = (*above, id(value))
    if isinstance(value, nn.Parameter):
        return f"parameter {tuple(value.shape)}"
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {digest(value)}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:32]
        return f"array {value.shape} {value.dtype} {content}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_describe(item, above)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(_describe(item, above) for item in value)})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({', '.join(sorted(_describe(item, above) for item in value))})"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, nn.Module):
        attributes = {name: item for name, item in vars(value).items() if name not in vars(_EMPTY)}
        if isinstance(value, Likelihood):
            del attributes["sites"]
        attributes |= value._parameters | value._buffers | value._modules
    elif getattr(value, "__dict__", None) and not hasattr(value, "__name__"):
        attributes = {name: item for name, item in vars(value).items() if not name.startswith("__")}
    else:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    body = ", ".join(f"{name}={_describe(item, above)}" for name, item in sorted(attributes.items()))
    return f"{type(value).__qualname__}({body})"


_EMPTY = nn.Module()


def _network(net: nn.Module, sampled: set[str], x: Tensor | None) -> str:
    """`describe(net)` after a pass with all sampled weights zero: what passes leave in attributes is then always the same."""
    if x is not None:
        zeros = {n: torch.zeros_like(p) for n, p in net.named_parameters() if n in sampled}
        with torch.no_grad(), suppress(Exception):  # a network may not be defined at zero
            call_with_weights(net, zeros, (x[:1],))
    return describe(net)


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two long texts without the beginning and the end that they share, but for some words around the difference."""
    if max(len(one), len(other)) <= 300:
        return one, other
    start = _shared(one, other)
    end = _shared(one[start:][::-1], other[start:][::-1])
    start, end = max(0, start - 60), max(0, end - 60)
    return f"…{one[start : len(one) - end]}…", f"…{other[start : len(other) - end]}…"


def _shared(one: str, other: str) -> int:
    """The length of the beginning that two texts share."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))


def digest(*tensors: Tensor | None) -> str:
    """Shapes, dtypes and contents of tensors, by sha256."""
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            total.update(repr((tensor.shape, tensor.dtype)).encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
