"""`bnnpriors kernel`: its figures are those of the Python interface, and it goes on where it was stopped."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.cli import main
from bnnpriors.infinite import tile_work

P = bp.priors
NETWORK = """
import torch
import bnnpriors as bp
from bnnpriors.module import BayesianModule

def net(num_outputs: int, shape: tuple[int, int, int]) -> torch.nn.Module:
    conv = torch.nn.Conv2d(shape[0], 2, 3)
    positions = (shape[1] - 2) * (shape[2] - 2)
    return torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(2 * positions, num_outputs))

def with_priors(num_outputs: int, shape: tuple[int, int, int]) -> BayesianModule:
    return bp.attach(net(num_outputs, shape), bp.priors.Normal(0.0, 0.4))
"""
SMALL = [
    "kernel",
    "--data",
    "digits",
    "--train",
    "[40, 60]",
    "--test",
    "30",
    "--tile",
    "25",
    "--dtype",
    "float64",
]
MODEL = ["--model.class_path", "own_networks.with_priors"]


@pytest.fixture(autouse=True)
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(NETWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def _rows(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]  # type: ignore[no-any-return]


def test_classification_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of the Python interface on the same points; the noise of 60 points by leaving one out of 50."""
    folder = tmp_path / "run"
    line = [*SMALL, *MODEL, "--ood", "inverted", "--num_ood", "20", "--select", "50", "--output", str(folder)]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "60 train, 30 test, 20 ood points, 4.83e+03 pairs in float64" in out
    assert out.index("Cost: at") < out.index("train: 6 tiles")
    assert "auroc_ood" in out
    data = bp.datasets.digits(seed=0, test_fraction=0.2)
    train, test, ood = (
        data.denormalize(x).double().reshape(-1, 1, 8, 8)
        for x in (data.x_train[:60], data.x_test[:30], bp.datasets.out_of_distribution(data, "inverted")[:20])
    )
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 10)
    )
    kernel = infinite.kernel(bp.attach(net, P.Normal(0.0, 0.4)))
    rows = _rows(folder)
    assert [row["train"] for row in rows] == [40, 60]
    for count, few, row in zip((40, 60), (40, 50), rows, strict=True):
        one_hot = torch.nn.functional.one_hot(data.y_train[:few], 10).double() - 0.1
        gp = infinite.GPRegression(kernel, train[:few], one_hot).select_noise("leave_one_out")
        classifier = infinite.LeastSquaresClassifier(
            kernel,
            train[:count],
            data.y_train[:count],
            num_classes=10,
            noise=gp.noise.item(),
            scale=gp.scale.item(),
        )
        figures = bp.evaluate(classifier.predict(test), data.y_test[:30], ood=classifier.predict(ood))
        for name in ("accuracy", "nll", "ece", "auroc_ood"):
            assert row[name] == pytest.approx(figures[name], rel=1e-5), name
        assert row["error"] == pytest.approx(1 - figures["accuracy"])
        assert row["noise"] == pytest.approx(gp.noise.item(), rel=1e-4)


def test_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped after two tiles, then again, then with nothing left to do."""
    line = [*SMALL, *MODEL, "--output", str(tmp_path / "run")]
    computed: list[int] = []
    compute = tile_work.compute_tile

    def counted(*given: object) -> object:
        computed.append(1)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return compute(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tile_work, "seconds_per_pair", lambda *given: 1e-6)
    monkeypatch.setattr(tile_work, "compute_tile", counted)
    assert main(line) == 130
    assert "tiles of a kernel, are kept" in capsys.readouterr().err
    assert main(line) == 0
    assert "train: 4 tiles" in capsys.readouterr().out
    assert len(computed) == 3 + 4 + 6
    rows = _rows(tmp_path / "run")
    assert main(line) == 0
    assert len(computed) == 3 + 4 + 6
    assert [row["nll"] for row in _rows(tmp_path / "run")] == [row["nll"] for row in rows]
    assert infinite.open_gram(tmp_path / "run" / "gram" / "train.zarr").is_complete
    config = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["train"] == [40, 60]
    assert main([*line, "--dtype", "float32"]) == 2
    assert "other settings: dtype" in capsys.readouterr().err


def test_regression_with_validation(tmp_path: Path) -> None:
    """Standardised flat inputs, priors of the command line, and the noise by 50 points that are held out."""
    folder = tmp_path / "run"
    (tmp_path / "run.yaml").write_text(
        """
data: bnnpriors.datasets.diabetes
model: {class_path: bnnpriors.models.mlp, init_args: {hidden: [5]}}
priors: {"*": {class_path: bnnpriors.priors.Normal, init_args: {scale: 0.5}}}
validation: 50
train: 80
dtype: float64
""",
        encoding="utf-8",
    )
    assert main(["kernel", "--config", str(tmp_path / "run.yaml"), "--output", str(folder)]) == 0
    data = bp.datasets.diabetes()
    kernel = infinite.kernel(bp.attach(bp.models.mlp(10, 1, hidden=(5,)), P.Normal(0.0, 0.5)))
    gp = infinite.GPRegression(kernel, data.x_train[:80], data.y_train[:80])
    gp.select_noise(validation=(data.x_train[80:130], data.y_train[80:130]))
    expected = bp.evaluate(gp.predict(data.x_test), data.y_test, target_scale=data.target_scale)
    (row,) = _rows(folder)
    assert row["rmse"] == pytest.approx(expected["rmse"], rel=1e-5)
    assert row["nll"] == pytest.approx(expected["nll"], rel=1e-5)
    assert row["validation"] == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2", "--scheduler", "tcp://a:1"], "expected one of them"),
        (["--train", "1500"], "expected 1437 points at most together"),
        (["--test", "400"], "expected 360 at most"),
        (["--input_shape", "[3, 8, 8]"], "expected a shape of 64 numbers"),
        (["--model.class_path", "own_networks.net"], "has no priors; give --priors"),
        (["--priors", '{"*": {"class_path": "bnnpriors.priors.Normal"}}'], "has priors of its own"),
        (["--model.class_path", "own_networks.absent"], "cannot be imported"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["kernel", "--data", "digits", *MODEL, *options, "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_too_many_points_for_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first tile: 60² entries of float64, and two blocks of 60 × 1,024 for predictions."""
    monkeypatch.setattr("bnnpriors.infinite.factor.free_memory", lambda: 8 * 60**2 + 2 * 8 * 60 * 1024 - 1.0)
    assert main([*SMALL, *MODEL, "--output", str(tmp_path / "run")]) == 1
    assert (
        "exact regression on 60 points needs 988 KiB of memory and 988 KiB is free" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_settings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """With the data set by its name."""
    with pytest.raises(SystemExit) as stop:
        main(["kernel", "--data=mnist", "--train", "10000", "--print_config"])
    assert stop.value.code == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["class_path"] == "bnnpriors.datasets.mnist"
    assert settings["train"] == 10000
    assert settings["model"]["class_path"] == "bnnpriors.infinite.zoo.convnet_gp"
