"""What a prior on weights says about functions, before any data: outputs, class probabilities and activations of its draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ..batched import call_with_weights
from ..joint import Joint
from ..likelihoods import Categorical
from ..module import BayesianModule
from ..priors import Improper
from .activations import Layer, layers_of, quantile_of, recorded
from .kernel_comparison import KernelComparison, against_kernel

if TYPE_CHECKING:
    from ..infinite import InfiniteWidthKernel

FACTOR = 100.0
"""A median growth of the mean square above this, or below its inverse, is called exploding or vanishing."""
CONSTANT = 0.01
"""Below this share of the outputs' mean square between inputs, draws are called almost constant."""

Verdict = Literal["stable", "exploding", "vanishing"]


@dataclass(frozen=True)
class PriorPredictive:
    """Draws of functions from the prior; made by `bp.prior_predictive`. Its `str` is a table of the layers and the verdict.

    Means and variances over draws do not exist under heavy-tailed priors (StudentT with df ≤ 2, a HalfCauchy scale), so
    every figure here is a median or a quantile over draws.

    Attributes:
        x: the inputs [batch, ...]. outputs: the network's outputs. layers: the inputs and the leaf modules, in order.
        log_probs: log probability of each class, [draws, batch, classes]; None without a likelihood for classes.
    """

    x: Tensor
    outputs: Float[Tensor, "draws batch *out"]
    layers: tuple[Layer, ...]
    log_probs: Float[Tensor, "draws batch classes"] | None = None

    @property
    def probs(self) -> Float[Tensor, "draws batch classes"]:
        """Probability of each class under each draw. Raises TypeError where no likelihood for classes was given."""
        if self.log_probs is None:
            raise TypeError(
                "probs: these draws have no classes; give prior_predictive(..., likelihood='categorical')"
            )
        return self.log_probs.exp()

    @property
    def growth(self) -> Float64[Tensor, " draws"]:
        """v of the last layer with weights over v of the inputs; over the first layer with weights where inputs are integers."""
        weighted = (layer for layer in self.layers if layer.has_weights)
        first = self.layers[0] if self.layers[0].kind == "inputs" else next(weighted)
        return self._output.variance / first.variance

    @property
    def overflow(self) -> float:
        """The share of draws in which an output is NaN or infinite."""
        return float((~self.outputs.isfinite()).flatten(1).any(1).double().mean())

    @property
    def verdict(self) -> Verdict:
        """The median of `growth` in a word: exploding above 100, vanishing below 1/100, and stable otherwise.

        An overflow counts as infinite.
        """
        median = self.growth_quantile(0.5)
        if median > FACTOR:
            return "exploding"
        return "vanishing" if median < 1 / FACTOR else "stable"

    def explanation(self) -> str:
        """The verdict and its figures in a sentence; others on overflow, on constant draws and on classes where they apply."""
        start = "inputs" if self.layers[0].kind == "inputs" else "first layer"
        low, median, high = map(self.growth_quantile, (0.05, 0.5, 0.95))
        text = (
            f"{self.verdict}: from the {start} to the output the mean square is multiplied by {median:.3g} "
            f"(median over {len(self.outputs)} draws; 5 % to 95 %: {low:.2g} to {high:.2g}; stable is {1 / FACTOR:g} to "
            f"{FACTOR:g})."
        )
        if self.overflow:
            text += f" {self.overflow:.1%} of the draws overflow {str(self.outputs.dtype).removeprefix('torch.')}."
        share = float(self._output.between_inputs.nanmedian())
        if len(self.x) > 1 and share < CONSTANT:
            text += f" Draws are almost constant: {share:.2g} of the outputs' mean square differs between these inputs."
        if self.log_probs is not None:
            top = float(self.log_probs.max(-1).values.exp().nanmedian())
            text += (
                f" The most probable class has probability {top:.3g} (median over draws and inputs; "
                f"1/{self.log_probs.shape[-1]} is no opinion, 1 is certainty)."
            )
        return text

    @property
    def _output(self) -> Layer:
        return [layer for layer in self.layers if layer.has_weights][-1]

    def against(self, kernel: InfiniteWidthKernel) -> KernelComparison:
        """These draws against `bp.infinite.kernel(model)`: is the network near its infinitely wide limit?

        Second moments exist where the prior's variances do. Outputs of one draw count as functions of their own, which they are
        in the limit; in a narrow network they depend on each other.

        Raises:
            ValueError: draws that are NaN or infinite, or inputs that the kernel does not take.
        """
        return against_kernel(kernel, self.x, self.outputs)

    def growth_quantile(self, level: float) -> float:
        """The quantile of `growth` over draws at this level, from 0 to 1; an overflow counts as infinite."""
        return float(quantile_of(self.growth, level))

    def __str__(self) -> str:
        """A table with one line a layer, and the explanation."""
        rows = [("layer", "kind", "median v", "5 % to 95 %", "between inputs")]
        for layer in self.layers:
            low, _, median, _, high = layer.quantiles().tolist()
            share = f"{float(layer.between_inputs.nanmedian()):.2g}"
            rows.append((layer.name, layer.kind, f"{median:.3g}", f"{low:.2g} to {high:.2g}", share))
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.explanation()])


