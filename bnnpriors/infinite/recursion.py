"""The kernel recursions: a plan applied to the covariances of pairs of inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .linear_maps import both_sides, correlated_sum, diagonal, one_side, window_sum
from .maps import Maps
from .plan import Plan
from .program import Activation, Convolution, Dense, Input, Node, PositionMap, Scale, Sum


@dataclass(frozen=True)
class LayerValues:
    """The present hyperparameters of a layer: σ_w² and σ_b², scalars, and the lengthscale of its taps."""

    weight_variance: Float[Tensor, ""]
    bias_variance: Float[Tensor, ""]
    lengthscale: Float[Tensor, ""] | None = None


class Recursion:
    """The NNGP kernel, and if asked for the neural tangent kernel, of a plan at given hyperparameters.

    K is the covariance of outputs under the prior (Lee et al. 2018, 1711.00165; Garriga-Alonso et al. 2019, 1808.05587). Θ is
    the neural tangent kernel in the NTK parametrisation (Jacot et al. 2018, 1806.07572), where every weight is a unit Gaussian
    times a fixed scale: Θ ← K + (the layer without its bias)(Θ) at a layer, Θ ← Θ E[φ'φ'] at a nonlinearity.
    """

    def __init__(self, plan: Plan, layers: Sequence[LayerValues], *, ntk: bool = False) -> None:
        self.plan = plan
        self.layers = layers
        self.ntk = ntk

    def own(self, x: Float[Tensor, "inputs channels *positions"]) -> Maps:
        """The maps of inputs: the recursion of each with itself."""
        return self._run(x, x, Maps(), Maps(), is_own=True)[2]

    def cross(
        self, x1: Tensor, x2: Tensor, maps1: Maps, maps2: Maps
    ) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"] | None]:
        """K and Θ of every pair of an input of `x1` with one of `x2`, from their maps."""
        nngp, tangent, _ = self._run(x1, x2, maps1, maps2, is_own=False)
        return nngp, tangent

    def _run(
        self, x1: Tensor, x2: Tensor, maps1: Maps, maps2: Maps, *, is_own: bool
    ) -> tuple[Tensor, Tensor | None, Maps]:
        plan, nodes = self.plan, self.plan.program.nodes
        moments: dict[int, Tensor] = {}
        tangents: dict[int, Tensor] = {}
        found = Maps()
        for number, node in enumerate(nodes):
            if not plan.is_used[number]:
                continue
            if isinstance(node, Input):
                moments[number] = self._start(number, x1, x2, is_own)
                tangents[number] = torch.zeros_like(moments[number])
                continue
            if isinstance(node, Activation):
                v, w = self._variances(number, node, moments, found if is_own else None, maps1, maps2)
                c = self._source(number, node, moments)
                is_equal = is_own and not plan.is_full[number]
                phi = node.function
                moments[number] = phi.square(v) if is_equal else phi.moment(c, v, w)
                if self.ntk:
                    slope = phi.slope_square(v) if is_equal else phi.derivative(c, v, w)
                    tangents[number] = self._source(number, node, tangents) * slope
            else:
                moments[number] = self._linear(number, node, moments, with_bias=True)
                if self.ntk:
                    passed = self._linear(number, node, tangents, with_bias=False)
                    fresh = isinstance(node, (Convolution, Dense))
                    tangents[number] = passed + moments[number] if fresh else passed
            if is_own and plan.program.needs_means:
                self._mean(number, node, found)
            if plan.program.crosses_means(node):
                moments[number] = moments[number] + self._mean_products(
                    number, node, found if is_own else None, maps1, maps2
                )
            for source in node.sources:
                if plan.last_use[source] <= number:
                    moments.pop(source, None)
                    tangents.pop(source, None)
        output = len(nodes) - 1
        lead = (len(x1),) if is_own else (len(x1), len(x2))
        nngp = moments[output].reshape(lead)
        tangent = tangents[output].reshape(lead) if self.ntk else None
        found.nngp, found.ntk = nngp, tangent
        found.means = {i: found.means[i] for i in self._kept_means() if i in found.means}
        return nngp, tangent, found

    def _start(self, number: int, x1: Tensor, x2: Tensor, is_own: bool) -> Tensor:
        positions = self.plan.positions[number]
        a, b = (x.reshape(len(x), x.shape[1], -1) for x in (x1, x2))
        left, right, result = ("i", "i", "i") if is_own else ("i", "j", "ij")
        full = self.plan.is_full[number]
        pattern = f"{left}cp,{right}c{'q' if full else 'p'}->{result}p{'q' if full else ''}"
        value = torch.einsum(pattern, a, b) / x1.shape[1]
        return value.reshape(*value.shape[: len(result)], *(positions * (2 if full else 1)))

    def _source(self, number: int, node: Node, values: dict[int, Tensor], which: int = 0) -> Tensor:
        """A source's value for equal positions or for all pairs, as the node needs it."""
        source = node.sources[which]
        value, positions = values[source], self.plan.positions[source]
        if self.plan.is_full[source] == self._reads_full(number, node):
            return value
        if self.plan.is_full[source]:
            return diagonal(value, positions)
        return value.reshape(*value.shape, *positions)  # one position: all pairs are that one

    def _reads_full(self, number: int, node: Node) -> bool:
        if isinstance(node, PositionMap):
            return self.plan.is_full[number] or not node.is_local
        if isinstance(node, Convolution):
            return self.plan.is_full[number] or self._is_correlated(node)
        return self.plan.is_full[number]

    def _is_correlated(self, node: Convolution) -> bool:
        taps = self.plan.program.layers[node.layer].taps
        return taps is not None and taps.is_correlated and math.prod(node.window.size) > 1

    def _linear(self, number: int, node: Node, values: dict[int, Tensor], *, with_bias: bool) -> Tensor:
        value = self._source(number, node, values)
        if isinstance(node, Convolution):
            return self._convolution(number, node, value, with_bias)
        if isinstance(node, Dense):
            layer = self.layers[node.layer]
            axes = len(self.plan.positions[node.sources[0]])
            mean = value.flatten(value.ndim - axes).mean(-1) if axes else value
            return _affine(mean, layer.weight_variance, layer.bias_variance if with_bias else None)
        if isinstance(node, PositionMap):
            if self._reads_full(number, node):
                return self._pooled(number, node, value)
            return one_side(node.apply, value, len(self.plan.positions[node.sources[0]]))
        if isinstance(node, Scale):
            return value if node.factor == 1 else value * node.factor**2
        if isinstance(node, Sum):
            return value + self._source(number, node, values, 1)
        return value

    def _pooled(self, number: int, node: PositionMap, value: Tensor) -> Tensor:
        full = both_sides(node.apply, value, self.plan.positions[node.sources[0]])
        after = self.plan.positions[number]
        return full if self.plan.is_full[number] else diagonal(full, after)

    def _convolution(self, number: int, node: Convolution, value: Tensor, with_bias: bool) -> Tensor:
        layer = self.layers[node.layer]
        taps = self.plan.program.layers[node.layer].taps
        is_full, window = self.plan.is_full[number], node.window
        bias = layer.bias_variance if with_bias else None
        if taps is None:
            total = window_sum(value, window, None, is_full=is_full)
            return _affine(total, layer.weight_variance / math.prod(window.size), bias)
        lengthscale = taps.lengthscale if layer.lengthscale is None else layer.lengthscale
        shape = (layer.weight_variance * taps.shape(window.size, lengthscale).to(layer.weight_variance)).to(
            value
        )
        if not self._is_correlated(node):
            total = window_sum(value, window, shape.diagonal(), is_full=is_full)
        else:
            total = correlated_sum(
                value, window, shape, self.plan.positions[node.sources[0]], is_full=is_full
            )
        return total if bias is None else total + bias.to(total)

    def _variances(
        self,
        number: int,
        node: Node,
        moments: dict[int, Tensor],
        found: Maps | None,
        maps1: Maps,
        maps2: Maps,
    ) -> tuple[Tensor, Tensor]:
        """v and v' before a nonlinearity, shaped to broadcast to c."""
        source = node.sources[0]
        positions, is_full = self.plan.positions[source], self.plan.is_full[number]
        if found is not None:
            value = moments[source]
            v = diagonal(value, positions) if self.plan.is_full[source] else value
            found.variances[number] = v
            lead1: tuple[int, ...] = (len(v),)
            lead2: tuple[int, ...] = (len(v),)
            v1, v2 = v, v
        else:
            v1, v2 = maps1.variances[number], maps2.variances[number]
            lead1, lead2 = (len(v1), 1), (1, len(v2))
        ones = (1,) * len(positions)
        if not is_full:
            return v1.reshape(*lead1, *positions), v2.reshape(*lead2, *positions)
        return v1.reshape(*lead1, *positions, *ones), v2.reshape(*lead2, *ones, *positions)

    def _mean(self, number: int, node: Node, found: Maps) -> None:
        """The mean of a channel, where it is not zero."""
        if not self.plan.program.has_mean[number]:
            return
        if isinstance(node, Activation):
            found.means[number] = node.function.mean(found.variances[number])
            return
        terms = [found.means[source] for source in node.sources if source in found.means]
        mean = sum(terms[1:], terms[0])
        if isinstance(node, PositionMap):
            mean = one_side(node.apply, mean, len(self.plan.positions[node.sources[0]]))
        found.means[number] = mean * node.factor if isinstance(node, Scale) else mean

    def _mean_products(self, number: int, node: Node, found: Maps | None, maps1: Maps, maps2: Maps) -> Tensor:
        """E[a]E[b'] + E[b]E[a'] of the terms a and b of a sum."""
        axes, is_full = len(self.plan.positions[number]), self.plan.is_full[number]
        one, two = (found, found) if found is not None else (maps1, maps2)

        def shaped(mean: Tensor, side: int) -> Tensor:
            if found is None:
                mean = mean.unsqueeze(1 - side)
            ones = (1,) * axes
            if not is_full:
                return mean
            lead, own = mean.shape[: mean.ndim - axes], mean.shape[mean.ndim - axes :]
            return mean.reshape(*lead, *own, *ones) if side == 0 else mean.reshape(*lead, *ones, *own)

        a, b = node.sources
        return shaped(one.means[a], 0) * shaped(two.means[b], 1) + shaped(one.means[b], 0) * shaped(
            two.means[a], 1
        )

    def _kept_means(self) -> set[int]:
        program = self.plan.program
        return {i for node in program.nodes if program.crosses_means(node) for i in node.sources}


def _affine(value: Tensor, factor: Tensor, bias: Tensor | None) -> Tensor:
    scaled = value * factor.to(value)
    return scaled if bias is None else scaled + bias.to(value)
