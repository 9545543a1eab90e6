"""The command line from end to end: tiny runs, what they leave behind, resuming, and errors in one line."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import bnnpriors as bp
from bnnpriors import Draws
from bnnpriors.cli import main
from bnnpriors.cli.commands import _seconds
from bnnpriors.cli.parsers import build_parser, sweep_parser
from bnnpriors.cli.scores import _jackknife
from bnnpriors.priors import HalfCauchy
from bnnpriors.target import Target

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = """
name: tiny
model: {class_path: bnnpriors.models.mlp, init_args: {hidden: [4]}}
priors:
  Gaussian: {"*": {class_path: bnnpriors.priors.Normal, init_args: {scale: 0.3}}}
  Heavy <t>:
    "*.weight":
      class_path: bnnpriors.priors.StudentT
      init_args: {df: 3.0, scale: {class_path: bnnpriors.priors.fan_in, init_args: {gain: 1.0}}}
    "*.bias": {class_path: torch.distributions.Laplace, init_args: {loc: 0.0, scale: 1.0}}
temperatures: [0.1, 1.0]
sampler:
  class_path: bnnpriors.samplers.GGMC
  init_args: {step_size: 0.005, momentum_decay: 0.9, steps_per_test: 2, target_acceptance: 0.8}
num_samples: 6
num_warmup: 4
num_chains: 2
"""
OWN = """
import torch
import bnnpriors as bp
from bnnpriors.datasets import Dataset

class Prior(bp.priors.Prior):
    def __init__(self, width: float = 1.0):
        self.width = width
    def log_prob(self, w):
        return -((w / self.width) ** 4)
    def sample(self, shape, *, generator=None):
        return self.width * (torch.rand(shape, generator=generator) - 0.5)

class Net(torch.nn.Module):
    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.layer = torch.nn.Linear(in_features, out_features)
    def forward(self, x):
        return self.layer(x)

class Noise(bp.likelihoods.Gaussian):
    pass

class Walk(bp.samplers.SGLD):
    pass

