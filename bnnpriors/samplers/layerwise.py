"""Layer-wise preconditioning, with any sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import whole
from .wrapper import Wrapper


@dataclass(frozen=True)
class Layerwise(Wrapper):
    """One mass a tensor (Wenzel et al. 2002.02405, algorithm 2): M = √(mean ĝ² + 10⁻⁷) over a tensor's elements and `num_batches`
    minibatches, divided by the smallest of the tensors, in which h then means what it means without.

    Dynamics with mass M in θ are dynamics with M = I in M^{1/2} θ, which is what the other sampler sees: its Metropolis test and
    its own metric are those that it has there, and its `momentum` is M^{−1/2} m, so that mᵀM⁻¹m is its square. When M is
    estimated anew this momentum stays, which is m ← √(M_new/M_old) m.

    M is estimated at the start, and again in warm-up every `every` steps, never within a trajectory. After warm-up it is
    constant, so that nothing is to be corrected for.

    Baselines (`MAP`, `SWAG`) are refused: what they average over their path would mix coordinates of different M.

    Args:
        sampler: any that samples exp(−U/T).
        num_batches: K; on the full data one gradient says the same.
        every: warm-up steps between two estimates.
    """

    num_batches: int = 32
    every: int = 50

    own_fields: ClassVar[tuple[str, ...]] = ("scale", "due")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler.is_baseline:
            inner = type(self.sampler).__name__
            raise ValueError(
                f"Layerwise: {inner} given, a baseline, expected a sampler such as SGHMC. What {inner} averages over its path "
                f"has no meaning once the masses are estimated anew; use {inner} without Layerwise"
            )
        whole(self, num_batches=self.num_batches, every=self.every)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """Estimate M at the start."""
        scale = self._estimate(target, theta, streams)
        inner = self.sampler.init(_Stretched(target, scale), theta / scale, streams)
        return self._leave(inner, scale, torch.zeros(len(theta), dtype=torch.bool, device=theta.device))

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """A step of the other, after a new estimate of M where it is due."""
        if bool(state.due.any()):
            scale = self._estimate(target, state.theta, streams)
            state = state._replace(scale=scale, due=torch.zeros_like(state.due))
        inner, info = self.sampler.step(_Stretched(target, state.scale), self._enter(state), streams)
        return self._leave(inner, state.scale, state.due), info

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """The other's; and M is due every `every` steps."""
        inner = self.sampler.adapt(self._enter(state), info, iteration, num_warmup)
        is_due = (iteration + 1) % self.every == 0 and iteration + 1 < num_warmup
        return self._leave(inner, state.scale, torch.full_like(state.due, is_due))

    def reevaluate(self, target: Target, state: Any, streams: Streams) -> Any:
        """The other's, with the same M."""
        inner = self.sampler.reevaluate(_Stretched(target, state.scale), self._enter(state), streams)
        return self._leave(inner, state.scale, state.due)

    def _estimate(self, target: Target, theta: Tensor, streams: Streams) -> Float[Tensor, "chains dim"]:
        """M^{−1/2} of every element."""
        count = 1 if target.batch_size is None else self.num_batches
        squares = torch.zeros_like(theta)
        for _ in range(count):
            squares = squares + target.gradient_estimate(theta, streams) ** 2
        sizes = torch.tensor(target.layout.sizes, device=theta.device)
        mass = (target.layout.per_tensor_sum(squares) / (count * sizes) + 1e-7).sqrt()
        mass = mass / mass.min(1, keepdim=True).values
        return mass.rsqrt().repeat_interleave(sizes, dim=1)

    def _enter(self, state: Any) -> Any:
        return _scaled(self.inner(state), 1 / state.scale)

    def _leave(self, inner: Any, scale: Tensor, due: Tensor) -> Any:
        return self.joined(_scaled(inner, scale), scale=scale, due=due)


class _Stretched(Target):
    """A target in the coordinates θ/scale."""

    def __init__(self, target: Target, scale: Tensor) -> None:
        self.__dict__.update(vars(target))
        self._target, self._scale = target, scale

    def part(self, chains: slice | Tensor) -> _Stretched:
        """Some of its chains."""
        return _Stretched(self._target.part(chains), self._scale[chains])

    def potential(self, theta: Float[Tensor, "chains dim"]) -> Float64[Tensor, " chains"]:
        """U(scale · θ)."""
        return self._target.potential(theta * self._scale)

    def value_and_gradient(
        self, theta: Float[Tensor, "chains dim"]
    ) -> tuple[Float64[Tensor, " chains"], Float[Tensor, "chains dim"]]:
        """U and scale · ∇U."""
        value, gradient = self._target.value_and_gradient(theta * self._scale)
        return value, gradient * self._scale

    def gradient_estimate(
        self, theta: Float[Tensor, "chains dim"], streams: Streams
    ) -> Float[Tensor, "chains dim"]:
        """scale · ĝ."""
        return self._target.gradient_estimate(theta * self._scale, streams) * self._scale


def _scaled(state: Any, scale: Tensor) -> Any:
    """θ times scale, and the gradient by it divided."""
    changes = {"theta": state.theta * scale}
    if "gradient" in state._fields:
        changes["gradient"] = state.gradient / scale
    return state._replace(**changes)
