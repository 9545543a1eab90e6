"""Chains that one worker advances: their steps, what is recorded of them, and their part of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .posterior import Target
from .samplers import Sampler
from .streams import Streams

Record = dict[str, NDArray[Any]]
"""What is kept of one draw: name -> [chains, ...]."""
Checkpoint = dict[str, Any]
"""Where chains stand: `iteration`, `steps` that sample since the last draw, and by chain `state`, `figures` and `streams`."""


class SamplingError(RuntimeError):
    """A run that cannot go on, with what to do about it."""


class Schedule(NamedTuple):
    """The steps of a run: warm-up, then `num_samples` draws, the last of every `thin` steps."""

    num_warmup: int
    num_samples: int
    thin: int

    @property
    def total(self) -> int:
        """All steps."""
        return self.num_warmup + self.num_samples * self.thin

    def until_draw(self, iteration: int) -> int:
        """Steps that are left of warm-up, or after it to the next draw."""
        if iteration < self.num_warmup:
            return self.num_warmup - iteration
        return self.thin - (iteration - self.num_warmup) % self.thin

    def is_draw(self, iteration: int) -> bool:
        """Whether the state after this many steps is a draw."""
        return iteration > self.num_warmup and (iteration - self.num_warmup) % self.thin == 0


@dataclass
class Group:
    """Chains that one worker advances, and their figures since the last kept draw.

    Attributes:
        first: the number of the first chain in the run. steps: since the last kept draw, those that sample.
    """

    sampler: Sampler
    target: Target
    streams: Streams
    first: int = 0
    state: Any = None
    figures: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def start(self, theta: Tensor) -> None:
        """Begin at `theta`."""
        self.state = self.sampler.init(self.target, theta, self.streams)

    def resume(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of these chains."""
        device = self.streams.device
        fields = {name: value.to(device) for name, value in saved["state"].items()}
        self.state = self.sampler.state_type(**fields)
        self.figures = {name: value.to(device) for name, value in saved.get("figures", {}).items()}
        self.steps = int(saved["steps"])
        self.streams.restore(saved["streams"])

    def checkpoint(self, iteration: int) -> Checkpoint:
        """Where the chains stand after `iteration` steps."""
        return {
            "iteration": iteration,
            "state": {name: value.cpu() for name, value in self.state._asdict().items()},
            "figures": {name: value.cpu() for name, value in self.figures.items()},
            "steps": self.steps,
            "streams": self.streams.state(),
        }

    def advance(self, iteration: int, steps: int, num_warmup: int) -> None:
        """`steps` steps from step `iteration` on."""
        for index in range(iteration, iteration + steps):
            self.state, info = self.sampler.step(self.target, self.state, self.streams)
            if index < num_warmup:
                self.state = self.sampler.adapt(self.state, info, index, num_warmup)
                self.figures = info
            else:
                self._add(info)

    def record(self) -> Record:
        """The draw at hand with its figures; acceptance and divergence begin anew."""
        self.steps = 0
        values = {"theta": self.state.theta}
        values |= {f"stats/{name}": value for name, value in self.figures.items()}
        if hasattr(self.state, "potential"):
            values["stats/potential"] = self.state.potential
        for name, (overall, per_tensor) in self._temperatures().items():
            values[f"stats/{name}"] = overall
            values[f"tensor_stats/{name}"] = per_tensor
        return {name: np.asarray(value.detach().cpu()) for name, value in values.items()}

    def shown(self) -> dict[str, Tensor]:
        """What a progress bar shows of each chain."""
        shown = {}
        if "acceptance" in self.figures and not bool(self.figures["acceptance"].isnan().all()):
            shown["acceptance"] = self.figures["acceptance"].cpu()
        if hasattr(self.state, "momentum"):
            kinetic, _ = self._temperatures()["kinetic_temperature"]
            shown["T_kinetic/T"] = (kinetic / self.target.temperature).cpu()
        return shown

    def bad_starts(self) -> list[int]:
        """Chains whose potential is not finite."""
        potential = getattr(self.state, "potential", None)
        if potential is None or potential.isnan().all():
            target = self.target.uncompiled()
            theta = self.state.theta
            potential = target.trial(theta)[0] if target.is_random else target.potential(theta)
        return self._numbers(~potential.isfinite())

    def lost(self) -> list[int]:
        """Chains that have left the finite numbers."""
        return self._numbers(~self.state.theta.isfinite().all(1))

    def _numbers(self, marked: Tensor) -> list[int]:
        return [self.first + chain for chain in marked.nonzero().flatten().tolist()]

    def _add(self, info: dict[str, Tensor]) -> None:
        """Figures of one step: acceptance is averaged over the steps of a draw, a divergence is kept, others are the last.

        Steps whose figure `sampling` is False, as in a schedule's exploration, count in neither; where there are no others,
        acceptance is NaN.
        """
        samples = "sampling" not in info or bool(info["sampling"].any())
        before, is_first = self.figures, self.steps == 0
        self.steps += samples
        if "acceptance" in info:
            new = info["acceptance"] if samples else torch.full_like(info["acceptance"], math.nan)
            mean = new if is_first else before["acceptance"]
            info = info | {"acceptance": mean + (new - mean) / self.steps if samples else mean}
        if "divergent" in info:
            new = info["divergent"] & samples
            info = info | {"divergent": new if is_first else new | before["divergent"]}
        self.figures = info

    def _temperatures(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Kinetic mᵀM⁻¹m/d and configurational θᵀ∇U/d, overall and per tensor."""
        layout, state = self.target.layout, self.state
        sizes = state.theta.new_tensor(layout.sizes)
        result = {}
        if hasattr(state, "momentum"):
            squares = state.momentum**2
            if hasattr(state, "inverse_mass"):
                squares = squares * state.inverse_mass
            result["kinetic_temperature"] = squares
        if hasattr(state, "gradient"):
            result["configurational_temperature"] = state.theta * state.gradient
        sums = {name: layout.per_tensor_sum(value) for name, value in result.items()}
        return {name: (value.sum(1) / layout.dim, value / sizes) for name, value in sums.items()}


def refuse_starts(chains: Sequence[int]) -> None:
    """Raise SamplingError where there are chains that start badly."""
    if chains:
        raise SamplingError(
            f"chains {list(chains)} start where the potential is not finite: check the prior's scales and the "
            "data's range, or start elsewhere with init='model'"
        )


def refuse_lost(
    chains: Sequence[int], temperature: Tensor, iteration: int, sampler: Sampler, path: Path | None
) -> None:
    """Raise SamplingError where there are lost chains. `temperature` is that of every chain of the run."""
    if chains:
        temperatures = [round(float(temperature[chain]), 6) for chain in chains]
        where = "" if path is None else f"; the draws up to the last checkpoint in {path} are valid"
        raise SamplingError(
            f"chains {list(chains)} (temperatures {temperatures}) left the finite numbers by step {iteration}: "
            f"lower the step size of {sampler!r}{where}"
        )


def join_records(records: Sequence[Record]) -> Record:
    """One record of all groups, in order. A potential that no chain knows is left out."""
    joined = dict(records[0])
    if len(records) > 1:
        joined = {name: np.concatenate([record[name] for record in records]) for name in joined}
    if "stats/potential" in joined and np.isnan(joined["stats/potential"]).all():
        del joined["stats/potential"]
    return joined


def join_checkpoints(saved: Sequence[Checkpoint]) -> Checkpoint:
    """One checkpoint of all groups, in order."""
    return saved[0] | {
        "streams": torch.cat([one["streams"] for one in saved]),
        **{kind: _cat([one[kind] for one in saved]) for kind in ("state", "figures")},
    }


def part_of(saved: Checkpoint, chains: slice) -> Checkpoint:
    """The checkpoint of some chains."""
    fields = {
        kind: {name: value[chains] for name, value in saved.get(kind, {}).items()}
        for kind in ("state", "figures")
    }
    return saved | fields | {"streams": saved["streams"][chains]}


def _cat(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
