"""The command line: `bnnpriors sample | sweep | compare | evaluate | report | kernel | weights | check`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

CONTINUE = 130  # the exit code of a shell command stopped by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Modules in the working directory can be imported, as under `python -m`.

    Returns the exit code: 0, 1 for a run or a check that failed, 2 for unfit settings, 130 where it was stopped.
    """
    from argparse import ArgumentError

    from .commands import COMMANDS
    from .options import full_paths
    from .parsers import build_parser

    given = full_paths(sys.argv[1:] if arguments is None else arguments)

    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # read where dask is imported
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    name = given[0] if given and given[0] in COMMANDS else ""
    try:
        if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):
            sys.path.insert(0, os.getcwd())
        parser = build_parser(given)
        config = parser.parse_args(given)
        code = COMMANDS[config.subcommand](parser, config, given)
    except (RuntimeError, OSError, MemoryError) as error:
        return _fail(name, error, 1)
    except (ArgumentError, ValueError, TypeError) as error:
        return _fail(name, error, 2)
    except KeyboardInterrupt:
        print(
            "stopped; the draws up to the last checkpoint, or the tiles of a kernel, are kept",
            file=sys.stderr,
        )
        return CONTINUE
    return code or 0


def _fail(name: str, error: BaseException, code: int) -> int:
    """One line about what went wrong; a line that is said twice is said once."""
    lines = dict.fromkeys(" ".join(line.split()).removeprefix("- ") for line in str(error).splitlines())
    text = " ".join(line for line in lines if line) or type(error).__name__
    print(f"{f'bnnpriors {name}'.strip()}: error: {text}", file=sys.stderr)
    return code
