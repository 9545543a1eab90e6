"""What each command does, from its settings to its files."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from .. import sampling
from ..cost import estimate
from ..datasets import Dataset, corruptions
from ..draws import Draws
from ..evaluation import evaluate_shift
from ..posterior import Posterior
from ..streams import Streams
from .build import build_posteriors, check_model_path, fill_features, named_priors, on_device, ood_inputs
from .check import check
from .compare import compare
from .kernel import kernel
from .parsers import sample_parser, sweep_parser
from .printing import console, findings, say, shift_findings, worst
from .runs import RunFolder, complete, run_path, write_table
from .scores import METRICS, score
from .weights import weights

PARSERS: dict[str, Callable[[], ArgumentParser]] = {"sample": sample_parser, "sweep": sweep_parser}


def sample(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Draw, and judge the draws."""
    run, kind = _draw("sample", parser, config, arguments)
    console.print(findings(run.results["rows"], kind))
    say(f"Next: bnnpriors report {run.path}")


def sweep(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Draw from every posterior, judge the draws, and write the report."""
    run, kind = _draw("sweep", parser, config, arguments)
    page = _write_report(run, None)
    console.print(findings(run.results["rows"], kind))
    say(f"Report: {page}")


def evaluate(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Judge the draws of finished runs or bare stores."""
    settings = parser.instantiate(config).evaluate
    rows: list[dict[str, Any]] = []
    for place in map(Path, settings.runs):
        run = RunFolder.open(place) if (place / "config.yaml").exists() else None
        own = None if run is None else _parsed(run)
        data = own.data if settings.data is None and own is not None else settings.data
        if data is None:
            raise ValueError(
                f"{place} is no run folder, so its data are unknown: give --data, such as bnnpriors.datasets.digits"
            )
        source = own.ood if settings.ood is None and own is not None else settings.ood
        found = _judge_all(run, own, place, data, source)
        if run is not None and settings.data is None and settings.ood is None:
            run.add_rows(found)
        console.print(findings(found, data.kind))
        if settings.shift:
            found += _under_shift(run, own, place, data, settings.shift)
        rows += [{"run": str(place), **row} for row in found]
    if settings.output is not None:
        write_table(Path(settings.output), rows)


def report(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> None:
    """Write the report of a run folder again."""
    settings = config.report
    page = _write_report(RunFolder.open(Path(settings.run)), settings.output)
    say(f"Report: {page}")


Command = Callable[[ArgumentParser, Namespace, Sequence[str]], int | None]
COMMANDS: dict[str, Command] = {
    "sample": sample,
    "sweep": sweep,
    "evaluate": evaluate,
    "report": report,
    "compare": compare,
    "kernel": kernel,
    "weights": weights,
    "check": check,
}


def _draw(
    command: str, parser: ArgumentParser, config: Namespace, arguments: Sequence[str]
) -> tuple[RunFolder, str]:
    parsed = config[command]
    check_model_path(parsed)
    settings = parser.instantiate(config)[command]
    data = on_device(settings.data, settings.device)
    posteriors = build_posteriors(settings, data)
    parsed.model.init_args = fill_features(settings.model.class_path, settings.model.init_args, data)
    path = run_path(settings, data)
    ood = ood_inputs(data, settings.ood, settings.seed)
    run = RunFolder.begin(
        path, command, complete(PARSERS[command](), parsed), shlex.join(["bnnpriors", *arguments])
    )
    if len({run.store(prior) for prior in posteriors}) < len(posteriors):
        raise ValueError(f"priors {list(posteriors)}: two of these names give the same folder; rename one")
    _announce(settings, posteriors, path)
    for position, (prior, posterior) in enumerate(posteriors.items(), 1):
        say(f"[{position}/{len(posteriors)}] {prior}: sampling")
        start = time.monotonic()
        draws = sampling.sample(
            posterior, settings.sampler, num_samples=settings.num_samples, num_warmup=settings.num_warmup,
            num_chains=settings.num_chains, thin=settings.thin, seed=settings.seed, init=settings.init,
            store=run.store(prior), resume=True, executor=settings.executor, scheduler=settings.scheduler,
        )  # fmt: skip
        rows = _judge(prior, draws, data, ood)
        run.results["seconds"] += time.monotonic() - start
        run.add_rows(rows)
        say(f"[{position}/{len(posteriors)}] {prior}: {worst(rows)}, {run.results['seconds']:.0f} s so far")
    return run, data.kind


def _announce(settings: Namespace, posteriors: dict[str, Posterior], path: Path) -> None:
    """What will be run, and about what it costs."""
    first = next(iter(posteriors.values()))
    counts = {name: getattr(settings, name) for name in ("num_samples", "num_warmup", "num_chains", "thin")}
    cost = estimate(first, settings.sampler, in_memory=False, **counts)
    chains = settings.num_chains * len(first.temperatures)
    minutes = _seconds(first, chains) * cost.gradient_evaluations * len(posteriors) / 60
    say(
        f"{len(posteriors)} × {len(first.temperatures)} posteriors (priors × temperatures), {settings.num_chains} chains each, "
        f"{first.dim} parameters, {first.num_data} training points"
    )
    say(f"Cost of each prior: {cost}; all together about {minutes:.1f} min here")
    say(f"Run folder: {path}  (stopped? give the same command --output {path} to continue)")


def _seconds(posterior: Posterior, chains: int) -> float:
    """Of a full-data gradient of all chains, or N/B times that of a minibatch where there are minibatches: the least of 2 to 10,
    as the first sets up, and any may be held up by other work.
    """
    target, theta = posterior.target(chains), posterior.current().repeat(chains, 1)
    streams = Streams(0, [(0, chain) for chain in range(chains)], dtype=theta.dtype, device=theta.device)
    seconds, begun = math.inf, time.perf_counter()
    for count in range(10):
        start = time.perf_counter()
        if posterior.batch_size is None:
            target.trial(theta)
        else:
            target.gradient_estimate(theta, streams)
        seconds = min(seconds, time.perf_counter() - start)
        if count and time.perf_counter() - begun > 0.5:
            break
    return seconds * (1.0 if posterior.batch_size is None else posterior.num_data / posterior.batch_size)


def _judge(prior: str, draws: Draws, data: Dataset, ood: torch.Tensor | None) -> list[dict[str, Any]]:
    ladder = list(dict.fromkeys(draws.temperatures.tolist()))
    return [{"prior": prior, "temperature": t, **score(draws.at_temperature(t), data, ood)} for t in ladder]


def _under_shift(
    run: RunFolder | None, own: Namespace | None, place: Path, data: Dataset, kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Figures of every posterior on corrupted test inputs; a run folder keeps them, with a picture."""
    seed = 0 if own is None else own.seed
    stores = (
        {place.name: place} if run is None or own is None else {p: run.store(p) for p in named_priors(own)}
    )
    rows = []
    for prior, store in stores.items():
        draws = Draws.open(store)
        for temperature in dict.fromkeys(draws.temperatures.tolist()):
            chosen = draws.at_temperature(temperature)
            found = evaluate_shift(chosen.predict, corruptions(data, kinds, seed=seed), data.y_test)
            rows += [{"prior": prior, "temperature": temperature, **row} for row in found]
    console.print(shift_findings(rows))
    if run is not None:
        run.keep_shift(rows)
        say(f"Picture: {run.path / 'shift.png'}; in the report too: bnnpriors report {run.path}")
    return rows


def _judge_all(
    run: RunFolder | None, own: Namespace | None, place: Path, data: Dataset, source: Any
) -> list[dict[str, Any]]:
    ood = ood_inputs(data, source, 0 if own is None else own.seed)
    if run is None or own is None:
        return _judge(place.name, Draws.open(place), data, ood)
    return [row for prior in named_priors(own) for row in _judge(prior, run.draws(prior), data, ood)]


def _parsed(run: RunFolder) -> Namespace:
    """The settings of a run, as objects. Raises ValueError for a folder of another command than those that sample."""
    command = run.results["command"]
    if command not in PARSERS:
        remedy = (
            f"its page is {run.path / 'comparison.html'}, and the draws of a method that samples are a store under "
            f"{run.path / 'draws'}, which `bnnpriors evaluate` judges given --data"
            if command == "compare"
            else f"its figures are in {run.path / 'metrics.csv'}"
        )
        raise ValueError(
            f"{run.path} is a folder of `bnnpriors {command}`, expected one of {' or '.join(PARSERS)}: {remedy}"
        )
    parser = PARSERS[command]()
    return parser.instantiate(run.parse(parser))


def _write_report(run: RunFolder, output: str | None) -> Path:
    from ..evaluation.report import Report, write_report

    settings = _parsed(run)
    page = Path(output) if output is not None else run.path / "report.html"
    priors = list(named_priors(settings))
    content = Report(
        title=settings.name or settings.data.name,
        rows=run.results["rows"],
        metrics=METRICS[settings.data.kind],
        draws={prior: run.draws(prior) for prior in priors},
        data=settings.data,
        ood=ood_inputs(settings.data, settings.ood, settings.seed),
        shift=run.results.get("shift", []),
        results=run.results,
        settings=(run.path / "config.yaml").read_text(encoding="utf-8"),
        folder=run.path.name,
    )
    write_report(content, page)
    return page