@torch.no_grad()
def prior_predictive(
    model: BayesianModule,
    x: Any,
    *,
    num_draws: int = 200,
    likelihood: Any = None,
    seed: int = 0,
) -> PriorPredictive:
    """Draw functions from the prior of a model and look at them layer by layer.

    Args:
        model: from `bp.attach`; its present weights stay as they are.
        x: inputs [batch, ...], tensor or array; a few dozen tell as much as thousands.
        num_draws: functions to draw.
        likelihood: "categorical", or a likelihood of kind "classification", for class probabilities; it is used at
            its present parameters. None, or a likelihood for regression, for the outputs alone.
        seed: of the draws.

    Raises:
        TypeError: `model` is not attached. ValueError: inputs that the network does not take or that are not finite, a
            prior that cannot be drawn from, a likelihood or outputs that do not fit, fewer than two draws.
    """
    if not isinstance(num_draws, int) or num_draws < 2:
        raise ValueError(f"prior_predictive: num_draws {num_draws!r} given, expected an integer from 2")
    if seed < 0:
        raise ValueError(f"prior_predictive: seed {seed} given, expected an integer from 0")
    joint = Joint(model)
    classes = _classes(likelihood)
    for site in model.sites:
        if any(isinstance(part.prior, Improper) for part in site.walk()):
            raise ValueError(
                f"prior_predictive: {site.name} has the prior {site.prior!r}, which cannot be drawn from; give it a proper one"
            )
    x = joint.prepare_inputs(x)
    if x.ndim == 0 or not len(x):
        raise ValueError(
            f"prior_predictive: inputs {tuple(x.shape)} given, expected [batch, ...] with one input at least"
        )
    generator = torch.Generator(joint.device).manual_seed(seed)
    outputs, traces = [], []
    with recorded(model.net) as record:
        for _ in range(num_draws):
            weights = model.weights(model.sample_prior(generator))
            outputs.append(_call(model.net, weights, x))
            traces.append(list(record))
            record.clear()
    stacked = torch.stack(outputs)
    return PriorPredictive(x, stacked, layers_of(x, traces), None if classes is None else classes(stacked))


def inputs_between(
    first: Float[Tensor, "*one"], second: Float[Tensor, "*one"], *, num_points: int = 100
) -> Float[Tensor, "{num_points} *one"]:
    """Inputs (1 − a) · first + a · second for `num_points` values of a from 0 to 1: a line on which to look at functions.

    Raises:
        ValueError: two inputs of different shapes, or fewer than two points.
    """
    if first.shape != second.shape or num_points < 2:
        raise ValueError(
            f"inputs_between: inputs {tuple(first.shape)} and {tuple(second.shape)} and {num_points} points given, expected two "
            "single inputs of one shape and two points or more"
        )
    share = torch.linspace(0, 1, num_points, dtype=first.dtype, device=first.device)
    return torch.lerp(first, second, share.reshape(-1, *[1] * first.ndim))


def _call(net: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    try:
        outputs = call_with_weights(net, weights, (x,))
    except RuntimeError as error:
        shape = f"(batch, {', '.join(map(str, x.shape[1:]))})"
        raise ValueError(
            f"prior_predictive: the model cannot take inputs of shape {shape}: {error}"
        ) from error
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"prior_predictive: the model returned {type(outputs).__name__}, expected one tensor [batch, ...]"
        )
    return outputs


def _classes(likelihood: Any) -> Callable[[Tensor], Tensor] | None:
    """The function from outputs [draws, batch, classes] to log probabilities; None for regression."""
    if likelihood == "categorical":
        likelihood = Categorical()
    if likelihood is None or getattr(likelihood, "kind", None) == "regression":
        return None
    if getattr(likelihood, "kind", None) != "classification" or not hasattr(likelihood, "log_probs"):
        raise ValueError(
            f"prior_predictive: likelihood {likelihood!r} given, expected 'categorical', None, or a likelihood whose kind is "
            "'classification', with log_probs(outputs), or 'regression'"
        )

    def log_probs(outputs: Tensor) -> Tensor:
        if outputs.ndim != 3:
            raise ValueError(
                f"prior_predictive: outputs {tuple(outputs.shape[1:])} of one draw, expected logits (batch, classes)"
            )
        return torch.stack([likelihood.log_probs(each) for each in outputs])

    return log_probs
