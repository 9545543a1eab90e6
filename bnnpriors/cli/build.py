"""From settings to objects: the network for the data, and one posterior for each prior."""

from __future__ import annotations

import copy
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn

from ..datasets import Dataset, out_of_distribution
from ..models.normalisation import freeze_statistics, has_initial_statistics
from ..module import attach
from ..posterior import Posterior

ONLY = "posterior"
"""What the one posterior of `bnnpriors sample` is called."""


def check_model_path(config: Namespace) -> None:
    """Find the model's class before any data is read. Raises ValueError where it cannot be imported."""
    _find(config.model.class_path)


def build_network(class_path: str, init_args: Mapping[str, Any], data: Dataset, seed: int) -> nn.Module:
    """The network, its in_features, out_features and shape from the data where it takes them and they are not given.

    Batch normalisation that has seen no data gets the statistics of the first thousand training inputs.

    Raises:
        ValueError: a path that leads nowhere, or arguments that do not fit.
    """
    filled = fill_features(class_path, init_args, data)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=nn.Module)
    spec = parser.parse_object({"model": {"class_path": class_path, "init_args": filled}})
    with torch.random.fork_rng(
        devices=[]
    ):  # torch's layers draw their initial weights from the global generator
        torch.manual_seed(seed)
        net = parser.instantiate(spec).model
    net = net.to(device=data.x_train.device, dtype=data.x_train.dtype)
    return freeze_statistics(net, data.x_train[:1000]) if has_initial_statistics(net) else net


def fill_features(class_path: str, init_args: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """`init_args`, with in_features, out_features and shape where the callable takes them and they are not given."""
    accepted = inspect.signature(_find(class_path)).parameters
    example = data.x_train[0]
    known = {"in_features": example.numel(), "out_features": data.num_outputs, "shape": list(example.shape)}
    return {name: value for name, value in known.items() if name in accepted} | dict(init_args)


def build_posteriors(settings: Namespace, data: Dataset) -> dict[str, Posterior]:
    """Name of the prior -> its posterior over the whole ladder, all checked before any of them is sampled.

    Raises:
        ValueError: priors, likelihood, temperatures or data that do not fit; the message names the prior.
    """
    _check(settings, data)
    posteriors = {}
    for name, priors in named_priors(settings).items():
        try:
            posteriors[name] = build_posterior(settings, data, priors, list(settings.temperatures))
        except (ValueError, TypeError) as error:
            raise type(error)(f"priors {name!r}: {error}") from error
    return posteriors


def build_posterior(
    settings: Namespace, data: Dataset, priors: Mapping[str, Any], temperatures: list[float]
) -> Posterior:
    """The posterior of the network under some priors."""
    if not priors:
        raise ValueError("priors: none given, expected a glob over parameter names and a prior, at least one")
    network = build_network(settings.model.class_path, settings.model.init_args, data, settings.seed)
    return Posterior(
        attach(network, priors),
        copy.deepcopy(settings.likelihood),
        data.x_train,
        data.y_train,
        temperature=temperatures,
        batch_size=settings.batch_size,
        tempering=settings.tempering,
    )


def on_device(data: Dataset, device: str) -> Dataset:
    """The data on a device of this machine. Raises ValueError where there is no such device."""
    try:
        return data.to(device)
    except (AssertionError, RuntimeError) as error:  # torch's ways to say that there is none
        raise ValueError(
            f"device {device!r}: {error}; expected a device of this machine, such as cpu"
        ) from error


def named_priors(settings: Namespace) -> dict[str, dict[str, Any]]:
    """The curves of a sweep; for `bnnpriors sample` the one posterior."""
    priors = settings.priors
    if not priors:
        raise ValueError("priors: none given, expected a glob over parameter names and a prior, at least one")
    return dict(priors) if all(isinstance(value, Mapping) for value in priors.values()) else {ONLY: priors}


def ood_inputs(data: Dataset, source: Dataset | str | None, seed: int) -> Tensor | None:
    """Out-of-distribution inputs on the training set's scale, or None."""
    if source is None:
        return None
    inputs = out_of_distribution(data, source, seed=seed)
    return inputs.to(data.x_train)


def _check(settings: Namespace, data: Dataset) -> None:
    for name in ("likelihood", "sampler", "num_samples", "num_warmup", "num_chains"):
        if getattr(settings, name) is None:
            raise ValueError(f"{name}: nothing given; see --help, or start from --print_config")
    if not settings.temperatures:
        raise ValueError("temperatures: none given, expected one positive number or more, such as [1.0]")
    check_kind(settings.likelihood, data)


def check_kind(likelihood: Any, data: Dataset) -> None:
    """Raise ValueError where the likelihood is not for data of this kind."""
    kind = getattr(likelihood, "kind", data.kind)
    if kind != data.kind:
        fitting = "Categorical" if data.kind == "classification" else "Gaussian"
        raise ValueError(
            f"likelihood {type(likelihood).__name__} is for {kind} and the data {data.name!r} for {data.kind}: "
            f"use bnnpriors.likelihoods.{fitting}"
        )


def _find(class_path: str | None) -> Any:
    try:
        return pkgutil.resolve_name(str(class_path))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"model.class_path {class_path!r}: cannot be imported ({error}); expected a module or function, such as "
            "bnnpriors.models.mlp"
        ) from error
