"""From networks and checkpoints to named arrays: every network's weights, checked to be of one architecture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

Network = Union[nn.Module, Mapping[str, Any], str, "os.PathLike[str]"]
Weights = dict[str, Float64[np.ndarray, "..."]]

NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the state of the network inside a checkpoint."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def load_networks(given: Network | Sequence[Network], include: str) -> list[Weights]:
    """The weights of each network, float64, by parameter name; those whose name matches the glob `include`.

    Scalars, integers and the running statistics of batch normalisation are left out.

    Raises:
        FileNotFoundError: a path that leads to no file.
        TypeError: something that is no network. ValueError: a file that cannot be read, no weights, NaN or infinity, or
            networks of different architectures.
    """
    several = isinstance(given, Sequence) and not isinstance(given, (str, nn.Module))
    networks: Sequence[Any] = given if several else [given]  # type: ignore[assignment]
    if not networks:
        raise ValueError("fit: no network given, expected one or more")
    loaded = [
        _selected(_tensors(network, label), include, label)
        for network, label in ((n, _label(n, i, len(networks))) for i, n in enumerate(networks))
    ]
    for position, weights in enumerate(loaded[1:], 1):
        _check_same(
            loaded[0],
            weights,
            _label(networks[0], 0, len(loaded)),
            _label(networks[position], position, len(loaded)),
        )
    return loaded


def _label(network: Any, position: int, count: int) -> str:
    if isinstance(network, (str, os.PathLike)):
        return str(network)
    return "the network" if count == 1 else f"network {position}"


def _tensors(network: Any, label: str) -> Mapping[str, Any]:
    if isinstance(network, nn.Module):
        weights = getattr(network, "weights", None)
        return (
            weights()
            if hasattr(network, "named_priors") and callable(weights)
            else dict(network.named_parameters())
        )
    if isinstance(network, (str, os.PathLike)):
        return _read(Path(network))
    if isinstance(network, Mapping):
        return _unwrapped(network, label)
    raise TypeError(
        f"fit: {label} is a {type(network).__name__}, expected a torch module, a state_dict, {{name: array}}, or the path of a "
        "checkpoint (.pt, .pth or .npz)"
    )


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"checkpoint {file}: no such file")
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(
                f"checkpoint {file}: not an .npz file of plain arrays ({_short(error)}); write it with "
                "numpy.savez(file, **arrays)"
            ) from error
    if file.suffix not in (".pt", ".pth"):
        raise ValueError(f"checkpoint {file}: expected a name that ends in .pt, .pth or .npz")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what bytes that are no checkpoint raise depends on the bytes
        raise ValueError(
            f"checkpoint {file}: not a file of plain tensors ({type(error).__name__} on reading). Pickled objects are not "
            "loaded, for they can run code: save the weights alone with torch.save(net.state_dict(), file)"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"checkpoint {file}: holds a {type(content).__name__}, expected a state_dict: torch.save(net.state_dict(), file)"
        )
    return _unwrapped(content, str(file))


def _unwrapped(content: Mapping[Any, Any], label: str) -> Mapping[str, Any]:
    """The state_dict inside a checkpoint of a training script, without the prefix that wrappers put before every name."""
    if not any(isinstance(value, (Tensor, np.ndarray)) for value in content.values()):
        inner = [content[key] for key in NESTED if isinstance(content.get(key), Mapping)]
        if not inner:
            raise ValueError(
                f"{label}: no weights under the keys {[str(key) for key in content][:8]}; expected "
                f"{{parameter name: tensor}}, or that under one of {', '.join(NESTED)}"
            )
        content = inner[0]
    names = {str(name): value for name, value in content.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _selected(tensors: Mapping[str, Any], include: str, label: str) -> Weights:
    arrays = {
        name: _array(value)
        for name, value in tensors.items()
        if _is_weight(name, value) and fnmatchcase(name, include)
    }
    if not arrays:
        raise ValueError(
            f"{label}: no weights match include={include!r}; its entries are {list(tensors)[:12]}. Expected "
            "floating-point tensors of one dimension or more"
        )
    for name, array in arrays.items():
        if broken := array.size - int(np.isfinite(array).sum()):
            raise ValueError(
                f"{label}: {name} has {broken} of {array.size} entries that are NaN or infinite: training "
                "diverged; leave this network out"
            )
        if array.size == 0:
            raise ValueError(f"{label}: {name} of shape {array.shape} is empty; leave it out with include=")
    return arrays


def _is_weight(name: str, value: Any) -> bool:
    if name.rsplit(".", 1)[-1] in BUFFERS:
        return False
    if isinstance(value, Tensor):
        return value.is_floating_point() and value.ndim > 0
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating) and value.ndim > 0


def _array(value: Tensor | np.ndarray) -> Float64[np.ndarray, "..."]:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", torch.float64).numpy()
    return np.asarray(value, dtype=np.float64)


def _check_same(first: Weights, other: Weights, first_label: str, label: str) -> None:
    if missing := [name for name in first if name not in other]:
        raise ValueError(
            f"{label} lacks {missing[:6]}, which {first_label} has: expected networks of one architecture"
        )
    if extra := [name for name in other if name not in first]:
        raise ValueError(
            f"{label} has {extra[:6]}, which {first_label} lacks: expected networks of one architecture"
        )
    for name, array in first.items():
        if array.shape != other[name].shape:
            raise ValueError(
                f"{name} is {other[name].shape} in {label} and {array.shape} in {first_label}: expected "
                "networks of one architecture"
            )


def _short(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
