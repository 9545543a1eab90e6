"""Cyclical schedules of the step size, with any sampler."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import fractions, whole
from .wrapper import Wrapper

WARMING = -1
"""The place of a sampler that tunes itself before its first cycle: C = 1, and T is whole. A run without warm-up is there for its
first step, since no state knows before whether a warm-up follows."""
LENGTHS = ("step_size", "trajectory_length")
"""What C multiplies, where a state has it."""


@dataclass(frozen=True)
class Cyclical(Wrapper):
    """A cosine schedule that begins again every `cycle_length` steps: C = ½ (1 + cos(π r)), r = (step mod length)/length.

    Large steps at the start of a cycle leave a mode, small ones at its end sample it. C multiplies the learning rate
    lr = h² N in Zhang et al. (1902.03932, eq. 1), so h is multiplied by √C; in Wenzel et al. (2002.02405) C multiplies h. A
    step of a sampler with a Metropolis test is a whole trajectory, so h changes between tests alone and the test stays exact.
    The trajectories of `ChEES` shorten with its h: they keep their number of steps.

    Warm-up consists of cycles too, but for a sampler that tunes itself (`Sampler.tunes`: `HMC`, or `GGMC` with a
    `target_acceptance`). That one has a warm-up of its own, with C = 1 and the whole T throughout, as without a schedule; its
    first cycle begins after it, with the h that is found.

    In the exploration phase, where r < `exploration`, T = 0: no noise, and a Metropolis test accepts what lowers U. With `ramp`
    the temperature grows in the first cycle, T r, as in Wenzel et al. Draws of these phases are no draws of the posterior: their
    figure `sampling` is False, and `Draws` leaves them out. `bp.sample(..., thin=cycle_length)`, with a warm-up of whole cycles,
    keeps the last step of each cycle; `thin=cycle_length // k` keeps k a cycle.

    Without exploration every step leaves the law as the other sampler does. With it each cycle begins at a place that is no draw,
    near a mode, and its draws have the posterior's law only as far as the sampling phase is long enough to forget that, whatever
    sampler is inside.

    Args:
        sampler: any whose state has a `step_size` [chains]: all of `bp.samplers`.
        cycle_length: steps of the sampler in a cycle.
        multiplies: what C multiplies, "learning_rate" or "step_size".
        exploration: share of each cycle at T = 0, in [0, 1].
        ramp: whether T grows from 0 in the first cycle.
    """

    cycle_length: int = 1000
    multiplies: str = "learning_rate"
    exploration: float = 0.0
    ramp: bool = False

    own_fields: ClassVar[tuple[str, ...]] = ("iteration",)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, cycle_length=self.cycle_length)
        fractions(self, exploration=self.exploration)
        if self.multiplies not in ("learning_rate", "step_size"):
            raise ValueError(
                f"Cyclical: multiplies {self.multiplies!r} given, expected 'learning_rate' or 'step_size'"
            )
        if self.sampler.is_baseline:
            raise ValueError(
                f"Cyclical: {type(self.sampler).__name__} given, a baseline, to whose steps a cycle's temperature and noise mean "
                "nothing: expected a sampler, such as Cyclical(bp.samplers.SGHMC(1e-3)). A baseline goes to bp.sample itself; "
                "more chains of it find more modes"
            )
        if (self.exploration or self.ramp) and not self.sampler.anneals:
            raise ValueError(
                f"Cyclical: exploration or ramp given for {type(self.sampler).__name__}, which cannot move at T = 0: leave them "
                "out, or use another sampler"
            )
        if "step_size" not in self.sampler.state_type._fields:
            raise ValueError(
                f"Cyclical: the state of {type(self.sampler).__name__} has no step_size [chains] to multiply; keep the step size "
                "there, as the samplers of bnnpriors do"
            )

    @property
    def has_law(self) -> bool:
        """The other's, where T stays what it is."""
        return self.sampler.has_law and not self.exploration and not self.ramp

    def check_run(self, *, num_samples: int, num_warmup: int, thin: int) -> None:
        """Raise ValueError where no draw is of a sampling phase, and warn where some are not."""
        super().check_run(num_samples=num_samples, num_warmup=num_warmup, thin=thin)
        steps = thin * torch.arange(1, num_samples + 1) - 1 + (0 if self.tunes else num_warmup)
        count = int(self._heat(steps, (steps % self.cycle_length).double() / self.cycle_length)[1].sum())
        if count == num_samples:
            return
        settings = f"cycle_length={self.cycle_length}, exploration={self.exploration}, ramp={self.ramp}"
        lengths = f"num_samples={num_samples}, num_warmup={num_warmup}, thin={thin}"
        which = f"{count or 'none'} of {num_samples} draws a chain are from a part of a cycle that samples"
        advice = f"num_warmup of whole cycles and thin={self.cycle_length} keep the last step of each cycle"
        if count == 0:
            raise ValueError(f"Cyclical: {which} ({settings}; {lengths}), expected all or most: {advice}")
        warnings.warn(
            f"Cyclical: {which} ({settings}; {lengths}), and predictions and summaries use no others "
            f"(draws.with_exploration() has them): {advice}",
            stacklevel=3,
        )

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """The other's start, at the beginning of a cycle, or of a warm-up before the first."""
        first = WARMING if self.tunes else 0
        iteration = torch.full((len(theta),), first, dtype=torch.int64, device=theta.device)
        return self.joined(self.sampler.init(target, theta, streams), iteration=iteration)

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """A step of the other with the step size, and at the temperature, of this place in the cycle."""
        iteration = state.iteration.clamp(min=0)
        share = (iteration % self.cycle_length).to(state.step_size) / self.cycle_length
        factor = 0.5 * (1 + torch.cos(math.pi * share))
        if self.multiplies == "learning_rate":
            factor = factor.sqrt()
        heat, sampling = self._heat(iteration, share)
        heat = torch.where(state.iteration == WARMING, 1.0, heat)
        lengths = {name: getattr(state, name) for name in LENGTHS if name in state._fields}
        here = self.inner(state)._replace(**{name: value * factor for name, value in lengths.items()})
        new, info = self.sampler.step(_heated(target, heat), here, streams)
        return self.joined(new._replace(**lengths), iteration=iteration + 1), info | {"sampling": sampling}

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """The other's, in whose warm-up no cycle begins."""
        inner = self.sampler.adapt(self.inner(state), info, iteration, num_warmup)
        place = state.iteration
        if self.tunes:
            place = torch.full_like(place, WARMING if iteration + 1 < num_warmup else 0)
        return self.joined(inner, iteration=place)

    def reevaluate(self, target: Target, state: Any, streams: Streams) -> Any:
        """The other's."""
        inner = self.sampler.reevaluate(target, self.inner(state), streams)
        return self.joined(inner, iteration=state.iteration)

    def _heat(self, iteration: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """What multiplies T, and whether that is 1 for good."""
        first = (iteration < self.cycle_length) & self.ramp
        sampling = (share >= self.exploration) & ~first
        heat = torch.where(first, share, torch.ones_like(share))
        return torch.where(share >= self.exploration, heat, torch.zeros_like(heat)), sampling


def _heated(target: Target, factor: Tensor) -> Target:
    """The same potential at another temperature."""
    new = copy.copy(target)
    new.temperature = target.temperature * factor
    return new
