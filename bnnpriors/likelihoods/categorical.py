"""Classification by softmax."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .base import Likelihood


class Categorical(Likelihood):
    """log p(y|f) = f_y − log Σ_c exp f_c, with f the logits and y an integer label."""

    kind = "classification"

    def log_prob(
        self, outputs: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Log probability of each example's label."""
        return self.log_probs(outputs).gather(1, y[:, None])[:, 0]

    def log_probs(self, outputs: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """Normalised log probabilities of all classes."""
        return torch.log_softmax(outputs, dim=-1)

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Integer labels."""
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.ndim != 1:
            raise ValueError(
                f"Categorical: targets of dtype {y.dtype} and shape {tuple(y.shape)} given, expected integer labels [N]; "
                "convert one-hot targets with y.argmax(1)"
            )
        return y.long()

    def check(self, outputs_shape: tuple[int, ...], y: Tensor) -> None:
        """Outputs must be [N, classes] with every label in 0 … classes − 1."""
        if len(outputs_shape) != 2 or outputs_shape[0] != y.shape[0]:
            raise ValueError(
                f"Categorical: outputs {tuple(outputs_shape)} for {y.shape[0]} labels: expected logits ({y.shape[0]}, classes)"
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= outputs_shape[1]:
            raise ValueError(
                f"Categorical: labels from {low} to {high} given, expected 0 to {outputs_shape[1] - 1}: the model has "
                f"{outputs_shape[1]} outputs. Renumber the labels or widen the last layer"
            )
