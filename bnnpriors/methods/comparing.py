"""`compare`: every method on the same posterior and test data, one after another; what is done is kept and not done again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import Dataset
from ..disk import without_nan, write_text
from ..evaluation import Predictive, evaluate
from ..fingerprint import difference, digest, fingerprint
from ..group import SamplingError
from ..posterior import Posterior
from ..store import StoreError
from .base import Method
from .table import MethodTable, Points, Row

FAILURES = (ValueError, ImportError, FloatingPointError, SamplingError)
"""What ends one method and not the comparison."""


def compare(
    posterior: Posterior,
    data: Dataset,
    methods: Mapping[str, Any],
    *,
    ood: Tensor | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> MethodTable:
    """Run each method on the posterior and judge its predictions of the test data.

    A method that does not apply, or that fails, has a line that says why, and the others go on. With a folder the result of
    each method is written as soon as it is there, whole or not at all, and one that is there is read and not run again; draws of
    MCMC are kept along the way, so that a stopped chain continues.

    Args:
        posterior: one temperature. data: the set that the posterior is of: its test part is predicted.
        methods: a name for the line, and the method.
        ood: out-of-distribution inputs on the scale of the training inputs; adds `auroc_ood`.
        seed: of every method.
        folder: where results are kept; None for memory alone.
        say: is told what happens, a line at a time.

    Raises:
        ValueError: no methods, names that give the same file, several temperatures, data that are not the posterior's.
        StoreError: a folder with the result of another method under one of the names, or a damaged one.
    """
    _check(posterior, data, methods)
    place = None if folder is None else Path(folder)
    rows: dict[str, Row] = {}
    points: dict[str, Points] = {}
    for name, method in methods.items():
        kept = None if place is None else _read(place, name, _identity(posterior, data, method, seed, ood))
        if kept is not None:
            rows[name], points[name] = kept
            say(f"{name}: done before")
            continue
        try:
            method.check(posterior)
        except FAILURES as error:
            rows[name] = _reason(name, error)
            say(f"{name}: does not apply: {rows[name]['reason']}")
    for name, method in methods.items():
        if name in rows:
            continue
        say(f"{name}: running")
        start = time.monotonic()
        try:
            store = None if place is None else place / "draws" / _slug(name)
            fitted = method.fit(posterior, seed=seed, store=store)
            pred = fitted.predict(data.x_test)
            other = None if ood is None else fitted.predict(ood)
            row = {"method": name, **judge(pred, data, other)}
        except FAILURES as error:
            rows[name] = _reason(name, error)
            say(f"{name}: failed: {rows[name]['reason']}")
            continue
        row |= {"seconds": time.monotonic() - start, "own": fitted.figures}
        rows[name], points[name] = row, pointwise(pred, data.y_test)
        if place is not None:
            _write(place, name, row, points[name], _identity(posterior, data, method, seed, ood))
        say(f"{name}: nll {row['nll']:.3f}, {row['seconds']:.0f} s")
    order = list(methods)
    return MethodTable(
        data.kind, [rows[name] for name in order], {n: points[n] for n in order if n in points}
    )


def judge(pred: Predictive, data: Dataset, ood: Predictive | None) -> dict[str, float]:
    """`evaluate` in the units of the data."""
    scale = data.target_scale if data.kind == "regression" else 1.0
    return evaluate(pred, data.y_test, ood=ood, target_scale=scale)


@torch.no_grad()
def pointwise(pred: Predictive, y: Tensor) -> Points:
    """What pictures and paired differences need of each test point.

    Returns:
        `log_prob` [points]; for classes `log_probs` [points, classes] and `label`; for regression, in the units of the model and
        all [points, out], `mean`, `low` and `high` of the central 95 % interval, `target`, and `inside`, the level of the central
        interval on whose edge the target lies.
    """
    y = pred.targets(y)
    found = {"log_prob": pred.log_prob(y)}
    if pred.kind == "classification":
        found |= {"log_probs": pred.log_probs, "label": y}
    else:
        low, high = pred.interval(0.95)
        inside = (2 * pred.cdf(y) - 1).abs()
        found |= {"mean": pred.mean, "low": low, "high": high, "inside": inside, "target": y}
    return {name: value.cpu().numpy() for name, value in found.items()}


def _check(posterior: Posterior, data: Dataset, methods: Mapping[str, Any]) -> None:
    if not methods:
        raise ValueError("compare: no methods given, expected a name and a method, one at least")
    for name, method in methods.items():
        if not isinstance(method, Method):
            raise TypeError(
                f"compare: {method!r} given as {name!r}, expected a method, such as bp.methods.Laplace()"
            )
    slugs = {_slug(name) for name in methods}
    if len(slugs) < len(methods) or "" in slugs:
        raise ValueError(f"compare: two of the names {list(methods)} give the same file; rename one")
    if len(posterior.temperatures) > 1:
        raise ValueError(
            f"compare: temperatures {list(posterior.temperatures)} given, expected one; compare each by itself"
        )
    x = posterior.data.x
    if x is None or tuple(x.shape) != tuple(data.x_train.shape) or not torch.equal(x, data.x_train.to(x)):
        raise ValueError(
            f"compare: the posterior's data are not the training part of {data.name!r}: make it of data.x_train and data.y_train"
        )


def _reason(name: str, error: BaseException) -> Row:
    return {"method": name, "reason": " ".join(str(error).split()) or type(error).__name__}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _identity(
    posterior: Posterior, data: Dataset, method: Method, seed: int, ood: Tensor | None
) -> dict[str, Any]:
    """What a result on disk is the result of."""
    return fingerprint(posterior, method, seed=seed, test=digest(data.x_test, data.y_test), ood=digest(ood))


def _read(folder: Path, name: str, identity: dict[str, Any]) -> tuple[Row, Points] | None:
    file = folder / "methods" / f"{_slug(name)}.json"
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        with np.load(file.with_suffix(".npz")) as arrays:
            points = dict(arrays)
        row, before = content["row"], content["identity"]
    except (ValueError, KeyError, OSError) as error:
        raise StoreError(f"{file} is damaged ({error}): delete it, and the method is run again") from error
    if changed := difference(before, identity):
        lines = "\n".join(changed)
        raise StoreError(
            f"{file} holds the result of other settings; choose another folder or name, or delete it:\n{lines}"
        )
    return {key: float("nan") if value is None else value for key, value in row.items()}, points


def _write(folder: Path, name: str, row: Row, points: Points, identity: dict[str, Any]) -> None:
    """The arrays, then the row, whose presence says that the result is whole."""
    file = folder / "methods" / f"{_slug(name)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    arrays: dict[str, Any] = dict(points)
    np.savez_compressed(partial, **arrays)
    partial.replace(file.with_suffix(".npz"))
    write_text(file, json.dumps(without_nan({"row": row, "identity": identity}), indent=1))
