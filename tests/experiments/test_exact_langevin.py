"""experiments/exact_langevin: the reverse densities, tables of a tiny run, and a run that is stopped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bnnpriors as bp
from experiments.exact_langevin import pictures, reverse, run
from experiments.shared import Record, read_table

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "exact_langevin"
TINY = """
reverse: {dims: [1, 2], widths: [1.0, 0.1], samples: 500}
harmonic: {dim: 8, step_sizes: [0.5], temperatures: [1.0], num_samples: 5, thin: 2, num_warmup: 5, num_chains: 2}
network:
  temperatures: [1.0]
  batch_sizes: [null, 50]
  step_sizes: [0.02]
  steps_per_test: [1, 3]
  num_chains: 2
  num_tests: 3
  num_warmup: 2
  num_samples: 4
  thin: 2
  corrected:
    sampler: {step_size: 0.02, momentum_decay: 0.9, steps_per_test: 4}
    run: {num_warmup: 2, num_samples: 4}
posterior:
  model: {init_args: {hidden: [2]}}
"""
SHARED = {"step_size": 0.7, "temperature": 0.5}


def ratios(width: float, dim: int, samples: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """log ratios of both samplers."""
    generator = torch.Generator().manual_seed(seed)
    begin = reverse.start(samples, dim, SHARED["temperature"], generator)
    return {
        "SGHMC": reverse.sghmc_log_ratio(begin, width, decay=0.6, generator=generator, **SHARED),
        "GGMC": reverse.ggmc_log_ratio(begin, width, generator=generator, **SHARED),
    }


@pytest.mark.parametrize("sampler", ["SGHMC", "GGMC"])
def test_the_ratio_of_densities_has_mean_one(sampler: str) -> None:
    """∫ p(x) q(x → x′) · p(x′) q(x′ → x) / (p(x) q(x → x′)) = 1. False alarm 6e-7 (five standard errors)."""
    ratio = ratios(1.5, 1, 400_000)[sampler].exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.02
    assert abs(float(ratio.mean()) - 1) < 5 * error


@pytest.mark.parametrize("sampler", ["SGHMC", "GGMC"])
def test_the_blurred_test_leaves_the_target_as_it_is(sampler: str) -> None:
    """Forwards as probable as backwards: E[min(1, r)] over pairs whose energy grows equals that over pairs whose energy falls,
    in stationarity. Here: E[min(1, r) (r ≥ 1)] = E[min(1, r) · (r < 1)] weighs the same pairs from both ends. 6e-7."""
    log_ratio = ratios(1.5, 1, 400_000)[sampler]
    probability = log_ratio.clamp(max=0.0).exp()
    difference = torch.where(log_ratio > 0, probability, -probability)
    error = float(difference.std()) / math.sqrt(len(difference))
    assert abs(float(difference.mean())) < 5 * error


def test_without_blur_ggmc_is_leapfrog_and_sghmc_never_comes_back() -> None:
    """On ‖θ‖²/2 leapfrog conserves ‖m‖² + (1 − h²/4)‖θ‖², so ΔE = (h²/8)(‖θ′‖² − ‖θ‖²); SGHMC's acceptance falls as δ."""
    generator = torch.Generator().manual_seed(0)
    begin = reverse.start(2000, 3, 0.5, generator)
    found = reverse.ggmc_log_ratio(begin, 1e-7, generator=generator, **SHARED)
    h = SHARED["step_size"]
    theta, _ = reverse.kick_and_drift(*begin, begin[0], torch.tensor(h, dtype=torch.float64))
    change = h**2 / 8 * (theta.square() - begin[0].square()).sum(1)
    torch.testing.assert_close(found, -change / 0.5, atol=1e-5, rtol=0)
    wide, narrow = (reverse.acceptance(ratios(width, 1, 400_000)["SGHMC"])[0] for width in (0.01, 0.001))
    assert wide / narrow == pytest.approx(10, rel=0.35)
    assert reverse.acceptance(ratios(0.001, 1, 1000)["GGMC"])[0] > 0.9


def settings(folder: Path) -> list[str]:
    """A configuration of a few seconds."""
    file = folder / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    return ["--config", str(FOLDER / "two_cores.yaml"), "--config", str(file)]


@pytest.mark.slow
def test_a_stopped_run_gives_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the third of eight comparisons; other settings are refused."""
    line = settings(tmp_path)
    assert list(run.parts([*line, "--output", str(tmp_path / "whole")])) == ["reverse", "harmonic", "network"]
    bias, calls = run.bias, []

    def stop(*given: object) -> list[Record]:
        calls.append(given[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return bias(*given)

    monkeypatch.setattr(run, "bias", stop)
    again = [*line, "--output", str(tmp_path / "stopped")]
    with pytest.raises(KeyboardInterrupt):
        list(run.parts(again))
    list(run.parts(again))
    assert len(calls) == 3 + 6
    for name in pictures.TABLES:
        file = f"{name}.csv"
        assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    with pytest.raises(ValueError, match="other settings: seed differ"):
        list(run.parts([*again, "--seed", "1"]))
    found = {name: read_table(tmp_path / "whole" / f"{name}.csv") for name in pictures.TABLES}
    for name, draw in pictures.PICTURES.items():
        draw(found[name]).savefig(tmp_path / f"{name}.png")
    assert "| 0.1 |" in pictures.reverse_table(found["reverse"])
    assert "| BAOAB |" in pictures.harmonic_table(found["harmonic"])
    assert pictures.bias_table(found["bias"]).count("\n") == 1 + 2
    assert {row["sampler"] for row in found["bias"]} == set(pictures.STYLES) - {"GGMC"}


def test_a_run_that_is_lost_is_a_row() -> None:
    """A step size beyond stability is reported, and ends nothing."""
    net = torch.nn.Linear(4, 1, bias=False).double()
    post = bp.Posterior(bp.attach(net, bp.priors.Normal(0.0, 1e-3)), temperature=1.0)
    start = bp.sample(post, bp.samplers.GGMC(1e-4, 0.9, 2), num_samples=4, num_chains=2, progress=False)
    network = run.Network([1.0], [], [], [], 0.9, 2, 1, 2000, 4, 1, {})
    assert run.bias(network, post, bp.samplers.SGLD(1.0), start, None, 0) == [
        {"temperature": 1.0, "stable": 0.0}
    ]


def test_the_energy_excess_of_a_harmonic_is_that_of_the_variance() -> None:
    """E[U] 2/(d T) = Var θ k/T, from draws that are known."""
    net = torch.nn.Linear(5, 1, bias=False).double()
    post = bp.Posterior(bp.attach(net, bp.priors.Normal(0.0, 2.0)), temperature=0.3)
    draws = bp.sample(post, bp.samplers.BAOAB(0.5), num_samples=6, num_chains=2, progress=False)
    expected = (draws.theta.square() / 4).sum(2).mean(1) / 0.3 / 2
    at_zero = float(post.target(1).potential(torch.zeros(1, 5, dtype=torch.float64))) / 0.3
    torch.testing.assert_close(run.energies(post, draws) - at_zero, expected, rtol=1e-9, atol=0)
