"""`bnnpriors weights`: the files it writes are settings of the other commands, and its errors are one line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml

import bnnpriors as bp
from bnnpriors.cli import main
from bnnpriors.cli.parsers import sample_parser, sweep_parser
from bnnpriors.cli.weights import as_settings


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[str]:
    files = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        net = bp.models.mlp(64, 10, hidden=(30,))
        model = bp.attach(
            net, {"0.weight": bp.priors.StudentT(2.0, 0.0, 0.05), "*": bp.priors.Normal(0.0, 0.3)}
        )
        torch.save(model.sample_prior_(generator).export().state_dict(), tmp_path / f"{seed}.pt")
        files.append(str(tmp_path / f"{seed}.pt"))
    return files


def test_what_it_writes_is_a_configuration(
    checkpoints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert main(["weights", *checkpoints, "--scale=fan_in", "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "Nats per held-out weight" in said
    assert (folder / "weights.txt").read_text(encoding="utf-8").strip() in said
    with (folder / "weights.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert float(rows[0]["df_low"]) < 2 < float(rows[0]["df_high"])
    assert (folder / "0.weight-marginals.png").stat().st_size > 5000

    line = ["--config", str(folder / "priors.yaml")]
    settings = sample_parser(line).instantiate(sample_parser(line).parse_args(line))
    fitted = bp.priors.fit(checkpoints, scale="fan_in").priors
    assert {n: repr(p) for n, p in settings.priors.items()} == {n: repr(p) for n, p in fitted.items()}
    line = ["--config", str(folder / "sweep.yaml")]
    curves = sweep_parser(line).instantiate(sweep_parser(line).parse_args(line)).priors
    assert set(curves) == {"Empirical", "Normal"}
    assert all(isinstance(prior, bp.priors.Normal) for prior in curves["Normal"].values())
    bp.attach(bp.models.mlp(64, 10, hidden=(30,)), curves["Empirical"])


def test_settings_of_a_prior_leave_defaults_out() -> None:
    prior = bp.priors.StudentT(df=2.5, scale=bp.priors.fan_in(1.5))
    assert as_settings(prior) == {
        "class_path": "bnnpriors.priors.StudentT",
        "init_args": {
            "df": 2.5,
            "scale": {"class_path": "bnnpriors.priors.fan_in", "init_args": {"gain": 1.5}},
        },
    }
    assert yaml.safe_load(yaml.safe_dump(as_settings(prior))) == as_settings(prior)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{0}", "--include=conv*"], 2, "no weights match include='conv*'"),
        (["{0}", "missing.pt"], 1, "missing.pt: no such file"),
        (["{0}", "--level=3"], 2, "level 3.0 given"),
        (["{0}", "--scale=wide"], 2, "scale"),
        (["{0}", "--output={0}"], 2, "is a file, expected a folder"),
        ([], 2, "checkpoints"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], code: int, words: str, checkpoints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", *(argument.format(*checkpoints) for argument in arguments)]) == code
    said = capsys.readouterr().err.strip()
    assert said.startswith("bnnpriors weights: error: ")
    assert words in said
    assert "\n" not in said
