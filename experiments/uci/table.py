"""The table of the README, from the results that `run.py` left: `python experiments/uci/table.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DROPOUT = {
    "concrete": (-2.94, 4.83),
    "energy": (-1.21, 0.54),
    "bostonHousing": (-2.40, 2.90),
    "wine-quality-red": (-0.93, 0.62),
    "kin8nm": (1.14, 0.079),
}
HEADER = (
    "| data | splits | log-likelihood | MC dropout | RMSE | MC dropout | 95 % coverage | R̂ median | R̂ worst | "
    "ESS median | minutes a split |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str) -> str | None:
    """Mean and standard error over the splits of one data set, or None where there are no results."""
    files = sorted((HERE / "results" / name).glob("*.json"))
    if not files:
        return None
    runs = [json.loads(file.read_text())["figures"] for file in files]
    figures = {key: np.array([run[key] for run in runs]) for key in runs[0]}

    def mean(key: str, digits: int) -> str:
        if len(runs) == 1:
            return f"{figures[key].mean():.{digits}f}"
        return (
            f"{figures[key].mean():.{digits}f} ± {figures[key].std(ddof=1) / np.sqrt(len(runs)):.{digits}f}"
        )

    likelihood, rmse = DROPOUT[name]
    digits = 4 if name == "kin8nm" else 2
    return (
        f"| {name} | {len(runs)} | **{mean('test_log_likelihood', 3)}** | {likelihood} | **{mean('rmse', digits)}** | {rmse} | "
        f"{100 * figures['coverage_95'].mean():.1f} % | {np.median(figures['rhat_median']):.3f} | "
        f"{figures['rhat_max'].max():.2f} | "
        f"{np.median(figures['ess_bulk_median']):.0f} | {figures['seconds'].mean() / 60:.1f} |"
    )


METHODS_HEADER = (
    "| data | method | splits | log-likelihood | above HMC | RMSE | 95 % coverage | minutes a split |\n"
    "|---|---|---|---|---|---|---|---|"
)


def methods(name: str) -> list[str]:
    """HMC, then the methods of `methods.py`, on one data set; "above HMC" is the mean of the differences on the same splits."""
    hmc = {
        int(file.stem): json.loads(file.read_text())["figures"]
        for file in sorted((HERE / "results" / name).glob("*.json"))
    }
    found: dict[str, dict[int, dict[str, float]]] = {}
    for file in sorted((HERE / "results" / "methods" / name).glob("*.json")):
        for result in json.loads(file.read_text()):
            if "reason" not in result:
                found.setdefault(result["method"], {})[int(file.stem)] = result
    if not found:
        return []
    lines = [_line(name, "HMC", hmc, [run["test_log_likelihood"] for run in hmc.values()], None)]
    for method, runs in found.items():
        likelihoods = [-run["nll"] for run in runs.values()]
        apart = [-run["nll"] - hmc[split]["test_log_likelihood"] for split, run in runs.items()]
        lines.append(_line(name, method, runs, likelihoods, apart))
    return lines


def _line(
    name: str,
    method: str,
    runs: dict[int, dict[str, float]],
    likelihoods: list[float],
    apart: list[float] | None,
) -> str:
    rmse, coverage, seconds = (
        [run[key] for run in runs.values()] for key in ("rmse", "coverage_95", "seconds")
    )
    return (
        f"| {name} | {method} | {len(runs)} | {_mean(likelihoods, 3)} | {'' if apart is None else _mean(apart, 3)} | "
        f"{_mean(rmse, 2)} | {100 * np.mean(coverage):.1f} % | {np.mean(seconds) / 60:.1f} |"
    )


def _mean(values: list[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{digits}f}"


if __name__ == "__main__":
    print(HEADER)
    print("\n".join(line for name in DROPOUT if (line := row(name))))
    print(f"\n{METHODS_HEADER}")
    print("\n".join(line for name in DROPOUT for line in methods(name)))
