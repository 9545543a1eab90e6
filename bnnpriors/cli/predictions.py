"""From the kernel matrices of `bnnpriors kernel` to predictions and their figures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from ..datasets import Dataset
from ..evaluation import evaluate


@dataclass(frozen=True)
class Points:
    """The inputs of each part, and their numbers in one sequence: train, validation, test, ood.

    Attributes:
        inputs: part -> [points, *shape]; without those that are empty. targets: part -> labels or targets.
        counts: sizes of the training set, from the smallest. shape: of one input.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    counts: list[int]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, settings: Namespace, ood: Tensor | None) -> Points:
        """The points that the settings ask for.

        Raises:
            ValueError: more than there are, or inputs that do not have the shape.
        """
        data: Dataset = settings.data
        total = len(data.x_train) - settings.validation
        counts = [total] if settings.train is None else sorted(np.atleast_1d(settings.train).tolist())
        if not counts or counts[-1] > total:
            raise ValueError(
                f"train {settings.train} and validation {settings.validation} given, expected {len(data.x_train)} points at most "
                f"together, which {data.name} has"
            )
        num_test = len(data.x_test) if settings.test is None else settings.test
        if num_test > len(data.x_test):
            raise ValueError(
                f"test {num_test} given, expected {len(data.x_test)} at most, which {data.name} has"
            )
        held = slice(counts[-1], counts[-1] + settings.validation)
        parts = {
            "train": data.x_train[: counts[-1]],
            "validation": data.x_train[held],
            "test": data.x_test[:num_test],
            "ood": data.x_test[:0] if ood is None else ood[: settings.num_ood],
        }
        shape = _shape(settings.input_shape, parts["train"])
        standard = data.kind == "regression" if settings.standardise is None else settings.standardise
        dtype = getattr(torch, settings.dtype)
        inputs = {
            part: (x if standard else data.denormalize(x)).to("cpu", dtype).reshape(-1, *shape)
            for part, x in parts.items()
            if len(x)
        }
        targets = {
            "train": data.y_train[: counts[-1]],
            "validation": data.y_train[held],
            "test": data.y_test[:num_test],
        }
        return cls(inputs, targets, counts, shape)

    def flat(self) -> Points:
        """The same points with inputs as rows, for a network that knows no positions."""
        inputs = {part: x.flatten(1) for part, x in self.inputs.items()}
        return replace(self, inputs=inputs, shape=(math.prod(self.shape),))

    def numbers(self, part: str) -> Tensor:
        """The points of a part, in the sequence of all; none if it is empty."""
        ends = dict(
            zip(self.inputs, pairwise(accumulate(map(len, self.inputs.values()), initial=0)), strict=True)
        )
        return torch.arange(*ends.get(part, (0, 0)))


def predictions(
    made: Any, grams: Mapping[str, Any], points: Points, settings: Namespace
) -> Iterator[dict[str, Any]]:
    """One row of figures for each size of the training set.

    The noise and the scale are chosen by the density of the validation points, or without them by leaving one out, from an
    eigendecomposition of the first `select` training points.
    """
    from ..infinite import GPRegression, LeastSquaresClassifier, PrecomputedKernel

    data: Dataset = settings.data
    variances = torch.cat([made.variance(x).detach().double().cpu() for x in points.inputs.values()])
    kernel = PrecomputedKernel(list(grams.values()), variances)
    is_classification = data.kind == "classification"

    def values(part: str) -> Tensor:
        y = points.targets[part]
        if not is_classification:
            return y.double()
        return torch.nn.functional.one_hot(y, data.num_outputs).double() - 1 / data.num_outputs

    for count in points.counts:
        start = time.monotonic()
        train, few = points.numbers("train")[:count], points.numbers("train")[: min(count, settings.select)]
        chosen = GPRegression(kernel, few, values("train")[: len(few)])
        if settings.validation:
            chosen.select_noise(validation=(points.numbers("validation"), values("validation")))
        else:
            chosen.select_noise("leave_one_out")
        found = {"noise": chosen.noise.item(), "scale": chosen.scale.item()}
        predictor: Any
        if is_classification:
            labels = points.targets["train"][:count]
            predictor = LeastSquaresClassifier(kernel, train, labels, num_classes=data.num_outputs, **found)
            gp = predictor.regression
        else:
            predictor = gp = GPRegression(kernel, train, values("train")[:count], **found)
        ood = points.numbers("ood")
        figures = evaluate(
            predictor.predict(points.numbers("test")),
            points.targets["test"] if is_classification else values("test"),
            ood=predictor.predict(ood) if len(ood) else None,
            target_scale=1.0 if is_classification else data.target_scale,
        )
        if "accuracy" in figures:
            figures["error"] = 1 - figures["accuracy"]
        sizes = {part: len(points.numbers(part)) for part in ("validation", "test", "ood")}
        yield {
            "train": count,
            **sizes,
            **figures,
            **found,
            "jitter": gp.jitter,
            "seconds": time.monotonic() - start,
        }


def _shape(given: list[int] | None, x: Tensor) -> tuple[int, ...]:
    """That of one input: as given, as it is, or an image where flat inputs have the size of a square."""
    length, own = x[0].numel(), tuple(x.shape[1:])
    if given is not None:
        if math.prod(given) != length:
            raise ValueError(
                f"input_shape {given} given, expected a shape of {length} numbers, as the inputs {own} have"
            )
        return tuple(given)
    side = math.isqrt(length)
    return (1, side, side) if len(own) == 1 and side > 2 and side * side == length else own
