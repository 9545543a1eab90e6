"""What a sampler owes the driver, and what its step owes a Metropolis test: reversibility and a Jacobian of 1."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..likelihoods import Gaussian
from ..module import attach
from ..posterior import Posterior
from ..priors import Normal
from ..sampling import sample
from .chains import Subject
from .densities import Banana, Funnel, Harmonic, Mean
from .known import Given, Known, Pooled
from .report import NotApplicable

EXACT = 1e-7
"""Relative error allowed where rounding alone may differ, finite differences included."""
GENTLE = 3.0
"""How many times finer the steps are whose map is differentiated and inverted: rough ones magnify rounding."""
FEW, MANY = 1, 64


def check_interface(subject: Subject) -> tuple[bool, str]:
    """States are tuples of tensors with the chains first, a step changes none that it is given, costs are as declared."""
    sampler, chains, steps = subject.sampler, 5, 10
    small = None if sampler.exact_gradients else 3
    law = Mean()
    target, streams = Known(law, chains, subject.scale(law), small), Pooled(subject.seed, chains)
    theta = target.start(subject.generator(1))
    state = sampler.init(target, theta, streams)
    if not torch.allclose(state.theta, theta, rtol=1e-12, atol=0.0):
        return False, "init moves theta, expected the start that it is given"
    if type(state) is not sampler.state_type:
        return (
            False,
            f"init returns a {type(state).__name__}, expected {sampler.state_type.__name__}, the state_type",
        )
    target.counts.update(exact=0.0, estimates=0.0)
    taken = 0.0
    for _ in range(steps):
        before = {name: value.clone() for name, value in state._asdict().items()}
        new, info = sampler.step(target, state, streams)
        for name, value in state._asdict().items():
            if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
                return False, f"step changes {name} of the state that it is given, expected a new state"
        state = sampler.adapt(new, info, 0, 10)
        taken += float(info["num_steps"].double().mean()) if "num_steps" in info else 0.0
        for name, value in {**state._asdict(), **info}.items():
            if not isinstance(value, Tensor) or value.shape[:1] != (chains,):
                return False, f"{name} is {_what(value)}, expected a tensor with the {chains} chains first"
        if state.theta.shape != theta.shape or state.theta.dtype != theta.dtype:
            return False, f"theta is {_what(state.theta)} after a step, expected {_what(theta)}"
    counted = [count / steps for count in target.counts.values()]
    exact, estimates = sampler.gradients(target)
    words = f"{counted[0]:g} exact gradients and {counted[1]:g} estimates a step, "
    if not sampler.vectorised and "num_steps" in info:
        words += f"{taken / steps:g} by its figure num_steps, since their number is not known before"
        if not math.isclose(sum(counted), taken / steps, rel_tol=0.25):
            return False, words
    else:
        words += f"{exact:g} and {estimates:g} declared"
        if not math.isclose(sum(counted), exact + estimates, rel_tol=0.25):
            return False, f"{words} by gradients(): runs are planned by it"
    return True, f"{len(before)} fields and {len(info)} figures of {chains} chains; {words}"


def check_seeds(subject: Subject) -> tuple[bool, str]:
    """One seed gives the same draws, another seed others, and torch's global generator is not touched."""
    posterior = _regression(subject)
    before = torch.get_rng_state()
    first, again, other = (_draws(subject, posterior, seed=seed) for seed in (0, 0, 1))
    if not torch.equal(before, torch.get_rng_state()):
        return False, "a run moves torch's global generator; draw from `streams` alone"
    if not torch.equal(first, again):
        return False, "two runs with the same seed differ; all random numbers must come from `streams`"
    if torch.equal(first, other):
        return False, "runs with different seeds are equal; `streams` are not used"
    return True, "same seed, same draws; another seed, other draws; the global generator untouched"


def check_chains(subject: Subject) -> tuple[bool, str]:
    """A chain alone and the same one among 64 have the same draws."""
    if not subject.sampler.independent_chains and subject.sampler.vectorised:
        raise NotApplicable("independent_chains is False: a step of a chain may look at the others")
    alone, among = (_draws(subject, _regression(subject), num_chains=n) for n in (FEW, MANY))
    error = float((alone[0] - among[0]).abs().max() / among.std())
    return (
        error <= 1e-6,
        f"{FEW} and {MANY} chains: draws of the first differ by {error:.1g} standard deviations, allowed 1e-06",
    )


def check_resume(subject: Subject) -> tuple[bool, str]:
    """A run that is stopped, stored and continued is the run that was not stopped, bit for bit."""
    posterior = _regression(subject)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "run"
        _draws(subject, posterior, num_samples=4, store=store)
        whole = _draws(
            subject, posterior, num_samples=8
        )  # between the two, so that what is outside the state changes
        joined = _draws(subject, posterior, num_samples=8, store=store, resume=True)
    error = float((joined - whole).abs().max())
    return error == 0, f"stopped after 4 of 8 draws and continued: largest difference {error:.1g}, expected 0"


