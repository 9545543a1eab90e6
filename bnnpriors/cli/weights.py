"""`bnnpriors weights`: what trained networks say about the prior, as a table, pictures and settings for a run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from .. import priors
from ..priors import Prior
from ..priors.empirical.recommend import build_prior
from ..priors.empirical.result import FittedPriors
from ..priors.rules import Fan
from .runs import write_table


def weights(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Fit, print the tables, and with `--output` write them down."""
    settings = config.weights
    if settings.output is not None and Path(settings.output).is_file():
        raise ValueError(f"output {settings.output} is a file, expected a folder")
    fitted = priors.fit(
        list(settings.checkpoints),
        include=settings.include,
        scale=settings.scale,
        location=settings.location,
        level=settings.level,
        seed=settings.seed,
    )
    print(fitted)
    if settings.output is not None:
        _write(fitted, Path(settings.output), settings.scale)


def as_settings(prior: Prior | Fan) -> dict[str, Any]:
    """A prior of this library as `class_path` and `init_args`, arguments at their default left out."""
    if isinstance(prior, Fan):
        return {"class_path": "bnnpriors.priors.fan_in", "init_args": {"gain": prior.gain}}
    init_args = {}
    for name, parameter in inspect.signature(type(prior)).parameters.items():
        value = getattr(prior, name, parameter.default)
        if value != parameter.default:
            init_args[name] = as_settings(value) if isinstance(value, (Prior, Fan)) else value
    return {"class_path": f"bnnpriors.priors.{type(prior).__name__}", "init_args": init_args}


def _write(fitted: FittedPriors, folder: Path, scale: str) -> None:
    """`weights.txt`, `weights.csv`, pictures, `priors.yaml` for `bnnpriors sample` and `sweep.yaml` for `bnnpriors sweep`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.txt").write_text(f"{fitted}\n", encoding="utf-8")
    write_table(folder / "weights.csv", fitted.rows)
    pictures = fitted.plot(folder)
    normal = {
        name: build_prior("Normal", layer.normal, layer.shape, scale)
        for name, layer in fitted.layers.items()
        if layer.prior is not None
    }
    found, plain = ({n: as_settings(p) for n, p in each.items()} for each in (fitted.priors, normal))
    _dump(folder / "priors.yaml", "bnnpriors sample", {"priors": found})
    _dump(folder / "sweep.yaml", "bnnpriors sweep", {"priors": {"Empirical": found, "Normal": plain}})
    print(
        f"\nWritten to {folder}: weights.txt, weights.csv, {len(pictures)} pictures, priors.yaml, sweep.yaml"
    )


def _dump(file: Path, command: str, settings: dict[str, Any]) -> None:
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    head = f"# Priors fitted to trained weights: {command} --config {file.name}, with the model whose parameters these are.\n"
    file.write_text(head + text, encoding="utf-8")
