"""The settings of each command: typed by jsonargparse, from YAML files and flags, with class paths and no registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, set_parsing_settings
from jsonargparse.typing import NonNegativeInt
from torch.distributions import Distribution

from ..datasets import Dataset
from ..priors import Prior, ScaleRule
from ..samplers import Sampler
from .compare import compare_parser
from .kernel import kernel_parser
from .options import add_ood, add_run, defaults, new_parser


def build_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """The parser of all commands. `arguments` decide which defaults give way: an object given anew inherits nothing."""
    set_parsing_settings(subclasses_enabled=[Dataset, ScaleRule])
    parser = ArgumentParser(
        prog="bnnpriors",
        exit_on_error=False,
        description="Posteriors of Bayesian neural networks: sample them, sweep over priors and temperatures, judge the "
        "result. `bnnpriors sweep` alone runs the main job.",
    )
    commands = parser.add_subcommands(required=True, dest="subcommand")
    for name, add, text in (
        ("sample", sample_parser, "Draw from one posterior; a run folder with its draws comes out."),
        ("sweep", sweep_parser, "Priors × temperatures: draws, metrics and a report of every posterior."),
        ("evaluate", evaluate_parser, "Judge the draws of run folders or stores on test data."),
        ("report", report_parser, "Write the report of a run folder again."),
        ("compare", compare_parser, "Several methods on one posterior: a table and a page."),
        (
            "kernel",
            kernel_parser,
            "The infinitely wide limit: kernel matrices on disk, then exact prediction.",
        ),
        ("weights", weights_parser, "Fit priors to the weights of trained networks."),
        ("check", check_parser, "Test a prior, a sampler or a kernel, such as one of your own."),
    ):
        commands.add_subcommand(name, add(arguments), help=text)
    return parser


def sample_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors sample`."""
    parser = new_parser(
        "Draw from one posterior and keep the draws in a run folder. An unfinished run continues."
    )
    parser.add_argument(
        "--priors", type=dict[str, Prior | Distribution], help="glob over parameter names: its prior"
    )
    add_run(parser)
    parser.set_defaults(defaults("sample", arguments))
    return parser


def sweep_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors sweep`."""
    parser = new_parser(
        "Sample every prior at every temperature, each prior's ladder as one vectorised run, and write metrics and a report. "
        "Without settings: fully connected networks on scikit-learn's digits. An unfinished run continues."
    )
    parser.add_argument(
        "--priors",
        type=dict[str, dict[str, Prior | Distribution]],
        help="a name for the curve: {glob over parameter names: its prior}",
    )
    add_run(parser)
    parser.set_defaults(defaults("sweep", arguments))
    return parser


def evaluate_parser(_: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors evaluate`."""
    parser = new_parser(
        "Judge draws on test data. A run folder knows its data; for a bare store give --data."
    )
    parser.add_argument("runs", type=str, nargs="+", help="run folders, or stores written by bp.sample")
    parser.add_argument(
        "--data", type=Dataset | None, default=None, help="class path of a loader; the run's own if not given"
    )
    add_ood(parser, None)
    parser.add_argument(
        "--shift",
        type=list[Literal["rotation", "blur", "noise"]],
        default=[],
        help="corruptions of the test images: accuracy, NLL and ECE at five levels, as a table, a picture and in the report",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="a .csv or .json file for the figures"
    )
    return parser


def report_parser(_: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors report`."""
    parser = new_parser("Write the report of a run folder again, from its draws and metrics.")
    parser.add_argument(
        "run", type=str, help="a run folder of bnnpriors sweep, or one of bnnpriors sample that was evaluated"
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="the page; report.html in the run folder if not given"
    )
    return parser


def weights_parser(_: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors weights`."""
    parser = new_parser(
        "What trained weights say about the prior, layer by layer: tails, correlations, every family on held-out weights, and a "
        "recommendation. Several checkpoints of one architecture are pooled."
    )
    parser.add_argument(
        "checkpoints", type=str, nargs="+", help="files of plain tensors: .pt or .pth (a state_dict), or .npz"
    )
    parser.add_argument("--include", type=str, default="*", help="glob over parameter names")
    parser.add_argument(
        "--scale",
        type=Literal["number", "fan_in"],
        default="number",
        help="scales as numbers, or as the rule fan_in with a fitted gain",
    )
    parser.add_argument(
        "--location",
        type=bool,
        default=False,
        help="whether families have a location of their own; 0 otherwise",
    )
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and the shuffles")
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="a folder for the table, a CSV file, pictures, and the priors as settings for sample and sweep",
    )
    return parser


def check_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Settings of `bnnpriors check`."""
    parser = new_parser(
        "Test a prior: its density, draws, gradient, shapes, copies and seeds, and that HMC returns it. Or a sampler: known "
        "laws, reversibility, Geweke's joint test, seeds, resuming. Or a kernel: symmetry, positive semi-definiteness, diagonal, "
        "blocks, gradients. The exit status is 1 if it fails."
    )
    parser.add_argument(
        "--prior",
        type=Prior | Distribution | None,
        default=None,
        help="class path of a prior, and its arguments as --prior.<name>",
    )
    parser.add_argument(
        "--sampler",
        type=Sampler | None,
        default=None,
        help="class path of a sampler, and its arguments as --sampler.<name>",
    )
    if arguments[:1] == ["check"]:  # GPyTorch takes a while to import
        from gpytorch.kernels import Kernel

        parser.add_argument(
            "--kernel",
            type=Kernel | None,
            default=None,
            help="class path of a GPyTorch kernel, or of a function that returns one, and its arguments as --kernel.<name>",
        )
    parser.add_argument(
        "--shape",
        type=list[int] | None,
        default=None,
        help="of the parameter, or of one input of the kernel; a small one that fits if not given",
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the test's random numbers")
    return parser