def check_reversal(subject: Subject) -> tuple[bool, str]:
    """Without friction, a step, a flip of the momentum and a step lead back."""
    if not subject.sampler.reversible:
        raise NotApplicable(
            "reversible is False: no step leads back, so there can be no Metropolis test either"
        )
    worst = 0.0
    for law in (Funnel(), Banana()):
        step = _Step(subject, law)
        theta, momentum = step.start(50)
        there, moved = step(theta, momentum)
        back, flipped = step(there, -moved)
        if float((there - theta).abs().mean()) < 1e-3 * float(theta.std()):
            raise NotApplicable("a step without friction does not move")
        worst = max(
            worst,
            float((back - theta).abs().max() / theta.std()),
            float((flipped + momentum).abs().max() / momentum.std()),
        )
    return worst <= EXACT, (
        f"there, momentum flipped, and back: off by {worst:.1g} standard deviations, allowed {EXACT:g}"
    )


def check_volume(subject: Subject) -> tuple[bool, str]:
    """|det| of the Jacobian of (θ, m) → (θ', m') of a step without friction is 1, by central differences of fourth order."""
    if not subject.sampler.preserves_volume:
        raise NotApplicable("preserves_volume is False: the test has to count the change of volume")
    law = Banana()
    step = _Step(subject, law)
    theta, momentum = step.start(20)
    both = torch.cat([theta, momentum], dim=1)
    units, moves = both.std(0), 1e-3
    columns = []
    for unit in torch.eye(both.shape[1], dtype=both.dtype):
        ends = [
            torch.cat(step(*(both + k * moves * units * unit).chunk(2, dim=1)), dim=1) for k in (-2, -1, 1, 2)
        ]
        columns.append((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * moves * units))
    volume = torch.linalg.det(torch.stack(columns, dim=2)).abs()
    error = float((volume - 1).abs().max())
    return error <= 1e-6, f"determinant of the Jacobian of a step off 1 by {error:.1g}, allowed 1e-06"


class _Step:
    """One step without friction as a function of θ and momentum, whether the sampler keeps the momentum or draws it.

    Raises:
        NotApplicable: no momentum, or no limit without friction.
    """

    def __init__(self, subject: Subject, law: Any) -> None:
        self.law, self.scale, self.subject = law, GENTLE * subject.scale(law), subject
        self._states: dict[int, Any] = {}
        try:
            self.sampler = subject.sampler.frictionless()
        except NotImplementedError as reason:
            raise NotApplicable(str(reason) or "the sampler has no limit without friction") from reason
        if "momentum" not in self.sampler.state_type._fields:
            raise NotApplicable("the state has no momentum: every step is noise")

    def start(self, chains: int) -> tuple[Tensor, Tensor]:
        """Draws of θ and of the momentum, at T = 1."""
        generator = self.subject.generator(7)
        theta = self._target(chains).start(generator)
        return theta, torch.randn(theta.shape, generator=generator, dtype=theta.dtype)

    def __call__(self, theta: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        target, streams = self._target(len(theta)), Given(momentum)
        if (
            len(theta) not in self._states
        ):  # kept, since a start may tune what a step leaves alone, such as a mass
            self._states[len(theta)] = self.sampler.init(target, theta, streams)
        state = self._states[len(theta)]._replace(theta=theta, momentum=momentum)
        new, _ = self.sampler.step(target, self.sampler.reevaluate(target, state, streams), streams)
        return new.theta, new.momentum

    def _target(self, chains: int) -> Known:
        target = Known(self.law, chains, self.scale)
        target.temperature = torch.ones_like(target.temperature)
        target.length = torch.full_like(target.length, self.scale)
        return target


def _regression(subject: Subject) -> Posterior:
    """A regression in the sampler's units, with minibatches where it takes them."""
    generator = subject.generator(3)
    unit = 2 * subject.scale(Harmonic(1.0))
    x = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    y = x.sum(1, keepdim=True) + torch.randn(12, 1, generator=generator, dtype=torch.float64)
    model = attach(nn.Linear(2, 1, bias=False, dtype=torch.float64), Normal(0.0, 3 * unit))
    size = None if subject.sampler.exact_gradients else 4
    return Posterior(model, Gaussian(3.0), x / unit, y, batch_size=size)


def _draws(subject: Subject, posterior: Posterior, **options: Any) -> Tensor:
    """θ of a short run of `bp.sample`, [chains, draws, dim]."""
    settings = {"num_samples": 4, "num_warmup": 5, "num_chains": 2, "seed": 0, "progress": False} | options
    return sample(
        posterior, subject.sampler, compile=False, chunk_size=settings["num_chains"], **settings
    ).theta


def _what(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
