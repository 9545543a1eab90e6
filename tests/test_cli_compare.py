"""`bnnpriors compare` from end to end: a small real data set, what is left behind, a kill, and errors in one line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnnpriors.cli import main

SETTINGS = """
name: tiny
model: {class_path: bnnpriors.models.mlp, init_args: {hidden: [5], activation: tanh}}
priors: {"*": {class_path: bnnpriors.priors.Normal, init_args: {scale: 0.5}}}
likelihood: {class_path: bnnpriors.likelihoods.Gaussian, init_args: {scale: 0.7}}
methods:
  Laplace: {class_path: bnnpriors.methods.Laplace, init_args: {num_steps: 50}}
  HMC:
    class_path: bnnpriors.methods.MCMC
    init_args:
      sampler: {class_path: bnnpriors.samplers.HMC, init_args: {step_size: 0.01, num_steps: 3}}
      num_samples: 10
      num_warmup: 10
      num_chains: 2
  infinite width: {class_path: bnnpriors.methods.InfiniteWidth}
"""
MORE = (
    "  ensemble: {class_path: bnnpriors.methods.DeepEnsemble, init_args: {num_members: 2, num_steps: 20}}\n"
)
SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path
from bnnpriors.methods import Laplace

@dataclass(frozen=True)
class Slow(Laplace):
    num_steps: int = 20

    def fit(self, posterior, *, seed, store):
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.05)
        return super().fit(posterior, seed=seed, store=store)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> int:
    return main(["compare", "--config", "tiny.yaml", "--output", "run", *arguments])


def test_what_a_comparison_leaves_behind(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Diabetes of scikit-learn; the same command again runs nothing, and a method that is new runs alone."""
    assert run() == 0
    with (here / "run" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["Laplace", "HMC", "infinite width"]
    assert {"nll", "nll_se", "rmse", "ece", "coverage_95", "seconds", "gap", "own.log_evidence"} <= set(
        rows[0]
    )
    assert 40 < float(rows[2]["rmse"]) < 70  # the spread of the targets is 77
    table = (here / "run" / "table.md").read_text(encoding="utf-8")
    assert table.startswith("| method | NLL | RMSE |")
    assert (here / "run" / "comparison.html").read_text(encoding="utf-8").count("<svg") == 3
    assert json.loads((here / "run" / "results.json").read_text())["command"] == "compare"
    assert "…" not in capsys.readouterr().out
    (here / "tiny.yaml").write_text(SETTINGS + MORE, encoding="utf-8")
    assert run() == 0
    said = capsys.readouterr().out
    assert said.count("done before") == 3
    assert "ensemble: running" in said
    assert run("--only", "[HMC]") == 0


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_commands_of_sampled_runs_say_where_a_comparison_is(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--only", "[infinite width]") == 0
    assert main([command, "run"]) == 2
    error = capsys.readouterr().err
    assert "a folder of `bnnpriors compare`, expected one of sample or sweep" in error
    assert f"its page is {Path('run', 'comparison.html')}" in error


def test_a_method_that_has_changed_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--only", "[Laplace]") == 0
    (here / "tiny.yaml").write_text(SETTINGS.replace("num_steps: 50", "num_steps: 60"), encoding="utf-8")
    assert run("--only", "[Laplace]") == 1
    error = capsys.readouterr().err
    assert "Laplace.json holds the result of other settings" in error
    assert "num_steps" in error
    assert run("--only", "[Laplace]", "--seed", "1") == 2
    assert "other settings: seed" in capsys.readouterr().err


def test_a_process_that_is_killed_goes_on_where_it_was(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "slow.py").write_text(SLOW, encoding="utf-8")
    slow = "  slow: {class_path: slow.Slow}\n"
    (here / "tiny.yaml").write_text(SETTINGS + slow, encoding="utf-8")
    line = ["import sys; from bnnpriors.cli import main; sys.exit(main(sys.argv[1:]))"]
    command = [sys.executable, "-c", *line, "compare", "--config", "tiny.yaml", "--output", "run"]
    process = subprocess.Popen([*command, "--only", "[Laplace, slow]"], cwd=here)
    try:
        deadline = time.monotonic() + 120
        while not (here / "begun").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [file.name for file in (here / "run" / "methods").glob("*.json")] == ["Laplace.json"]
    (here / "go").touch()
    assert run("--only", "[Laplace, slow]") == 0
    said = capsys.readouterr().out
    assert "Laplace: done before" in said
    assert "slow: running" in said
    assert (here / "run" / "methods" / "slow.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "[HMC, nuts]"], "only: 'nuts' given, expected some of Laplace, HMC, infinite width"),
        (["--methods", "{}"], "methods: none given"),
        (["--likelihood", "bnnpriors.likelihoods.Categorical"], "is for classification and the data"),
        (["--methods", "{a: {class_path: bnnpriors.methods.Laplac}}"], "Laplac"),
    ],
)
def test_mistakes_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("bnnpriors compare: error: ")
    assert error.count("\n") == 1
    assert not (here / "run").exists()


def test_defaults_are_a_configuration_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--print_config"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "bnnpriors.methods.InfiniteWidth" in printed
    assert "bnnpriors.datasets.diabetes" in printed
