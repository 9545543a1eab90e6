"""Exact and inexact Langevin dynamics (Garriga-Alonso & Fortuin, 2102.01691): acceptance, and the bias of going without.

    python -m experiments.exact_langevin.run --config experiments/exact_langevin/two_cores.yaml --output runs/exact_langevin

Writes four tables into the run folder, cell by cell: give the same command again to continue a run that was stopped.
`pictures.py` makes the pictures and the tables of the README from them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float64
from jsonargparse import ActionParser, ArgumentParser
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors.cli.build import ONLY, build_posteriors
from bnnpriors.cli.parsers import build_parser, sample_parser
from bnnpriors.evaluation import step_size_bias
from bnnpriors.evaluation.chains import convergence
from experiments.exact_langevin import reverse
from experiments.shared import Cells, Record, hold

OWN = [f"--{name}.class_path=given" for name in ("data", "model", "likelihood")]
"""Settings of `bnnpriors sample` whose defaults give way."""
SCALARS = 64
"""Predicted numbers whose convergence and bias are looked at; they take milliseconds each."""


@dataclass(frozen=True)
class Reverse:
    """Acceptance of one step against the width of the blur, on a harmonic target."""

    dims: list[int]
    widths: list[float]
    step_size: float
    momentum_decay: float
    samples: int


@dataclass(frozen=True)
class Harmonic:
    """Variance on U = ‖θ‖²/2 against step size and temperature."""

    dim: int
    step_sizes: list[float]
    temperatures: list[float]
    momentum_decay: float
    steps_per_test: int
    num_chains: int
    num_warmup: int
    num_samples: int
    thin: int


@dataclass(frozen=True)
class Network:
    """A network: a corrected run, acceptance around its draws, and uncorrected runs that begin where it ended."""

    temperatures: list[float]
    batch_sizes: list[int | None]
    step_sizes: list[float]
    steps_per_test: list[int]
    momentum_decay: float
    num_chains: int
    num_tests: int
    num_warmup: int
    num_samples: int
    thin: int
    corrected: dict[str, Any]


def reverse_cells(output: Path, settings: Reverse, seed: int) -> None:
    """Acceptance of SGHMC and GGMC with a blurred noise-free half."""
    cells = Cells(output / "reverse.csv", ("dim", "width"))
    for dim in settings.dims:
        for width in settings.widths:
            cells.fill({"dim": dim, "width": width}, partial(blurred, settings, dim, width, seed))


def blurred(settings: Reverse, dim: int, width: float, seed: int) -> list[Record]:
    """A row a sampler."""
    generator = torch.Generator().manual_seed(seed)
    begin = reverse.start(settings.samples, dim, 1.0, generator)
    shared: dict[str, Any] = {"step_size": settings.step_size, "temperature": 1.0, "generator": generator}
    ratios = {
        "SGHMC": reverse.sghmc_log_ratio(begin, width, decay=settings.momentum_decay, **shared),
        "GGMC": reverse.ggmc_log_ratio(begin, width, **shared),
    }
    rows = []
    for name, ratio in ratios.items():
        mean, error = reverse.acceptance(ratio)
        rows.append({"sampler": name, "acceptance": mean, "acceptance_se": error})
    return rows


def samplers(step_size: float, decay: float) -> dict[str, bp.samplers.Sampler]:
    """The uncorrected ones."""
    return {
        "SGLD": bp.samplers.SGLD(step_size),
        "SGHMC": bp.samplers.SGHMC(step_size, decay),
        "GGMC without test": bp.samplers.GGMC(step_size, decay),
        "BAOAB": bp.samplers.BAOAB(step_size, decay),
    }


def harmonic_cells(output: Path, settings: Harmonic, seed: int) -> None:
    """Var θ/T of every sampler, where 1 is right, beside the closed form."""
    cells = Cells(output / "harmonic.csv", ("sampler", "step_size", "temperature"))
    for step_size in settings.step_sizes:
        named = samplers(step_size, settings.momentum_decay)
        named["GGMC"] = bp.samplers.GGMC(step_size, settings.momentum_decay, settings.steps_per_test)
        for name, sampler in named.items():
            for temperature in settings.temperatures:
                key = {"sampler": name, "step_size": step_size, "temperature": temperature}
                cells.fill(key, partial(variance, settings, sampler, temperature, seed))


def variance(settings: Harmonic, sampler: Any, temperature: float, seed: int) -> list[Record]:
    """One row: coordinates are independent, which gives the error."""
    model = bp.attach(nn.Linear(settings.dim, 1, bias=False).double(), bp.priors.Normal(0.0, 1.0))
    draws = bp.sample(
        bp.Posterior(model, temperature=temperature), sampler, num_samples=settings.num_samples,
        num_warmup=settings.num_warmup, num_chains=settings.num_chains, thin=settings.thin, seed=seed, progress=False,
        compile=False,
    )  # fmt: skip
    row = _average("variance", draws.theta.double().square().mean((0, 1)) / temperature)
    exact = sampler.harmonic_variance(1.0)
    accepted = draws.stats["acceptance"].double().mean() if "acceptance" in draws.stats else 1.0
    return [row | {"closed_form": 1.0 if exact is None else exact, "acceptance": float(accepted)}]


def network_cells(output: Path, network: Network, settings: Any, seed: int) -> None:
    """Acceptance of GGMC, and the bias of the others, on the network's posterior at all temperatures."""
    data = settings.data.to(settings.device)
    settings.temperatures = network.temperatures

    def posterior(batch_size: int | None) -> bp.Posterior:
        settings.batch_size = batch_size
        return build_posteriors(settings, data)[ONLY]

    corrected = bp.sample(
        posterior(None), bp.samplers.GGMC(**network.corrected["sampler"]), **network.corrected["run"],
        num_chains=network.num_chains, seed=seed, store=output / "corrected", resume=True, init="model", progress=False,
    )  # fmt: skip
    judged = Cells(output / "corrected.csv", ("temperature",))
    for temperature in network.temperatures:
        judged.fill({"temperature": temperature}, partial(judge, corrected.at_temperature(temperature), data))
    accepted = Cells(output / "acceptance.csv", ("batch_size", "step_size", "steps_per_test"))
    biased = Cells(output / "bias.csv", ("sampler", "batch_size", "step_size"))
    for batch_size in network.batch_sizes:
        target = posterior(batch_size)
        size = float(batch_size or len(data.x_train))
        for h in network.step_sizes:
            for length in network.steps_per_test:
                sampler = bp.samplers.GGMC(h, network.momentum_decay, length)
                accept = partial(acceptance, network, target, sampler, corrected, seed)
                accepted.fill({"batch_size": size, "step_size": h, "steps_per_test": length}, accept)
            for name, uncorrected in samplers(h, network.momentum_decay).items():
                compare = partial(bias, network, target, uncorrected, corrected, data, seed)
                biased.fill({"sampler": name, "batch_size": size, "step_size": h}, compare)


