"""Settings that several commands share, and what stands for those that are not given."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import nn

from .. import datasets
from ..datasets import Dataset
from ..samplers import Sampler

OBJECTS = ("data", "likelihood", "sampler")
"""Settings that are one object: another class replaces it, arguments included."""


def new_parser(description: str) -> ArgumentParser:
    """A parser that reads YAML files (`--config`) and flags, and raises ArgumentError where others would end the process."""
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument(
        "--config",
        action="config",
        help="a YAML file of settings; several are read in order, flags come last",
    )
    return parser


def add_problem(parser: ArgumentParser, *, ood: str | None) -> None:
    """Data, network, likelihood, and where the result goes: what every run has."""
    parser.add_argument("--name", type=str, help="what to call the run")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the run folder; runs/<name>-<time> if not given"
    )
    parser.add_argument("--data", type=Dataset, help="class path of a loader that returns a Dataset")
    add_ood(parser, ood)
    parser.add_argument("--model.class_path", type=str, help="a torch module, or a function that returns one")
    parser.add_argument(
        "--model.init_args", type=dict[str, Any], default={},
        help="its arguments; in_features, out_features and shape come from the data where it takes them and none are given",
    )  # fmt: skip
    parser.add_argument("--likelihood", type=nn.Module, help="class path of a likelihood")
    parser.add_argument(
        "--tempering",
        type=Literal["posterior", "likelihood"],
        default="posterior",
        help="what the temperature acts on",
    )
    parser.add_argument(
        "--batch_size",
        type=PositiveInt | None,
        default=None,
        help="examples in a minibatch; null for the full data",
    )
    parser.add_argument(
        "--seed",
        type=NonNegativeInt,
        default=0,
        help="of what is random, and of the network's own initial weights",
    )
    parser.add_argument("--device", type=str, default="cpu", help="a torch device")


def add_run(parser: ArgumentParser) -> None:
    """The problem, the sampler, and how many draws of how many chains."""
    add_problem(parser, ood="permuted")
    parser.add_argument("--sampler", type=Sampler, help="class path of a sampler")
    parser.add_argument(
        "--temperatures", type=list[float], help="the ladder: one group of chains a temperature"
    )
    parser.add_argument("--num_samples", type=PositiveInt, help="draws kept a chain")
    parser.add_argument("--num_warmup", type=NonNegativeInt, help="warm-up steps a chain")
    parser.add_argument("--num_chains", type=PositiveInt, help="chains at each temperature")
    parser.add_argument("--thin", type=PositiveInt, default=1, help="keep every thin-th step")
    parser.add_argument("--init", type=Literal["prior", "model"], default="prior", help="where chains start")
    parser.add_argument(
        "--executor",
        type=Literal["dask"] | None,
        default=None,
        help="dask spreads the chains over processes; null keeps them in this one",
    )
    parser.add_argument(
        "--scheduler",
        type=str | None,
        default=None,
        help="address of a running dask scheduler; null starts processes on this machine",
    )


def add_ood(parser: ArgumentParser, default: str | None) -> None:
    """Out-of-distribution inputs."""
    parser.add_argument(
        "--ood", type=Dataset | str | None, default=default,
        help="inputs the model ought to be unsure about: permuted, inverted, a folder of IDX files, a data set, or null for none",
    )  # fmt: skip


def full_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--data mnist` and the like as the class path `bnnpriors.datasets.mnist`."""
    result: list[str] = []
    for flag in arguments:
        option, equals, value = flag.partition("=")
        if option == "--data" and equals and value in datasets.__all__:
            flag = f"--data=bnnpriors.datasets.{value}"
        elif result[-1:] == ["--data"] and flag in datasets.__all__:
            flag = f"bnnpriors.datasets.{flag}"
        result.append(flag)
    return result


def defaults(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The settings of `<command>.yaml` in the package, without the objects that the arguments name themselves."""
    settings = yaml.safe_load(
        resources.files(__package__).joinpath(f"{command}.yaml").read_text(encoding="utf-8")
    )
    given = _given(arguments)
    settings = {name: value for name, value in settings.items() if name not in given}
    model = settings.pop("model", {})
    return settings | {f"model.{name}": value for name, value in model.items()}


def _given(arguments: Sequence[str]) -> set[str]:
    """Objects that files or flags name by a class path of their own."""
    names: set[str] = set()
    for flag, following in pairwise([*arguments, ""]):
        option, _, value = flag.partition("=")
        if option == "--config":
            names |= _given_in(Path(value or following))
        names |= {name for name in OBJECTS if option in (f"--{name}", f"--{name}.class_path")}
        names |= {"model"} if option == "--model.class_path" else set()
    return names


def _given_in(file: Path) -> set[str]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return set()  # jsonargparse says what is wrong with the file
    content = content if isinstance(content, dict) else {}
    objects = {
        n for n in OBJECTS if isinstance(content.get(n), str) or "class_path" in (content.get(n) or {})
    }
    return objects | ({"model"} if "class_path" in (content.get("model") or {}) else set())
