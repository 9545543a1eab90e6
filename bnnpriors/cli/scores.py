"""One row a posterior: metrics with their standard errors over chains, diagnostics, and warnings in words."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..datasets import Dataset
from ..draws import Draws
from ..evaluation import SamplePredictive, evaluate, summary

METRICS = {
    "classification": ("error", "nll", "ece", "brier", "auroc_ood"),
    "regression": ("rmse", "nll", "ece", "coverage_95", "auroc_ood"),
}

MAX_SCALARS = 128
"""Weights, and predicted numbers, whose R̂ and ESS are looked at in each posterior; they take milliseconds each."""


def score(draws: Draws, data: Dataset, ood: Tensor | None) -> dict[str, Any]:
    """Figures of the draws of one posterior.

    Each metric m is that of all chains together; `m_se` is its delete-one-chain jackknife standard error over C chains,
    √((C−1)/C · Σ_c (m₋c − mean m₋)²), NaN for one chain (Efron 1982, "The jackknife", eq. 3.3). It measures how far the
    sampling is off, not how large the test set is.
    """
    pred = draws.predict(data.x_test)
    other = None if ood is None else draws.predict(ood)
    row: dict[str, Any] = {"chains": draws.num_chains, "draws": draws.num_draws}
    pooled = _metrics(pred, data, other)
    apart = [
        _metrics(_without(pred, chain), data, None if other is None else _without(other, chain))
        for chain in range(draws.num_chains if draws.num_chains > 1 else 0)
    ]
    for name, value in pooled.items():
        row[name] = value
        row[f"{name}_se"] = _jackknife([figures[name] for figures in apart])
    if "step_size" in draws.stats:
        row["step_size"] = float(draws.stats["step_size"].double().mean())
    found = summary(draws, pred, max_scalars=MAX_SCALARS)
    row |= {name: value for name, value in found.figures.items() if name not in row}
    return row | {"warnings": found.warnings, "tensors": found.tensors, "funnels": found.funnels}


def _metrics(pred: SamplePredictive, data: Dataset, ood: SamplePredictive | None) -> dict[str, float]:
    scale = data.target_scale if data.kind == "regression" else 1.0
    figures = evaluate(pred, data.y_test, ood=ood, target_scale=scale)
    if "accuracy" in figures:
        figures["error"] = 1 - figures["accuracy"]
    return {name: figures[name] for name in METRICS[data.kind] if name in figures}


def _without(pred: SamplePredictive, chain: int) -> SamplePredictive:
    """The predictive distribution of the other chains."""
    owner = torch.arange(pred.num_draws, device=pred.outputs.device) // (pred.num_draws // pred.num_chains)
    kept = owner != chain
    latents = {name: value[kept] for name, value in pred.latents.items()}
    return SamplePredictive(pred.outputs[kept], pred.likelihood, latents, num_chains=pred.num_chains - 1)


def _jackknife(values: list[float]) -> float:
    if len(values) < 2:
        return math.nan
    mean = sum(values) / len(values)
    return math.sqrt((len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values))
