"""The hyperparameters of the layers of an infinitely wide network, as parameters of a GPyTorch kernel."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .program import Program
from .recursion import LayerValues

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from gpytorch.constraints import Positive
    from gpytorch.kernels import Kernel

Own = TypeVar("Own", bound="LayerKernel")


class LayerKernel(Kernel):
    """A kernel with hyperparameters that are positive and learnt on a logarithmic scale: `weight_variance` [layers], σ_w² (the
    variance of a weight times the fan-in); `bias_variance` [layers with a bias], σ_b²; `lengthscale_of_taps` [layers with a
    correlated prior that has one], in taps. `layer_names`, `bias_names` and `tap_names` say which is which.

    Args:
        program: the layer program, which gives their first values.
    """

    has_lengthscale = False

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        layers = program.layers
        self._biased = [i for i, layer in enumerate(layers) if layer.bias_variance > 0]
        self._scaled = [i for i, layer in enumerate(layers) if layer.taps and layer.taps.has_lengthscale]
        self._register("weight_variance", [layer.weight_variance for layer in layers])
        self._register("bias_variance", [layers[i].bias_variance for i in self._biased])
        self._register("lengthscale_of_taps", [layers[i].taps.lengthscale for i in self._scaled])  # type: ignore[union-attr]

    @property
    def layer_names(self) -> list[str]:
        """The layers, in the order of `weight_variance`."""
        return [layer.name for layer in self.program.layers]

    @property
    def bias_names(self) -> list[str]:
        """The layers with a bias, in the order of `bias_variance`."""
        return [self.layer_names[i] for i in self._biased]

    @property
    def tap_names(self) -> list[str]:
        """The layers with correlated taps, in the order of `lengthscale_of_taps`."""
        return [self.layer_names[i] for i in self._scaled]

    @property
    def weight_variance(self) -> Float[Tensor, " layers"]:
        """σ_w² of each layer."""
        return self._value("weight_variance")

    @property
    def bias_variance(self) -> Float[Tensor, " biased"]:
        """σ_b² of each layer with a bias."""
        return self._value("bias_variance")

    @property
    def lengthscale_of_taps(self) -> Float[Tensor, " correlated"]:
        """ℓ of each layer with correlated taps."""
        return self._value("lengthscale_of_taps")

    def set(self: Own, **values: Tensor | float) -> Own:
        """Set hyperparameters by name, such as `set(lengthscale_of_taps=2.0)`; one number is for all layers.

        Raises:
            ValueError: an unknown name, a shape that does not fit, or a value that is not positive.
        """
        known = ("weight_variance", "bias_variance", "lengthscale_of_taps")
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"set: {name!r} given, expected one of {', '.join(known)}")
            parameter = getattr(self, f"raw_{name}")
            given = torch.as_tensor(value).to(parameter)
            if given.ndim and given.shape != parameter.shape:
                raise ValueError(
                    f"set: {name} of shape {tuple(given.shape)} given, expected {tuple(parameter.shape)}"
                )
            if not bool(((given > 0) & given.isfinite()).all()):
                raise ValueError(f"set: {name} {value} given, expected positive numbers")
            with torch.no_grad():
                parameter.copy_(given.log().expand_as(parameter))
        return self

    def layer_values(self, device: torch.device) -> list[LayerValues]:
        """The hyperparameters of each layer of the program, on a device, with gradients."""
        weights, biases, lengths = (
            value.to(device) for value in (self.weight_variance, self.bias_variance, self.lengthscale_of_taps)
        )
        zero = weights.new_zeros(())
        return [
            LayerValues(
                weights[i],
                biases[self._biased.index(i)] if i in self._biased else zero,
                lengths[self._scaled.index(i)] if i in self._scaled else None,
            )
            for i in range(len(self.program.layers))
        ]

    def _register(self, name: str, values: list[float]) -> None:
        raw = f"raw_{name}"
        self.register_parameter(raw, nn.Parameter(torch.tensor(values, dtype=torch.float64).log()))
        self.register_constraint(raw, Positive(transform=torch.exp, inv_transform=torch.log))

    def _value(self, name: str) -> Tensor:
        return getattr(self, f"raw_{name}_constraint").transform(getattr(self, f"raw_{name}"))
