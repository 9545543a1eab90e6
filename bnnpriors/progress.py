"""One progress display: what the run will take, then step, acceptance, kinetic temperature, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

INTERVAL = 0.2


class Progress:
    """A heading and a bar, in the output of a notebook's cell or on a terminal's standard error.

    It is silent elsewhere, or where `enabled` is false. `doing` is the word before the bar.
    """

    def __init__(self, total: int, *, heading: str, enabled: bool, doing: str = "sampling") -> None:
        self._bar: _Bar | None = None
        self._cell: Any = None
        self._last = 0.0
        self._total, self._doing = total, doing
        console = Console(stderr=True)
        self._in_notebook = console.is_jupyter
        if enabled and (self._in_notebook or sys.stderr.isatty()):
            self._bar = _Bar(heading, console)
            self._task = self._bar.add_task("preparing", total=total, figures="")

    def __enter__(self) -> Progress:
        if self._bar is not None and self._in_notebook:
            from IPython.display import display

            # rich's own live display needs ipywidgets in a notebook; an output that is replaced needs nothing
            self._cell = display(self._bar, display_id=True)
        elif self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None and not self._in_notebook:
            self._bar.stop()

    def due(self) -> bool:
        """Whether it is time to draw again, so that figures are computed only when they are shown."""
        return self._bar is not None and time.monotonic() - self._last > INTERVAL

    def show(self, step: int, figures: Mapping[str, float], warming_up: bool = False) -> None:
        """Draw the bar."""
        self._last = time.monotonic()
        text = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
        self._draw(completed=step, description="warm-up" if warming_up else self._doing, figures=text)

    def complete(self) -> None:
        """Draw the bar at its end; the figures stay those of the last `show`."""
        self._draw(completed=self._total, description=self._doing)

    def _draw(self, **fields: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._task, **fields)
        if self._cell is not None:
            self._cell.update(self._bar)


class _Bar(RichProgress):
    """rich's bar under a line of text."""

    def __init__(self, heading: str, console: Console) -> None:
        self._heading = Text(heading)
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"), console=console,
        )  # fmt: skip

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self._heading
        yield from super().get_renderables()
