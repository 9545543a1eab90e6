"""The configurations of experiments/resnet20 say what its README says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnnpriors.cli.build import build_posteriors
from bnnpriors.cli.parsers import build_parser

FOLDER = Path(__file__).parents[1] / "experiments" / "resnet20"


@pytest.mark.parametrize(("files", "num_data"), [(["two_cores"], 10_000), (["two_cores", "gpu"], 50_000)])
def test_the_settings_are_those_of_the_published_code(
    files: list[str], num_data: int, tmp_path: Path
) -> None:
    for name in ("data_batch_1.bin", "test_batch.bin"):
        np.zeros((128, 3073), dtype=np.uint8).tofile(tmp_path / name)
    given = ["sample"]
    given += [argument for name in files for argument in ("--config", str(FOLDER / f"{name}.yaml"))]
    given += [
        "--device",
        "cpu",
        "--data.root",
        str(tmp_path),
        "--data.num_train",
        "128",
        "--data.num_test",
        "2",
    ]
    parser = build_parser(given)
    settings = parser.instantiate(parser.parse_args(given)).sample
    (posterior,) = build_posteriors(settings, settings.data).values()
    assert posterior.dim == 274_378
    cycles = settings.sampler.sampler
    assert cycles.sampler.step_size**2 * num_data == pytest.approx(0.1, rel=0.01)
    assert (cycles.sampler.momentum_decay, settings.batch_size, cycles.ramp) == (0.98, 128, True)
    if files[-1] == "gpu":
        epoch = 50_000 // 128
        assert (settings.num_warmup, settings.thin, cycles.cycle_length) == (
            150 * epoch,
            50 * epoch,
            50 * epoch,
        )
        assert settings.num_samples == (1500 - 150) // 50
        assert len(posterior.temperatures) == 7
