"""Does a sampler leave a known law as it is? If it has an error, does it vanish with the step size?

A comparison has a false-alarm rate of `LEVEL`: a report makes fewer than 200 of them, 1e-6 in all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .chains import Run, Subject
from .densities import Banana, DoubleWell, Funnel, Gaussian, Harmonic, Law, Mean
from .geweke import Network
from .known import Known
from .report import NotApplicable

LEVEL = 5e-9
SHARE = 0.62
"""Of an error that may be left at half the step size: an error of first order leaves 0.5 of itself."""
RELIEF = 3.0
"""How many times finer the steps are in a second attempt."""
STUCK = 0.95
"""Correlation of the first and the last positions above which the chains have not moved."""


def check_gaussian(subject: Subject) -> tuple[bool, str]:
    """A Gaussian with a condition number of 100."""
    return _law(subject, Gaussian())


def check_double_well(subject: Subject) -> tuple[bool, str]:
    """U = x⁴/4 − 0.4x² + 0.5x."""
    return _law(subject, DoubleWell())


def check_funnel(subject: Subject) -> tuple[bool, str]:
    """Neal's funnel."""
    return _law(subject, Funnel())


def check_banana(subject: Subject) -> tuple[bool, str]:
    """A curved ridge."""
    return _law(subject, Banana())


def check_geweke(subject: Subject) -> tuple[bool, str]:
    """Geweke's joint distribution test on a small network."""
    return _law(subject, Network())


def check_calibration(subject: Subject) -> tuple[bool, str]:
    """Simulation-based calibration on a small network."""
    return _law(subject, Network(), run=subject.calibrate)


def check_harmonic(subject: Subject) -> tuple[bool, str]:
    """The variance of θ in kθ²/2 against the sampler's own `harmonic_variance`, at steps where its error is plain."""
    scale = 0.5 * subject.scale(Harmonic(1.0))
    stiffness = 1 / scale**2
    variance = subject.sampler.harmonic_variance(stiffness)
    if variance is None:
        raise NotApplicable("the sampler has no harmonic_variance, a closed form of its error")
    ratio = variance * stiffness
    run = subject.run(Harmonic(ratio), scale, num_warmup=0)
    mean, error = _mean(run.statistics)
    worst, limit = float((mean / error).abs().max()), _limit(run)
    words = f"Var x = {ratio:.4f} T/k in closed form: {worst:.1f} standard errors off, allowed {limit:.2f}"
    return worst <= limit, words


def check_minibatches(subject: Subject) -> tuple[bool, str]:
    """The mean of 12 data by minibatches of 3: the gradient of the likelihood is to be rescaled by N/B, the prior's not."""
    _need_minibatches(subject)
    return _law(subject, Mean(), batch_size=3)


def check_order(subject: Subject) -> tuple[bool, str]:
    """The double well in three terms, one a minibatch: a Metropolis test is exact where their order is as probable backwards."""
    _need_minibatches(subject)
    if not subject.exact:
        raise NotApplicable(
            "a sampler without a Metropolis test needs no reversible order of the minibatches"
        )
    return _law(subject, DoubleWell(), batch_size=1)


def _need_minibatches(subject: Subject) -> None:
    target = Known(Mean(), 2, 1.0, batch_size=3)
    try:
        subject.sampler.check(target)
    except ValueError as error:
        raise NotApplicable("the sampler refuses minibatches: it needs gradients of the full data") from error


def _law(
    subject: Subject, law: Law, batch_size: int | None = None, *, run: Callable[..., Run] | None = None
) -> tuple[bool, str]:
    subject.need(law)
    run = run or subject.run
    scale = subject.scale(law, batch_size)
    try:
        first = run(law, scale, batch_size=batch_size)
    except (
        FloatingPointError
    ):  # rare places where steps without a test are unstable, which a few trial steps did not meet
        scale *= RELIEF
        first = run(law, scale, batch_size=batch_size)
    if first.persistence > STUCK:
        if isinstance(law, Gaussian):
            return (
                False,
                f"the chains hardly move: first and last positions correlate by {first.persistence:.2f}",
            )
        raise NotApplicable(f"the chains hardly move in {first.steps} steps, so they prove nothing")
    if subject.exact:
        return _unchanged(first)
    return _vanishing(first, run(law, 2 * scale, batch_size=batch_size))


def _unchanged(run: Run) -> tuple[bool, str]:
    """Every function has its expectation, and the last positions are uniform."""
    from scipy.stats import kstest

    mean, error = _mean(run.statistics)
    distance = (mean / error).abs()
    worst, limit = int(distance.argmax()), _limit(run)
    pvalue = min(float(kstest(u.numpy(), "uniform").pvalue) for u in run.last.T)
    words = (
        f"{run.names[worst]} {mean[worst]:+.4f} ± {error[worst]:.4f} off, {distance[worst]:.1f} standard errors, allowed "
        f"{limit:.2f}; smallest Kolmogorov–Smirnov p-value {pvalue:.2g}"
    )
    if run.acceptance == run.acceptance:
        words += f"; acceptance {run.acceptance:.2f}"
    return bool(distance[worst] <= limit) and pvalue > LEVEL, words


def _vanishing(coarse: Run, fine: Run) -> tuple[bool, str]:
    """No error at half the step size is above `SHARE` of the largest at the full one, within the standard errors of both.

    The largest, since errors of two orders may cancel in one function at one step size.
    """
    mean, error = _mean(coarse.statistics)
    half, half_error = _mean(fine.statistics)
    first = int(mean.abs().argmax())
    excess = half.abs() - SHARE * mean[first].abs()
    distance = excess / (half_error**2 + (SHARE * error[first]) ** 2).sqrt()
    second = int(distance.argmax())
    return bool(distance[second] <= _limit(fine)), (
        f"largest error {mean[first]:+.4f} ± {error[first]:.4f} ({coarse.names[first]}), at half the step size "
        f"{half[second]:+.4f} ± {half_error[second]:.4f} ({fine.names[second]}), allowed {SHARE} of the first"
    )


def _limit(run: Run) -> float:
    """Standard errors that Student's t of a mean over the run's chains exceeds with probability `LEVEL`: 5.9 for 1000 chains."""
    from scipy.stats import t

    return float(t.isf(LEVEL / 2, len(run.statistics) - 1))


def _mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over chains and its standard error."""
    return values.mean(0), values.std(0).clamp(min=torch.finfo(values.dtype).tiny) / len(values) ** 0.5
