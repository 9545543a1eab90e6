"""One progress bar: step, acceptance, kinetic temperature, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

INTERVAL = 0.2


class Progress:
    """A bar on standard error; silent where that is no terminal or `enabled` is false."""

    def __init__(self, total: int, *, enabled: bool) -> None:
        self._bar: RichProgress | None = None
        self._last = 0.0
        if enabled and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task("warm-up", total=total, figures="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def due(self) -> bool:
        """Whether it is time to draw again, so that figures are computed only when they are shown."""
        return self._bar is not None and time.monotonic() - self._last > INTERVAL

    def show(self, step: int, figures: Mapping[str, float], warming_up: bool) -> None:
        """Draw the bar."""
        assert self._bar is not None
        self._last = time.monotonic()
        text = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
        description = "warm-up" if warming_up else "sampling"
        self._bar.update(self._task, completed=step, description=description, figures=text)
