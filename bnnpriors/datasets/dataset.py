"""The one container that every loader returns: inputs and targets standardised by the training set alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Kind = Literal["regression", "classification"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A train/test split, standardised with the statistics of the training set.

    Inputs are x = (x_raw - input_mean) / input_scale; regression targets are y = (y_raw - target_mean) /
    target_scale. Scales are population standard deviations (divided by N); a feature that is constant over
    the training set keeps scale 1.

    To report regression figures in the original units: multiply the rmse by `target_scale`, and add
    sum(log(target_scale)) to the negative log density of a data point.

    Attributes:
        name: what to call the data in tables and plots.
        x_train, x_test: [points, features] or [points, channels, height, width], standardised.
        y_train, y_test: regression [points, targets], standardised; classification [points], int64 labels
            from 0.
        kind: "regression" or "classification".
        num_outputs: number of targets, or of classes: the width of a network's last layer.
        input_mean, input_scale: float64, broadcast against one input; scalars where pixels share one scale.
        target_mean, target_scale: [targets] for regression; the scalars 0 and 1 for classification.
    """

    name: str
    x_train: Float[Tensor, "..."]
    y_train: Num[Tensor, "..."]
    x_test: Float[Tensor, "..."]
    y_test: Num[Tensor, "..."]
    kind: Kind
    num_outputs: int
    input_mean: Float[Tensor, "..."]
    input_scale: Float[Tensor, "..."]
    target_mean: Float[Tensor, "..."]
    target_scale: Float[Tensor, "..."]

    @classmethod
    def from_raw(
        cls,
        name: str,
        x_train: ArrayLike,
        y_train: ArrayLike,
        x_test: ArrayLike,
        y_test: ArrayLike,
        *,
        kind: Kind,
        num_classes: int | None = None,
        shared_scale: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Dataset:
        """Check raw arrays and standardise them with the training set's statistics, computed in float64.

        Args:
            name: what to call the data.
            x_train, x_test: raw inputs, [points, features] or [points, channels, height, width].
            y_train, y_test: regression: [points] or [points, targets]; classification: [points], whole
                numbers from 0.
            kind: "regression" or "classification".
            num_classes: number of classes; by default the largest training label plus one.
            shared_scale: one mean and one scale over all the entries of an input. For pixels: a scale for
                each would turn the rarely lit ones into huge numbers outside the training set.
            dtype: the floating type of the result.

        Raises:
            ValueError: shapes that do not agree, an empty set, NaN or infinity, labels that are not whole
                numbers in range.
        """
        if kind not in ("regression", "classification"):
            raise ValueError(f"kind {kind!r} of {name}: expected 'regression' or 'classification'")
        inputs_train = _numbers(x_train, f"{name} x_train")
        inputs_test = _numbers(x_test, f"{name} x_test")
        targets_train = _numbers(y_train, f"{name} y_train")
        targets_test = _numbers(y_test, f"{name} y_test")
        _check_pair(name, "train", inputs_train, targets_train)
        _check_pair(name, "test", inputs_test, targets_test)
        if inputs_train.shape[1:] != inputs_test.shape[1:]:
            raise ValueError(
                f"{name}: inputs of shape {inputs_train.shape} (train) and {inputs_test.shape} (test): "
                "expected the same features in both"
            )

        input_mean, input_scale = _statistics(inputs_train, shared=shared_scale)
        x_tensors = [_standardise(x, input_mean, input_scale, dtype) for x in (inputs_train, inputs_test)]
        if kind == "classification":
            num_outputs = _count_classes(name, targets_train, num_classes)
            y_tensors = [_labels(name, y, num_outputs) for y in (targets_train, targets_test)]
            target_mean, target_scale = np.asarray(0.0), np.asarray(1.0)
        else:
            targets_train = targets_train[:, None] if targets_train.ndim == 1 else targets_train
            targets_test = targets_test[:, None] if targets_test.ndim == 1 else targets_test
            if targets_train.ndim != 2 or targets_train.shape[1:] != targets_test.shape[1:]:
                raise ValueError(
                    f"{name}: targets of shape {targets_train.shape} (train), {targets_test.shape} (test): "
                    "expected (points,) or (points, targets), with the same targets in both"
                )
            num_outputs = targets_train.shape[1]
            target_mean, target_scale = _statistics(targets_train, shared=False)
            y_tensors = [
                _standardise(y, target_mean, target_scale, dtype) for y in (targets_train, targets_test)
            ]
        return cls(
            name,
            x_tensors[0],
            y_tensors[0],
            x_tensors[1],
            y_tensors[1],
            kind,
            num_outputs,
            torch.as_tensor(input_mean),
            torch.as_tensor(input_scale),
            torch.as_tensor(target_mean, dtype=dtype),
            torch.as_tensor(target_scale, dtype=dtype),
        )

    def normalize(self, x_raw: Num[Tensor, "points ..."]) -> Float[Tensor, "points ..."]:
        """(x_raw - input_mean) / input_scale: inputs from anywhere, on the scale of the training inputs.

        Out-of-distribution inputs too are standardised with the TRAINING set's statistics, never with their
        own, which would hide the shift that they are there to show.

        Raises:
            ValueError: inputs whose shape is not that of the training inputs.
        """
        self._check_inputs(x_raw)
        precise = x_raw.to(self.input_mean)
        return ((precise - self.input_mean) / self.input_scale).to(self.x_train.dtype)

    def denormalize(self, x: Float[Tensor, "points ..."]) -> Float[Tensor, "points ..."]:
        """x * input_scale + input_mean: inputs back in the units of the loader (pixels from 0 to 1)."""
        self._check_inputs(x)
        return (x.to(self.input_mean) * self.input_scale + self.input_mean).to(self.x_train.dtype)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with every tensor on `device`."""
        return replace(
            self,
            x_train=self.x_train.to(device),
            y_train=self.y_train.to(device),
            x_test=self.x_test.to(device),
            y_test=self.y_test.to(device),
            input_mean=self.input_mean.to(device),
            input_scale=self.input_scale.to(device),
            target_mean=self.target_mean.to(device),
            target_scale=self.target_scale.to(device),
        )

    def _check_inputs(self, x: Tensor) -> None:
        if x.shape[1:] != self.x_train.shape[1:]:
            expected = ", ".join(["points", *map(str, self.x_train.shape[1:])])
            raise ValueError(f"inputs {tuple(x.shape)} for {self.name}: expected ({expected})")


def _numbers(array: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected an array of numbers ({error})") from error
    broken = int(numbers.size - np.isfinite(numbers).sum())
    if broken:
        raise ValueError(
            f"{what}: {broken} of {numbers.size} entries are NaN or infinite — clean or impute them first"
        )
    return numbers


def _check_pair(name: str, part: str, inputs: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
    if inputs.ndim < 2 or targets.ndim < 1 or len(inputs) != len(targets):
        raise ValueError(
            f"{name} {part} set: inputs {inputs.shape} and targets {targets.shape}: "
            "expected (points, features…) and (points, …) with the same number of points"
        )
    if inputs.size == 0 or targets.size == 0:
        raise ValueError(
            f"{name} {part} set: inputs {inputs.shape}, targets {targets.shape}: expected one point or more"
        )


def _statistics(
    values: NDArray[np.float64], *, shared: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = None if shared else 0
    highest = values.max(axis=axis)
    constant = highest == values.min(axis=axis)
    mean = np.where(constant, highest, values.mean(axis=axis))
    return mean, np.where(constant, 1.0, values.std(axis=axis))


def _standardise(
    values: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64], dtype: torch.dtype
) -> Tensor:
    standard = values - mean
    standard /= scale
    return torch.as_tensor(standard, dtype=dtype)


def _count_classes(name: str, labels: NDArray[np.float64], num_classes: int | None) -> int:
    if num_classes is None:
        return int(labels.max()) + 1
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes} for {name}: expected at least 1")
    return num_classes


def _labels(name: str, labels: NDArray[np.float64], num_classes: int) -> Tensor:
    if labels.ndim != 1:
        raise ValueError(
            f"{name}: labels of shape {labels.shape}: expected (points,), one class index a point"
        )
    wrong = (labels != np.floor(labels)) | (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise ValueError(
            f"{name}: label {labels[wrong][0]:g}: expected whole numbers from 0 to {num_classes - 1} "
            f"({num_classes} classes) — renumber the classes, or give kind='regression'"
        )
    return torch.as_tensor(labels).to(torch.int64)