def data(slope: float = 2.0) -> Dataset:
    x = torch.linspace(-1, 1, 20)[:, None].numpy()
    return Dataset.from_raw("line", x[::2], slope * x[::2], x[1::2], slope * x[1::2], kind="regression")
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    assert main(["sweep", "--config", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_sweep_leaves_everything_behind(finished: Path) -> None:
    run = finished / "run"
    rows = table(run)
    assert [(row["prior"], float(row["temperature"])) for row in rows] == [
        (prior, t) for prior in ("Gaussian", "Heavy <t>") for t in (0.1, 1.0)
    ]
    wanted = {
        "error",
        "error_se",
        "nll",
        "nll_se",
        "ece",
        "brier",
        "auroc_ood",
        "acceptance",
        "rhat_predictions",
    }
    assert wanted <= set(rows[0])
    assert Draws.open(run / "draws" / "Heavy-t").theta.shape == (4, 6, 64 * 4 + 4 + 4 * 10 + 10)
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["model"]["init_args"] == {"in_features": 64, "out_features": 10, "hidden": [4]}
    assert settings["batch_size"] is None
    assert settings["sampler"]["init_args"]["momentum_decay"] == 0.9
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Heavy &lt;t&gt;" in page
    assert "Heavy <t>" not in page


@pytest.mark.slow
def test_a_run_continues_and_extends_with_the_same_draws(tiny: Path, finished: Path, tmp_path: Path) -> None:
    """Fewer draws of one prior first, then the rest: the same as in one go."""
    settings = yaml.safe_load(TINY)
    del settings["priors"]["Heavy <t>"]
    start = tmp_path / "start.yaml"
    start.write_text(yaml.safe_dump(settings), encoding="utf-8")
    output = ["--output", str(tmp_path / "run")]
    assert main(["sweep", "--config", str(start), *output, "--num_samples", "3"]) == 0
    assert main(["sweep", "--config", str(tiny), *output]) == 0
    assert main(["sweep", "--config", str(start), *output]) == 2
    for prior in ("Gaussian", "Heavy-t"):
        parts, whole = (Draws.open(f / "run" / "draws" / prior).theta for f in (tmp_path, finished))
        assert (parts == whole).all()
    assert [row["nll"] for row in table(tmp_path / "run")] == [row["nll"] for row in table(finished / "run")]


def test_evaluate_and_report_work_on_what_a_run_left(finished: Path, tmp_path: Path) -> None:
    run = finished / "run"
    before = table(run)
    assert main(["evaluate", str(run), "--output", str(tmp_path / "figures.json")]) == 0
    assert table(run) == before
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures[0]["warnings"]
    assert float(figures[0]["nll"]) == float(before[0]["nll"])
    store = run / "draws" / "Gaussian"
    line = [
        "evaluate",
        str(store),
        "--data",
        "bnnpriors.datasets.digits",
        "--output",
        str(tmp_path / "figures.csv"),
    ]
    assert main(line) == 0
    assert "auroc_ood" not in (tmp_path / "figures.csv").read_text(encoding="utf-8")
    assert main(["report", str(run), "--output", str(tmp_path / "again.html")]) == 0
    page = (tmp_path / "again.html").read_text(encoding="utf-8")
    assert page == (run / "report.html").read_text(encoding="utf-8")


def test_the_cost_of_minibatches_is_measured_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of the full data may take longer than all steps of a short run."""
    x, y = torch.zeros(40, 3), torch.zeros(40, dtype=torch.long)
    model = bp.attach(bp.models.mlp(3, 2, hidden=()), bp.priors.Normal())
    monkeypatch.setattr(Target, "trial", lambda *_: pytest.fail("the full data were evaluated"))
    assert _seconds(bp.Posterior(model, bp.likelihoods.Categorical(), x, y, batch_size=4), 2) > 0
    with pytest.raises(pytest.fail.Exception):
        _seconds(bp.Posterior(model, bp.likelihoods.Categorical(), x, y), 2)


def test_shift_is_judged_kept_and_reported(finished: Path, tmp_path: Path) -> None:
    """On a copy: the figures at level 0 are those of the test set, and the page has a section and a picture."""
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    assert main(["evaluate", str(run), "--shift", "[rotation, noise]"]) == 0
    with (run / "shift.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 11  # priors × temperatures × (1 + 2 corruptions × 5 levels)
    for clean in (row for row in rows if row["level"] == "0"):
        (own,) = (
            row
            for row in table(run)
            if (row["prior"], row["temperature"]) == (clean["prior"], clean["temperature"])
        )
        assert float(clean["nll"]) == pytest.approx(float(own["nll"]), rel=1e-6)
    assert (run / "shift.png").stat().st_size > 0
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h2>Under shift</h2>" in page
    assert "rotation" in page
    assert "Under shift" not in (finished / "run" / "report.html").read_text(encoding="utf-8")


def test_classes_of_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_cli.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = [
        "sample",
        "--data",
        "mine_for_cli.data",
        "--data.slope=3.0",
        "--ood=null",
        "--model.class_path=mine_for_cli.Net",
    ]
    line += ["--likelihood", "mine_for_cli.Noise", "--likelihood.scale=0.5", "--sampler", "mine_for_cli.Walk"]
    line += [
        "--priors",
        '{"*": {"class_path": "mine_for_cli.Prior", "init_args": {"width": 2.0}}}',
        "--batch_size=5",
    ]
    line += ["--num_samples=8", "--num_warmup=3", "--num_chains=2", "--output", str(tmp_path / "run")]
    assert main(line) == 0
    (row,) = table(tmp_path / "run")
    assert float(row["rmse"]) > 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "RMSE" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_printed_settings_are_a_configuration(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(file: Path) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["sweep", "--config", str(file), "--print_config"])
        assert stop.value.code == 0
        return capsys.readouterr().out

    (tmp_path / "again.yaml").write_text(printed(tiny), encoding="utf-8")
    assert printed(tmp_path / "again.yaml") == (tmp_path / "again.yaml").read_text(encoding="utf-8")


def test_an_object_given_anew_inherits_nothing_from_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(
        "model: {class_path: torch.nn.Linear}\nsampler: {class_path: bnnpriors.samplers.HMC}",
        encoding="utf-8",
    )
    line = ["--config", str(file)]
    settings = sweep_parser(line).parse_args(line)
    assert settings.model.init_args == {}
    assert settings.sampler.init_args.num_steps == 20
    assert "steps_per_test" not in settings.sampler.init_args
    kept = sweep_parser(["--sampler.step_size=0.5"]).parse_args(["--sampler.step_size=0.5"])
    assert kept.sampler.init_args.steps_per_test > 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sampler=bnnpriors.samplers.Nope"], "has no attribute 'Nope'"),
        (["--model.class_path=nowhere.Net"], "model.class_path 'nowhere.Net': cannot be imported"),
        (["--model.init_args.hiden=[3]"], "hiden"),
        (['--priors.x={"*.weigth": {"class_path": "bnnpriors.priors.Normal"}}'], "priors 'x': attach"),
        (['--priors.x={"*": {"class_path": "bnnpriors.priors.Norml"}}'], "has no attribute 'Norml'"),
        (["--temperatures=[0.0]"], "expected positive finite numbers"),
        (["--num_chains=0"], "num_chains"),
        (["--seed=-1"], "seed"),
        (["--device=nowhere"], "device 'nowhere': "),
        (["--sampler.steps_per_test=2.5"], "steps_per_test"),
        (["--batch_size=2.5"], "batch_size"),
        (["--sampler.step_size=-1"], "step_size -1 given"),
        (["--likelihood=bnnpriors.likelihoods.Gaussian"], "use bnnpriors.likelihoods.Categorical"),
        (["--data=bnnpriors.datasets.uci", "--data.folder=/nowhere", "--data.name=x"], "uci"),
        (["--config=missing.yaml"], "missing.yaml"),
        (["--unknown=1"], "unknown"),
    ],
    ids=lambda value: value[0][:24] if isinstance(value, list) else "",
)
def test_unfit_settings_end_in_one_line_before_any_work(
    flags: list[str], words: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["sweep", "--config", str(tiny), "--output", str(tmp_path / "run"), *flags])
    said = capsys.readouterr().err.strip()
    assert code > 0
    assert said.startswith("bnnpriors sweep: error: ")
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "run").exists()


def test_a_build_without_cuda_is_told_in_one_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr("bnnpriors.datasets.Dataset.to", refuse)
    assert main(["sweep", "--config", str(tiny), "--output", str(tmp_path / "run"), "--device=cuda"]) == 2
    assert "device 'cuda': Torch not compiled with CUDA enabled; expected" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_folders_that_do_not_fit(
    finished: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(tiny)]
    assert main(["sweep", *config, "--output", str(finished / "run"), "--seed", "1"]) == 2
    assert "seed (1 given, 0 there)" in capsys.readouterr().err
    assert main(["sweep", *config, "--output", str(tmp_path)]) == 2
    assert "not empty and no run folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "no run folder" in capsys.readouterr().err
    assert main(["evaluate", str(finished / "run" / "draws" / "Gaussian")]) == 2
    assert "give --data" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none"), "--data", "bnnpriors.datasets.digits"]) == 1
    assert "no store here" in capsys.readouterr().err


def test_a_stopped_run_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bnnpriors.sampling.sample", stop)
    run = str(tmp_path / "run")
    assert main(["sweep", "--config", str(tiny), "--output", run]) == 130
    said = capsys.readouterr()
    assert f"--output {run} to continue" in said.out
    assert "are kept" in said.err


def test_a_damaged_store_is_named(
    tiny: Path, finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "draws" / "Gaussian" / "theta" / "c" / "0" / "0" / "0").unlink()
    assert main(["report", str(tmp_path / "run")]) == 1
    assert "a chunk of array 'theta' is missing" in capsys.readouterr().err


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    apart = [(sum(values) - v) / 3 for v in values]
    spread = sum((v - 4.0) ** 2 for v in values) / 3
    assert _jackknife(apart) == pytest.approx((spread / 4) ** 0.5)


def test_the_experiment_is_the_default() -> None:
    written = yaml.safe_load(
        (REPOSITORY / "experiments" / "digits" / "sweep.yaml").read_text(encoding="utf-8")
    )
    assert written == yaml.safe_load(
        (REPOSITORY / "bnnpriors" / "cli" / "sweep.yaml").read_text(encoding="utf-8")
    )


def test_a_prior_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "checked.py").write_text(
        OWN
        + "class Right(bp.priors.Normal):\n    def __init__(self, scale: float):\n        super().__init__(0.0, scale)\n"
    )
    assert main(["check", "--prior", "checked.Right", "--prior.scale", "0.1", "--shape", "[2, 2]"]) == 0
    assert "on a tensor of shape (2, 2): 13 hold, 0 fail" in capsys.readouterr().out
    assert main(["check", "--prior", "checked.Prior"]) == 1  # its density is not normalised
    assert re.search(r"\nnormalisation +FAILS +integral", capsys.readouterr().out)
    assert main(["check"]) == 2
    assert "give --prior, --sampler or --kernel, one of them" in capsys.readouterr().err
    assert main(["check", "--prior", "bnnpriors.priors.Normal", "--shape=[-1]"]) == 2
    assert "shape (-1,) given, expected positive lengths" in capsys.readouterr().err


def test_a_sampler_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    sampler = ["--sampler", "bnnpriors.samplers.HMC"]
    assert main(["check", *sampler, "--sampler.num_steps", "4", "--seed", "1"]) == 0
    assert "must leave every law as it is: 12 hold, 0 fail, 3 not applicable" in capsys.readouterr().out
    assert main(["check", *sampler, "--shape=[2]"]) == 2
    assert "--shape is that of a parameter or an input" in capsys.readouterr().err
    assert main(["check", *sampler, "--prior", "bnnpriors.priors.Normal"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_a_kernel_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class, one that is wrong, and a function that returns the kernel of a network."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kernels.py").write_text(
        """
import torch
import bnnpriors as bp
from gpytorch.kernels import Kernel, RBFKernel

class Wrong(RBFKernel):
    def forward(self, x1, x2, diag=False, **params):
        return -super().forward(x1, x2, diag=diag, **params)

def wide(scale: float) -> Kernel:
    net = torch.nn.Sequential(torch.nn.Conv1d(2, 1, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4, 1))
    return bp.infinite.kernel(bp.attach(net, bp.priors.Normal(0.0, scale)))
""",
        encoding="utf-8",
    )
    assert main(["check", "--kernel", "kernels.wide", "--kernel.scale", "0.5", "--shape=[2, 6]"]) == 0
    assert "InfiniteWidthKernel on inputs of shape (2, 6): 10 hold, 0 fail" in capsys.readouterr().out
    assert main(["check", "--kernel", "kernels.Wrong"]) == 1
    assert re.search(r"\npositive semi-definite +FAILS", capsys.readouterr().out)
    assert main(["check", "--kernel", "kernels.wide", "--kernel.scale", "0.5"]) == 2
    assert "pass x" in capsys.readouterr().err
    assert main(["check", "--kernel", "kernels.Wrong", "--shape=[0]"]) == 2
    assert "positive lengths" in capsys.readouterr().err


@pytest.mark.parametrize(("safe", "code"), [("", 0), ("1", 2)])
def test_the_script_finds_modules_in_the_working_directory(tmp_path: Path, safe: str, code: int) -> None:
    """As the installed script does, which has its own folder and not the working directory on `sys.path`."""
    (tmp_path / "mine_for_cli.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "bnnpriors"
    script.write_text("import sys\nfrom bnnpriors.cli import main\nsys.exit(main())\n", encoding="utf-8")
    line = ["sample", "--data=mine_for_cli.data", "--print_config"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONSAFEPATH": safe}
    done = subprocess.run(
        [sys.executable, str(script), *line],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("class_path: mine_for_cli.data" in done.stdout) == (code == 0)


def test_help_of_every_command() -> None:
    for command in ("sample", "sweep", "evaluate", "report", "kernel", "weights", "check"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0


def test_the_package_imports_without_the_command_lines_libraries() -> None:
    code = "import sys, bnnpriors; print([n for n in ('jsonargparse', 'matplotlib', 'sklearn') if n in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert found.stdout.strip() == "[]"


def test_a_hyperprior_of_a_file_may_reach_over_parts_and_tensors(tmp_path):
    (tmp_path / "priors.yaml").write_text(
        """
priors:
  "*.weight":
    class_path: bnnpriors.priors.Normal
    init_args:
      scale:
        class_path: bnnpriors.priors.hyperprior
        init_args: {prior: {class_path: bnnpriors.priors.HalfCauchy}, per: input, shared: tau}
"""
    )
    line = ["sample", "--config", str(tmp_path / "priors.yaml")]
    parser = build_parser(line)
    prior = parser.instantiate(parser.parse_args(line)).sample.priors["*.weight"]
    assert repr(prior.scale) == repr(HalfCauchy().per("input").shared("tau"))


def test_chains_are_spread_as_the_settings_say(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def sample(*_: object, **options: object) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("bnnpriors.sampling.sample", sample)
    spread = ["--executor", "dask", "--scheduler", "tcp://10.0.0.1:8786"]
    main(["sweep", "--config", str(tiny), "--output", str(tmp_path / "run"), *spread])
    assert given["executor"] == "dask"
    assert given["scheduler"] == "tcp://10.0.0.1:8786"
