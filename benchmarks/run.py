"""Run the benchmarks: `python -m benchmarks.run`. Every contender in a fresh process, one at a time, in rounds."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Entry, launch
from benchmarks.report import table

JOBS = ("hmc_regression", "sgld_mlp", "sghmc_mlp", "sgld_convnet")
BUSY = 0.5  # one-minute load average above which the machine is not at rest


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
    }


def measure_job(job: str, given: argparse.Namespace, cache: Path) -> list[dict[str, Any]]:
    """Records of one job: for each number of chains, rounds of all contenders in turn."""
    module = importlib.import_module(f"benchmarks.{job}")
    records: list[dict[str, Any]] = []
    dropped: set[tuple[str, int]] = set()
    for chains in given.chains or module.PROBLEM.chains:
        entries = [
            entry
            for entry in module.CONTENDERS
            if (entry.chains is None or chains in entry.chains)
            and (given.contenders is None or entry.name in given.contenders)
        ]
        for round_ in range(given.rounds):
            for entry in entries:
                if (entry.name, chains) in dropped:
                    continue
                record = one(entry, job, chains, given, cache)
                records.append(
                    record
                    | {"job": job, "chains": chains, "contender": entry.name, "round": round_}
                    | {"ours": entry.ours}
                )
                if "rate" not in record:
                    dropped.add((entry.name, chains))
    return records


def one(entry: Entry, job: str, chains: int, given: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """Launch one measurement and say on stderr how it went."""
    interpreter = sys.executable if entry.ours else given.peer_python
    record = launch(
        entry,
        job=job,
        chains=chains,
        seconds=given.seconds,
        threads=given.threads,
        interpreter=interpreter,
        cache=cache,
    )
    said = f"{record['rate']:,.0f} evaluations/s" if "rate" in record else str(record)
    if record.get("skipped"):
        said = f"skipped: {record['skipped']}"
    elif record.get("failed"):
        said = f"FAILED: {record['failed']}"
    print(f"{job}, {chains} chains, {entry.name}: {said}", file=sys.stderr, flush=True)
    return record


def main() -> int:
    """Parse the command line, measure, print the tables and write the raw figures; 1 if a contender failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--chains", nargs="+", type=int, help="numbers of chains (default: the job's own)")
    parser.add_argument("--contenders", nargs="+", help="names of contenders (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of a timed call")
    parser.add_argument(
        "--quick", action="store_true", help="one round of half a second: does everything run?"
    )
    parser.add_argument("--threads", type=int, default=2, help="cores given to every contender")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="interpreter that has the other libraries"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results.json"))
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 0.5
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
        print(
            f"load average {os.getloadavg()[0]:.1f}: others use this machine, the figures will be noisy",
            file=sys.stderr,
        )
    with tempfile.TemporaryDirectory() as cache:
        records = [record for job in given.jobs for record in measure_job(job, given, Path(cache))]
    for job in given.jobs:
        title = importlib.import_module(f"benchmarks.{job}").PROBLEM.title
        print(f"\n### {title}\n\n{table([record for record in records if record['job'] == job])}")
    document = {
        "machine": machine(given.threads),
        "date": datetime.date.today().isoformat(),
        "records": records,
    }
    document |= {"rounds": given.rounds, "seconds": given.seconds}
    given.output.write_text(json.dumps(document, indent=1) + "\n")
    return int(any("failed" in record for record in records))


if __name__ == "__main__":
    sys.exit(main())