def judge(draws: bp.Draws, data: Any) -> list[Record]:
    """How far the corrected run is to be trusted."""
    pred = draws.predict(data.x_test)
    found = convergence(pred.predictions_by_chain(), max_scalars=SCALARS)
    row = {"rhat": float(found.rhat.max()), "ess": float(found.ess_bulk.min())}
    for name in ("acceptance", "step_size"):
        row[name] = float(draws.stats[name].double().mean())
    virial = draws.stats["configurational_temperature"].double().mean(1) / draws.temperatures
    row["nll"] = bp.evaluate(pred, data.y_test)["nll"]
    return [row | _average("configurational_temperature", virial)]


def acceptance(
    network: Network, target: bp.Posterior, sampler: Any, start: bp.Draws, seed: int
) -> list[Record]:
    """Of tests that begin at the end of the corrected run: a row a temperature."""
    draws = bp.sample(
        target, sampler, num_samples=network.num_tests, num_chains=network.num_chains, seed=seed, init=start,
        progress=False, compile=False,
    )  # fmt: skip
    rows = []
    for temperature in network.temperatures:
        each = draws.at_temperature(temperature).stats["acceptance"].double().mean(1)  # of each chain
        rows.append({"temperature": temperature, **_average("acceptance", each)})
    return rows


