"""`bnnpriors kernel`: the infinitely wide limit of a model, its kernel matrices in a run folder, and exact prediction."""

from __future__ import annotations

import inspect
import math
import pkgutil
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.table import Table
from torch.distributions import Distribution

from ..cluster import open_client
from ..cost import size
from ..datasets import Dataset
from ..module import BayesianModule, attach
from ..priors import Prior
from .build import build_network, check_model_path, fill_features, ood_inputs
from .options import add_ood, defaults, new_parser
from .predictions import Points, predictions
from .printing import console, say
from .runs import RunFolder, complete, run_path
from .scores import METRICS


def kernel_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors kernel`."""
    parser = new_parser(
        "The Gaussian process of an infinitely wide network: its kernel matrices, tile by tile, then exact regression or "
        "classification. Without settings: the ConvNet GP on scikit-learn's digits. A run that was stopped continues."
    )
    parser.add_argument("--name", type=str | None, default=None, help="what to call the run")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the run folder; runs/<name>-<time> if not given"
    )
    parser.add_argument(
        "--data",
        type=Dataset,
        help="class path of a loader that returns a Dataset; of ours the name will do: mnist",
    )
    parser.add_argument(
        "--train", type=PositiveInt | list[PositiveInt] | None, default=None,
        help="training points, the first ones; a list for a learning curve; all but those of validation if not given",
    )  # fmt: skip
    parser.add_argument(
        "--validation", type=NonNegativeInt, default=0,
        help="training points after those, by which the noise is chosen; 0: by leaving one out",
    )  # fmt: skip
    parser.add_argument("--test", type=PositiveInt | None, default=None, help="test points; all if not given")
    add_ood(parser, None)
    parser.add_argument("--num_ood", type=PositiveInt, default=1000, help="of those inputs, at most")
    parser.add_argument(
        "--input_shape", type=list[PositiveInt] | None, default=None,
        help="of one input, such as [1, 28, 28]; flat inputs of square size become images where it is not given",
    )  # fmt: skip
    parser.add_argument(
        "--standardise", type=bool | None, default=None,
        help="inputs of mean 0 and spread 1, or as the loader reads them (pixels from 0 to 1); by default for regression alone",
    )  # fmt: skip
    parser.add_argument(
        "--model.class_path", type=str,
        help="a torch module, or a function that returns one, with priors (bnnpriors.infinite.zoo.convnet_gp) or without",
    )  # fmt: skip
    parser.add_argument(
        "--model.init_args", type=dict[str, Any], default={},
        help="its arguments; in_features, out_features, num_outputs and shape come from the data where it takes them",
    )  # fmt: skip
    parser.add_argument(
        "--priors",
        type=dict[str, Prior | Distribution] | None,
        default=None,
        help="glob over parameter names: its prior",
    )
    parser.add_argument(
        "--mean_terms", type=bool, default=True, help="false for the Residual CNN GP as it was published"
    )
    parser.add_argument(
        "--dtype", type=Literal["float32", "float64"], default="float32", help="of the kernel matrices"
    )
    parser.add_argument(
        "--select",
        type=PositiveInt,
        default=2000,
        help="training points, at most, by which the noise is chosen",
    )
    parser.add_argument("--tile", type=PositiveInt, default=1024, help="rows and columns of a tile")
    parser.add_argument(
        "--memory", type=PositiveInt, default=2**24, help="bytes for one block of pairs, about"
    )
    parser.add_argument(
        "--workers",
        type=PositiveInt | None,
        default=None,
        help="processes that share the tiles; this one if not given",
    )
    parser.add_argument(
        "--scheduler", type=str | None, default=None, help="address of a dask scheduler that has workers"
    )
    parser.add_argument(
        "--seed", type=NonNegativeInt, default=0, help="of the permuted out-of-distribution inputs"
    )
    parser.add_argument("--device", type=str, default="cpu", help="a torch device for the kernel")
    parser.set_defaults(defaults("kernel", arguments))
    return parser


def kernel(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Compute what is missing of the matrices, predict, and judge the predictions."""
    parsed = config.kernel
    check_model_path(parsed)
    settings = parser.instantiate(config).kernel
    if settings.workers is not None and settings.scheduler is not None:
        raise ValueError("workers and scheduler given, expected one of them")
    points = Points.of(settings, ood_inputs(settings.data, settings.ood, settings.seed))
    made = _kernel(settings, points)
    if not made.program.has_positions:
        points = points.flat()
    made.variance(points.inputs["train"][:1])
    path = run_path(settings, settings.data)
    _announce(made, settings, points, path)
    run = RunFolder.begin(
        path, "kernel", complete(kernel_parser(), parsed), shlex.join(["bnnpriors", *arguments])
    )
    start = time.monotonic()
    grams = _stores(made, settings, points, path / "gram")
    run.results["seconds"] += time.monotonic() - start
    rows = []
    for row in predictions(made, grams, points, settings):
        rows.append(row)
        run.results["rows"] = rows
        run.save()
    console.print(_table(rows, settings.data.kind))
    say(f"Written to {path}: metrics.csv, results.json, gram/")


def _kernel(settings: Namespace, points: Points) -> Any:
    from .. import infinite

    class_path = settings.model.class_path
    accepted = inspect.signature(pkgutil.resolve_name(class_path)).parameters
    known: dict[str, Any] = {"num_outputs": settings.data.num_outputs}
    if len(points.shape) == 3:
        known["shape"] = points.shape
    given = {name: value for name, value in known.items() if name in accepted} | dict(
        settings.model.init_args
    )
    net = build_network(
        class_path, fill_features(class_path, given, settings.data), settings.data, settings.seed
    )
    if isinstance(net, BayesianModule) != (settings.priors is None):
        raise ValueError(
            f"priors: {class_path} " + ("has priors of its own; leave --priors out" if settings.priors else
            "has no priors; give --priors, a glob over parameter names and a prior, at least one")
        )  # fmt: skip
    model = net if isinstance(net, BayesianModule) else attach(net, settings.priors)
    return infinite.kernel(model, mean_terms=settings.mean_terms)


def _announce(made: Any, settings: Namespace, points: Points, path: Path) -> None:
    """What will be computed, and about what it costs."""
    from ..infinite.factor import check_memory, memory_to_solve
    from ..infinite.tile_work import duration, seconds_per_pair

    train = points.inputs["train"]
    n, others = len(train), sum(len(x) for part, x in points.inputs.items() if part != "train")
    pairs = n * (n + 1) // 2 + n * others
    check_memory(n)
    rows = train[: settings.tile].numpy()
    each = seconds_per_pair(made, rows, settings.memory, torch.device(settings.device)) / (
        settings.workers or 1
    )
    counts = ", ".join(f"{len(x)} {part}" for part, x in points.inputs.items())
    say(
        f"{type(made).__name__} of {settings.model.class_path}: {counts} points, {pairs:.3g} pairs in {settings.dtype}\n"
        f"Cost: at {1e6 * each:.3g} µs a pair about {duration(pairs * each)} here, less what is there already; "
        f"{size(pairs * train.element_size())} on the disk; {size(memory_to_solve(n))} of memory to solve for {n} points\n"
        f"Run folder: {path}  (stopped? give the same command --output {path} to continue)"
    )


def _stores(made: Any, settings: Namespace, points: Points, folder: Path) -> dict[str, Any]:
    """The matrices of the training points with those of each part; all of them by the same processes."""
    from ..infinite.tiles import store_gram

    train, grams = points.inputs["train"], {}
    with ExitStack() as stack:
        scheduler = settings.scheduler
        if settings.workers is not None:
            client = stack.enter_context(open_client(workers=settings.workers))
            scheduler = client.scheduler_info()["address"]
        for part, inputs in points.inputs.items():
            grams[part] = store_gram(
                made, train, None if part == "train" else inputs, folder / f"{part}.zarr",
                device=torch.device(settings.device), memory=settings.memory, tile=settings.tile, resume=True, workers=None,
                scheduler=scheduler, progress=True, announce=partial(_say_cost, part),
            )  # fmt: skip
    return grams


def _say_cost(part: str, cost: Any) -> None:
    say(f"{part}: {cost}")


def _table(rows: Sequence[dict[str, Any]], kind: str) -> Table:
    names = [name for name in METRICS[kind] if any(name in row for row in rows)]
    table = Table(box=None, pad_edge=False)
    for head in ("train", "test", *names, "noise", "scale", "seconds"):
        table.add_column(head, no_wrap=True)
    for row in rows:
        figures = [f"{row[name]:.4f}" if math.isfinite(row[name]) else "–" for name in names]
        table.add_row(
            str(row["train"]),
            str(row["test"]),
            *figures,
            f"{row['noise']:.2g}",
            f"{row['scale']:.2g}",
            f"{row['seconds']:.1f}",
        )
    return table
