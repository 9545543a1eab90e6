"""The progress display in a terminal, in a notebook, and where nobody would see it."""

import io
import logging
import sys
from types import ModuleType

import pytest
import rich.console
from rich.console import Console

from bnnpriors import sampling
from bnnpriors.samplers import HMC

from .conjugate import regression

SAMPLER = HMC(step_size=0.05, num_steps=2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Standard error as a terminal; within the test, because pytest sets its own between fixtures and test."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


class Cell:
    """Stands for IPython's `display`: what a cell's output shows, one text after the other."""

    def __init__(self):
        self.outputs = []

    def display(self, value, *, display_id):
        assert display_id is True
        self.update(value)
        return self

    def update(self, value):
        assert "text/html" in value._repr_mimebundle_([], [])  # what a notebook asks of an object
        console = Console(file=io.StringIO(), width=150, force_jupyter=False)
        console.print(value)
        self.outputs.append(console.file.getvalue())


@pytest.fixture
def cell(monkeypatch):
    cell, module = Cell(), ModuleType("IPython.display")
    module.display = cell.display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    return cell


def run(monkeypatch, shown, **options):
    """A run of 30 steps, and what was shown when its plan was chosen."""
    before = []
    choose = sampling.choose_plan

    def choose_plan(*args, **settings):
        before.append(shown())
        return choose(*args, **settings)

    monkeypatch.setattr(sampling, "choose_plan", choose_plan)
    sampling.sample(regression()[0], SAMPLER, num_samples=10, num_warmup=10, thin=2, num_chains=2, **options)
    return before[0]


def test_a_terminal_shows_the_estimate_and_then_the_bar(monkeypatch):
    shown = terminal(monkeypatch)
    lines = run(monkeypatch, shown.getvalue).splitlines()
    assert "HMC: " in lines[0]
    assert "full-data gradients of every chain" in lines[0]
    assert "of memory" in lines[0]
    assert any("preparing" in line and "0/30" in line for line in lines[1:])
    last = shown.getvalue().rpartition("sampling")[2]
    assert "30/30" in last
    assert "acceptance" in last


def test_a_notebook_shows_the_same_in_the_output_of_its_cell(monkeypatch, cell):
    before = run(monkeypatch, lambda: list(cell.outputs))
    (first,) = before
    heading, bar = first.splitlines()
    assert heading.startswith("HMC: ")
    assert "of memory" in heading
    assert "preparing" in bar
    assert "0/30" in bar
    heading, bar = cell.outputs[-1].splitlines()
    assert heading.startswith("HMC: ")
    assert bar.startswith("sampling")
    assert "30/30" in bar
    assert "acceptance" in bar


def test_it_is_silent_where_it_is_not_wanted(monkeypatch, cell, caplog):
    shown = terminal(monkeypatch)
    with caplog.at_level(logging.INFO, logger="bnnpriors"):
        run(monkeypatch, str, progress=False)
    assert "full-data gradients of every chain" in caplog.text
    assert shown.getvalue() == ""
    assert cell.outputs == []


def test_it_is_silent_where_standard_error_is_a_file(monkeypatch, capsys):
    run(monkeypatch, str)
    assert capsys.readouterr() == ("", "")


def test_the_display_ends_with_the_run(monkeypatch):
    """The cursor is shown again and standard error is the user's, also after a plan that cannot be had."""
    shown = terminal(monkeypatch)

    def fail():
        raise ArithmeticError("no plan")

    with pytest.raises(ArithmeticError, match="no plan"):
        run(monkeypatch, fail)
    assert sys.stderr is shown
    assert shown.getvalue().endswith("\x1b[?25h")
