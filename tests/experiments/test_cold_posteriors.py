"""experiments/cold_posteriors: the configurations, figures of single seeds, the effect, and a run that is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.cli import main
from bnnpriors.cli.parsers import build_parser
from bnnpriors.run import Run
from experiments.cold_posteriors import table
from experiments.priors_revisited import table as priors_revisited
from experiments.shared import Record

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "cold_posteriors"
SMALL = [
    "--data", "digits", "--ood", "inverted", "--model.class_path", "bnnpriors.models.mlp",
    "--model.init_args", "{hidden: [4]}", "--temperatures", "[0.1, 1.0]", "--num_chains", "2", "--num_samples", "4",
    "--thin", "2", "--num_warmup", "2", "--sampler.init_args.cycle_length", "2",
]  # fmt: skip


@pytest.mark.parametrize(
    "files", [["fcnn.yaml"], ["cnn.yaml"], ["fcnn.yaml", "fcnn-gpu.yaml"], ["cnn.yaml", "cnn-gpu.yaml"]]
)
def test_priors_of_the_configurations_have_two_over_the_fan_in(files: list[str]) -> None:
    line = ["sweep", *(part for file in files for part in ("--config", str(FOLDER / file)))]
    parser = build_parser(line)
    parsed = parser.parse_args(line)
    parsed.sweep.data = {"class_path": "bnnpriors.datasets.digits"}  # MNIST may not be at hand
    settings = parser.instantiate(parsed).sweep
    assert {0.01, 0.1, 1.0} <= set(settings.temperatures)
    assert settings.num_chains >= 3
    assert settings.num_warmup % settings.thin == 0, "warm-up ends with a cycle"
    net = bp.models.mnist_cnn(channels=3) if files[0] == "cnn.yaml" else bp.models.mlp(20, 10, hidden=(7,))
    for name, priors in settings.priors.items():
        for parameter, prior in bp.attach(net, priors).named_priors().items():
            weight = dict(net.named_parameters())[parameter]
            if weight.ndim > 1:
                variance = torch.as_tensor(prior.variance()).mean()
                assert float(variance) == pytest.approx(2 / weight[0].numel(), rel=1e-5), (name, parameter)
            expected = name == "Correlated normal" and weight.ndim == 4
            assert isinstance(prior, P.CorrelatedNormal) == expected


@pytest.fixture(scope="module", autouse=True)
def _no_report() -> Iterator[None]:
    """Its pictures take most of the time of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bnnpriors.cli.commands._write_report", lambda run, _: run.path)
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two priors of the configuration on a small network of other data."""
    content = yaml.safe_load((FOLDER / "fcnn.yaml").read_text(encoding="utf-8"))
    content["priors"] = {name: content["priors"][name] for name in ("Normal", "Laplace")}
    file = tmp_path_factory.mktemp("settings") / "small.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return ["sweep", "--config", str(file), *SMALL]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    path = tmp_path_factory.mktemp("cold") / "whole"
    assert main([*settings, "--output", str(path)]) == 0
    return path


@pytest.mark.slow
def test_a_stopped_run_gives_the_same_table(
    settings: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by SIGTERM within the second prior, judged as it is, and continued."""
    table.judge(whole)
    calls = []
    record = Run._record

    def stop(self: Run) -> None:
        record(self)
        calls.append(self.iteration)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "_record", stop)
    line = [*settings, "--output", str(tmp_path / "run")]
    assert main(line) not in (0, 1, 2)
    assert len(calls) == 6
    _, early = table.judge(tmp_path / "run")
    assert {row["prior"] for row in early} == {"Normal"}
    assert main(line) == 0
    _, records = table.judge(tmp_path / "run")
    assert len(records) == 2 * 2 * 2
    assert (tmp_path / "run" / "seeds.csv").read_bytes() == (whole / "seeds.csv").read_bytes()


def test_every_seed_is_judged_by_itself(whole: Path) -> None:
    """From the store's draws of that chain, averaged by hand."""
    _, records = table.judge(whole)
    row = next(r for r in records if (r["prior"], r["temperature"], r["seed"]) == ("Laplace", 0.1, 1))
    run = table.RunFolder.open(whole)
    data = bp.datasets.digits(seed=0, test_fraction=0.2)
    outputs = run.draws("Laplace").at_temperature(0.1).predict(data.x_test).outputs_by_chain()[1]
    probs = outputs.double().softmax(-1).mean(0)
    nll = -probs[torch.arange(len(probs)), data.y_test].log().mean()
    assert row["nll"] == pytest.approx(float(nll), rel=1e-5)
    assert row["error"] == pytest.approx(float((probs.argmax(1) != data.y_test).double().mean()))
    assert 0 <= row["auroc_ood"] <= 1


def test_priors_revisited_judges_the_same_run(whole: Path) -> None:
    """Its records are of all chains together, with differences from Normal and from T = 1."""
    name, records = priors_revisited.judge(whole)
    assert name == "cold-fcnn"
    own = {(row["prior"], row["temperature"]): row for row in records}
    assert own["Normal", 0.1]["nll_minus_normal"] == 0.0
    assert own["Laplace", 1.0]["nll_minus_warm"] == 0.0
    difference = own["Laplace", 0.1]["nll"] - own["Normal", 0.1]["nll"]
    assert own["Laplace", 0.1]["nll_minus_normal"] == pytest.approx(difference, abs=1e-5)
    assert "| Normal |" in priors_revisited.table(
        list(map(priors_revisited._pool, [[row] for row in records]))
    )


def made_up(prior: str, temperature: float, nll: list[float]) -> list[Record]:
    """Rows of a posterior whose NLL is known."""
    other = dict.fromkeys(("error", "ece", "auroc_ood"), 0.5)
    diagnostics = {"configurational_temperature": 1.0, "rhat_predictions": 1.0}
    return [
        {"prior": prior, "temperature": temperature, "seed": seed, "nll": value, **other, **diagnostics}
        for seed, value in enumerate(nll)
    ]


def test_the_effect_is_that_of_the_means() -> None:
    """Normal gains 0.3 by cooling, the other prior nothing; and the other gains less by 0.3."""
    rows = made_up("Normal", 0.1, [0.19, 0.2, 0.21]) + made_up("Normal", 1.0, [0.49, 0.5, 0.51])
    rows += made_up("Heavy", 0.1, [0.4, 0.5, 0.6]) + made_up("Heavy", 1.0, [0.39, 0.4, 0.41])
    pooled = table.pool(rows)
    normal, heavy = table.effects(pooled)
    assert (normal["best"], heavy["best"]) == (0.1, 1.0)
    assert normal["gain"][0] == pytest.approx(0.3)
    assert heavy["gain"] == (0.0, 0.0)
    assert heavy["from_reference"][0] == pytest.approx(-0.1)
    assert heavy["weaker"] == pytest.approx(normal["gain"])
    text = table.table(pooled)
    assert "| Normal | 50.00 ± 0.00 % | 0.500 ± 0.025 |" in text
    assert "**+0.300 ± 0.023**" in text
    assert "0.200; 1.00; 1.00" in table.ladder_table(pooled)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    rows = made_up("Normal", 0.1, [0.19, 0.2]) + made_up("Normal", 1.0, [0.49, 0.5])
    pooled = table.pool(rows)
    table.curves(pooled, table.METRICS, bars="half", title="prior", whole=True).savefig(
        tmp_path / "curves.png"
    )
    figure = table.effect_picture({"data": pooled})
    assert figure.axes[0].get_lines()[0].get_ydata()[0] == pytest.approx(-0.3)
