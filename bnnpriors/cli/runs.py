"""The folder of a run: `config.yaml`, one store of draws a prior, `results.json`, `metrics.csv` and `report.html`."""

from __future__ import annotations

import csv
import json
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from ..datasets import Dataset
from ..disk import without_nan, write_text
from ..draws import Draws
from ..store import StoreError

LIBRARIES = ("bnnpriors", "torch", "numpy", "zarr", "arviz-stats", "scikit-learn", "torchmetrics")
MAY_DIFFER = (
    "name", "output", "config", "ood", "num_samples", "subcommand", "workers", "executor", "scheduler", "memory", "select",
    "methods", "only",  # a method that has changed is refused where its result is read
)  # fmt: skip
"""Settings that a run may be continued with other values of."""


class RunFolder:
    """A run folder. Attributes: path; results (what `results.json` holds)."""

    def __init__(self, path: Path, results: dict[str, Any]) -> None:
        self.path, self.results = path, results

    @classmethod
    def begin(cls, path: Path, command: str, config: dict[str, Any], line: str) -> RunFolder:
        """A new folder, or one whose run is to be continued; a sweep may have gained priors.

        Raises:
            ValueError: the folder holds another run, or something else.
        """
        file = path / "config.yaml"
        if path.exists() and any(path.iterdir()):
            if not file.exists():
                raise ValueError(f"output {path}: not empty and no run folder; choose another one")
            run = cls.open(path)
            before = run.settings
            if command == "sweep":  # one that has gained priors goes on with those
                before["priors"] = {
                    n: p for n, p in config["priors"].items() if n not in before["priors"]
                } | before["priors"]
            if changed := _difference(before, config):
                raise ValueError(
                    f"output {path} holds a run with other settings: {changed}. Choose another output, or continue that run with "
                    f"`bnnpriors {run.results['command']} --config {file} --output {path}`"
                )
        else:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, {"command": command, "line": line, "seconds": 0.0, "rows": []})
        file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
        run.results |= {"versions": versions(), "machine": machine(), "date": time.strftime("%Y-%m-%d %H:%M")}
        run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder. Raises StoreError where there is none."""
        if not (path / "config.yaml").exists() or not (path / "results.json").exists():
            raise StoreError(
                f"{path}: no run folder (config.yaml and results.json are missing); give the --output of bnnpriors sweep "
                "or sample"
            )
        try:
            results = json.loads((path / "results.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(
                f"{path / 'results.json'} is damaged ({error}): run the same command again"
            ) from error
        results["rows"] = [
            {n: math.nan if v is None else v for n, v in row.items()} for row in results["rows"]
        ]
        return cls(path, results)

    @property
    def settings(self) -> dict[str, Any]:
        """What `config.yaml` says."""
        return yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))

    def parse(self, parser: ArgumentParser) -> Namespace:
        """`config.yaml` through the parser of the command that wrote it, objects not yet made."""
        return parser.parse_object({k: v for k, v in self.settings.items() if k != "config"})

    def store(self, prior: str) -> Path:
        """The store of one prior's draws."""
        return self.path / "draws" / re.sub(r"[^\w.-]+", "-", prior).strip("-")

    def draws(self, prior: str) -> Draws:
        """The draws under one prior, all temperatures."""
        return Draws.open(self.store(prior))

    def save(self) -> None:
        """Write `results.json` and `metrics.csv`, each complete or not at all."""
        write_text(self.path / "results.json", json.dumps(without_nan(self.results), indent=1))
        if self.results["rows"]:
            write_table(self.path / "metrics.csv", self.results["rows"])

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put in rows, in place of those of the same prior and temperature, and save."""
        new = {(row["prior"], row["temperature"]) for row in rows}
        kept = [row for row in self.results["rows"] if (row["prior"], row["temperature"]) not in new]
        self.results["rows"] = [*kept, *rows]
        self.save()

    def keep_shift(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the figures under shift, in place of earlier ones: in `results.json`, `shift.csv` and `shift.png`."""
        from ..evaluation.shift import shift_curves

        self.results["shift"] = list(rows)
        self.save()
        write_table(self.path / "shift.csv", rows)
        shift_curves(rows).savefig(self.path / "shift.png")


def run_path(settings: Namespace, data: Dataset) -> Path:
    """The run folder that the settings name, or a new one with the time in its name."""
    name = settings.name or data.name
    return Path(settings.output or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")


def complete(parser: ArgumentParser, parsed: Namespace) -> dict[str, Any]:
    """Every setting, defaults included, as plain YAML values."""
    settings = yaml.safe_load(parser.dump(parsed, skip_unset=False))
    return {name: value for name, value in settings.items() if name != "config"}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV or, where the name ends in .json, as JSON. Lists and tables inside a row go to JSON alone.

    Raises:
        ValueError: a name that ends in neither.
    """
    if path.suffix == ".json":
        write_text(path, json.dumps(without_nan(list(rows)), indent=1))
        return
    if path.suffix != ".csv":
        raise ValueError(f"output {path}: expected a name that ends in .csv or .json")
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if not isinstance(value, (list, dict))
    )
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(names), extrasaction="ignore", restval="")
        table.writeheader()
        table.writerows(rows)
    partial.replace(path)


def versions() -> dict[str, str]:
    """Python, and the libraries that figures depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}


def machine() -> str:
    """Processor and threads."""
    import torch

    return f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        from .. import __version__

        return __version__ if name == "bnnpriors" else "not installed"


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings that differ, in words; more draws than before are no difference, fewer are."""
    names = [n for n in now if n not in MAY_DIFFER and before.get(n) != now[n]]
    names += ["num_samples"] if before.get("num_samples", 0) > now.get("num_samples", 0) else []
    return ", ".join(
        f"{name} ({_short(now[name])} given, {_short(before.get(name))} there)" for name in names
    )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
