"""The No-U-Turn sampler: Pyro's trajectories behind the same call, with our warm-up."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..posterior import Target
from ..streams import Streams
from .base import Sampler, check_target, positive, whole
from .hmc import HMC, HMCState
from .metric import check_metric

TYPICAL_DEPTH = 5
"""Doublings that estimates of cost assume: their number is not known before the run."""

_FIELDS = [name for name in HMCState._fields if name != "momentum"]
NUTSState: Any = namedtuple("NUTSState", _FIELDS)  # type: ignore[misc]
NUTSState.__doc__ = "State of `NUTS`: that of `HMC` without the momentum, which Pyro does not return."


@dataclass(frozen=True)
class NUTS(Sampler):
    """NUTS (Hoffman & Gelman 1111.4246) with multinomial draws along the trajectory (Betancourt 1701.02434), at temperature T:
    the trajectories are those of `pyro.infer.NUTS` for the potential U/T, p ~ N(0, M/T).

    In warm-up each chain tunes its own h (dual averaging) and diagonal M⁻¹ = Var θ / T (doubling windows), as `HMC` does, and
    with the same meaning at every temperature. Each step is a function of the state and the chain's own random stream, so
    stores, resuming and seeds are those of any sampler. Chains run one after the other in Python: for few chains and small
    problems, where the length of trajectories is not worth tuning, and as a reference for other samplers.

    Figures: `acceptance` (the mean over the trajectory), `divergent` (an energy error above 1000 T), `energy`, `tree_depth`,
    `num_steps` (leapfrog steps, each one gradient on the full data) and `step_size`.

    Args:
        step_size: h, the start of the adaptation where there is warm-up.
        max_tree_depth: doublings at most; a trajectory has up to 2^max_tree_depth − 1 steps.
        target_acceptance: what dual averaging aims at.
        metric: what warm-up estimates: "diagonal", or "identity" for M = I.
    """

    step_size: float = 0.01
    max_tree_depth: int = 10
    target_acceptance: float = 0.8
    metric: str = "diagonal"

    exact_gradients = True
    independent_chains = False
    """Pyro draws from torch's global generator, which threads would share."""
    vectorised = False
    anneals = False
    state_type = NUTSState

    def __post_init__(self) -> None:
        positive(self, step_size=self.step_size)
        whole(self, max_tree_depth=self.max_tree_depth)
        check_metric(self, self.metric, ("diagonal", "identity"))
        check_target(self, self.target_acceptance)

    def init(self, target: Target, theta: Float[Tensor, "chains dim"], streams: Streams) -> Any:
        """Evaluate the start."""
        return _without_momentum(self._warmup.init(target, theta, streams))

    def step(self, target: Target, state: Any, streams: Streams) -> tuple[Any, dict[str, Tensor]]:
        """One trajectory of each chain."""
        from ..pyro_bridge import Trajectories

        seeds = streams.integers(2**62, 1)[:, 0].tolist()
        found = []
        with torch.random.fork_rng(devices=[] if state.theta.device.type == "cpu" else [state.theta.device]):
            for chain, seed in enumerate(seeds):
                torch.manual_seed(seed)
                one = target.part(slice(chain, chain + 1))
                place = state.theta[chain], state.potential[chain], state.gradient[chain]
                trajectories = Trajectories(one, self.max_tree_depth)
                found.append(
                    trajectories.trajectory(*place, state.step_size[chain], state.inverse_mass[chain])
                )
        columns = {name: torch.stack([each[name] for each in found]) for name in found[0]}
        moved = {
            name: columns.pop(name).to(getattr(state, name)) for name in ("theta", "potential", "gradient")
        }
        return state._replace(**moved), columns | {"step_size": state.step_size}

    def frictionless(self) -> Sampler:
        """None. Raises NotImplementedError."""
        raise NotImplementedError(
            "a step is a whole transition, which draws its momentum, its length and the place where it ends: no map to run "
            "backwards"
        )

    def adapt(self, state: Any, info: dict[str, Tensor], iteration: int, num_warmup: int) -> Any:
        """That of `HMC`."""
        full = HMCState(**state._asdict(), momentum=torch.zeros_like(state.theta))
        return _without_momentum(self._warmup.adapt(full, info, iteration, num_warmup))

    def gradients(self, target: Target) -> tuple[float, float]:
        """Those of a tree of `TYPICAL_DEPTH`; the figure `num_steps` has the true number."""
        return 2.0 ** min(TYPICAL_DEPTH, self.max_tree_depth) - 1.0, 0.0

    @property
    def _warmup(self) -> HMC:
        return HMC(
            step_size=self.step_size,
            target_acceptance=self.target_acceptance,
            metric=self.metric,
        )


def _without_momentum(state: HMCState) -> Any:
    return NUTSState(**{name: value for name, value in state._asdict().items() if name != "momentum"})