def bias(
    network: Network, target: bp.Posterior, sampler: Any, start: bp.Draws, data: Any, seed: int
) -> list[Record]:
    """An uncorrected run from the end of the corrected one, and how far it is from that: a row a temperature.

    `stable` is 0 where it left the finite numbers. `energy_excess` is what E[U] has too much, in units of d T/2, chain by chain:
    in kθ²/2 it is Var θ k/T − 1. The configurational temperature E[θ·∇U]/(d T) is 1 under every target.
    """
    try:
        draws = bp.sample(
            target, sampler, num_samples=network.num_samples, num_warmup=network.num_warmup, num_chains=network.num_chains,
            thin=network.thin, seed=seed, init=start, progress=False, compile=False,
        )  # fmt: skip
    except bp.SamplingError:
        return [{"temperature": temperature, "stable": 0.0} for temperature in network.temperatures]
    excess = (energies(target, draws) - energies(target, start)) * 2 / target.dim
    virial = draws.stats["configurational_temperature"].double().mean(1) / draws.temperatures
    rows = []
    for temperature in network.temperatures:
        rung = draws.temperatures == temperature
        ours, theirs = draws.at_temperature(temperature), start.at_temperature(temperature)
        found = step_size_bias(ours, theirs, data.x_test, max_scalars=SCALARS)
        row = {"temperature": temperature, "stable": 1.0, **_average("energy_excess", excess[rung])}
        row |= _average("configurational_temperature", virial[rung])
        row |= {name: value for name, value in asdict(found).items() if value is not None}
        rows.append(row | {"found": float(found.is_found)})
    return rows


def energies(target: bp.Posterior, draws: bp.Draws) -> Float64[Tensor, " chains"]:
    """The mean of U/T over each chain, on the full data: of a chain that stays in its mode it is known well, and modes differ."""
    exact = target.target(draws.num_chains)
    values = torch.stack([exact.potential(theta) for theta in draws.theta.to(target.device).unbind(1)], 1)
    return (values / exact.temperature[:, None].double()).mean(1).cpu()


def _average(name: str, values: Tensor) -> Record:
    """The mean of independent values, and its standard error."""
    return {name: float(values.mean()), f"{name}_se": float(values.std()) / len(values) ** 0.5}


def build() -> ArgumentParser:
    """The parser of the settings."""
    build_parser()  # teaches jsonargparse which classes are data sets and scale rules
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", action="config", help="a YAML file of settings; several are read in order"
    )
    parser.add_argument("--output", type=Path, required=True, help="the run folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reverse", type=Reverse)
    parser.add_argument("--harmonic", type=Harmonic)
    parser.add_argument("--network", type=Network)
    parser.add_argument(
        "--posterior", action=ActionParser(sample_parser(OWN)), help="settings of `bnnpriors sample`"
    )
    return parser


def parts(arguments: list[str] | None = None) -> Iterator[str]:
    """Run what the arguments say; yields the name of each part when it is done."""
    parser = build()
    parsed = parser.parse_args(arguments)
    settings = parser.instantiate(parsed)
    plain = yaml.safe_load(parser.dump(parsed, skip_unset=False))
    hold(settings.output, {name: value for name, value in plain.items() if name not in ("config", "output")})
    reverse_cells(settings.output, settings.reverse, settings.seed)
    yield "reverse"
    harmonic_cells(settings.output, settings.harmonic, settings.seed)
    yield "harmonic"
    network_cells(settings.output, settings.network, settings.posterior, settings.seed)
    yield "network"


def main() -> None:
    """Run, and say how long each part took."""
    begun = time.monotonic()
    for part in parts():
        print(f"{part}: {time.monotonic() - begun:.0f} s so far", flush=True)


if __name__ == "__main__":
    main()
