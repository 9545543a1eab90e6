"""`bnnpriors compare`: several methods on the same network, priors, data and metrics; a table and a page come out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table
from torch.distributions import Distribution

from ..methods import Method, MethodTable
from ..methods import compare as run_methods
from ..priors import Prior
from .build import build_posterior, check_kind, check_model_path, fill_features, on_device, ood_inputs
from .options import add_problem, defaults, new_parser
from .printing import console, say
from .runs import RunFolder, complete, run_path


def compare_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors compare`."""
    parser = new_parser(
        "Run methods on one posterior and compare their predictions: MCMC, variational inference, Laplace, deep ensembles, the "
        "infinitely wide network. A method whose result is in the folder is not run again, and a stopped chain goes on."
    )
    parser.add_argument(
        "--priors", type=dict[str, Prior | Distribution], help="glob over parameter names: its prior"
    )
    add_problem(parser, ood=None)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the posterior")
    parser.add_argument(
        "--methods",
        type=dict[str, Method],
        help="a name for the line: the class path of a method, and its settings",
    )
    parser.add_argument(
        "--only", type=list[str] | None, default=None, help="names of the methods to run; all if not given"
    )
    parser.set_defaults(defaults("compare", arguments))
    return parser


def compare(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Run what has no result yet, and write table and page."""
    parsed = config.compare
    check_model_path(parsed)
    settings = parser.instantiate(config).compare
    methods = _chosen(settings.methods, settings.only)
    data = on_device(settings.data, settings.device)
    if settings.likelihood is None:
        raise ValueError("likelihood: nothing given; see --help, or start from --print_config")
    check_kind(settings.likelihood, data)
    posterior = build_posterior(settings, data, settings.priors, [settings.temperature])
    ood = ood_inputs(data, settings.ood, settings.seed)
    parsed.model.init_args = fill_features(settings.model.class_path, settings.model.init_args, data)
    path = run_path(settings, data)
    run = RunFolder.begin(
        path, "compare", complete(compare_parser(), parsed), shlex.join(["bnnpriors", *arguments])
    )
    say(
        f"{len(methods)} methods, {posterior.dim} parameters, {posterior.num_data} training points and {len(data.x_test)} test "
        f"points\nRun folder: {path}  (stopped? give the same command --output {path} to continue)"
    )
    table = run_methods(posterior, data, methods, ood=ood, seed=settings.seed, folder=path, say=say)
    run.results["seconds"] = sum(row.get("seconds", 0.0) for row in table.rows)
    run.results["rows"] = table.flat()
    run.save()
    table.write(path, settings.name or data.name)
    shown = _shown(table)
    whole = console.measure(shown, options=console.options.update(max_width=1000)).maximum
    Console(highlight=False, width=max(console.width, whole)).print(shown)
    for row in table.rows:
        if "reason" in row:
            say(f"{row['method']} has no figures: {row['reason']}")
    say(f"Written to {path}: table.md, metrics.csv, results.json, comparison.html")


def _chosen(methods: dict[str, Method] | None, only: Sequence[str] | None) -> dict[str, Method]:
    if not methods:
        raise ValueError("methods: none given, expected a name and the class path of a method, one at least")
    if unknown := [name for name in only or () if name not in methods]:
        raise ValueError(f"only: {unknown[0]!r} given, expected some of {', '.join(methods)}")
    return methods if only is None else {name: methods[name] for name in only}


def _shown(table: MethodTable) -> Table:
    heads, *lines = table.cells()
    shown = Table(box=None, pad_edge=False)
    for head in heads:
        shown.add_column(head, no_wrap=True)
    reasons = {row["method"] for row in table.rows if "reason" in row}
    for name, *cells in lines:
        shown.add_row(name, *(["—"] * len(cells) if name in reasons else cells))
    return shown
