"""`check_sampler`: does a sampler draw from what it is given?"""

from __future__ import annotations

import torch

from ..fingerprint import describe
from ..samplers import Sampler
from .chains import Subject
from .equilibrium import (
    check_banana,
    check_calibration,
    check_double_well,
    check_funnel,
    check_gaussian,
    check_geweke,
    check_harmonic,
    check_minibatches,
    check_order,
)
from .mechanics import (
    check_chains,
    check_interface,
    check_resume,
    check_reversal,
    check_seeds,
    check_volume,
)
from .report import Check, Report, run_checks

SAMPLER_CHECKS = (
    Check("interface", check_interface),
    Check("seeds", check_seeds, ("interface",)),
    Check("chains", check_chains, ("interface",)),
    Check("resume", check_resume, ("interface", "seeds")),
    Check("time reversal", check_reversal, ("interface",)),
    Check("volume", check_volume, ("interface",)),
    Check("harmonic", check_harmonic, ("interface",)),
    Check("Gaussian", check_gaussian, ("interface",)),
    Check("double well", check_double_well, ("interface",)),
    Check("funnel", check_funnel, ("interface",)),
    Check("banana", check_banana, ("interface",)),
    Check("minibatches", check_minibatches, ("interface",)),
    Check("order of minibatches", check_order, ("interface",)),
    Check("Geweke", check_geweke, ("interface",)),
    Check("calibration", check_calibration, ("interface",)),
)


def check_sampler(
    sampler: Sampler, *, exact: bool | None = None, scale: float | None = None, seed: int = 0
) -> Report:
    """Test a sampler, ours or your own, with the settings that it has.

    The properties, with the figure of each in the report:

    - interface: the state's tensors have the chains first, a step changes no state that it is given, `gradients` is true;
    - seeds: the same seed gives the same draws, other seeds others, and the global generator is left alone;
    - chains: a chain alone and among 64 is the same;
    - resume: a run that was stopped and continued is bit for bit the run that was not;
    - time reversal: without friction a step, a flip of the momentum and a step lead back (see `Sampler.frictionless`);
    - volume: the Jacobian of such a step has determinant ±1;
    - harmonic: Var θ in kθ²/2 is the sampler's own closed form, `Sampler.harmonic_variance`;
    - Gaussian (condition number 100), double well, funnel, banana: their laws are left as they are;
    - minibatches: of a conjugate mean, likelihood rescaled by N/B and the prior not; and, of samplers with a Metropolis test, of
      the double well in three terms, where a fixed order of them shows;
    - Geweke: the joint law of a small network's weights and data is left as it is when data and steps alternate;
    - calibration: weights that made the data of a small network rank uniformly among a chain's (simulation-based calibration).

    The last eight run 1000 chains (96 of `NUTS`, whose chains step one after the other), half at T = ¼ and half at T = ½, from
    independent draws of the law, and compare positions in [0, 1] that are uniform under it: means, spreads and correlations over
    the steps, and Kolmogorov–Smirnov tests of the last states. A sampler that must be exact has them as they ought to be. Of
    one with an error, the largest at half the step size has to be at most 0.62 of the largest at the full one. Each law is
    stretched so that the sampler's own steps suit it: to an acceptance of about 0.75, or to steps of 0.4 standard deviations.
    Half the step size is a law of twice the length.

    Noise with a tenth too little variance is seen in an exact sampler by every one of these checks, in `SGLD` and `BAOAB` by
    Geweke's test, and in these half of that by their `harmonic_variance`. Give one to a sampler of your own if it has one.

    All comparisons together have a false-alarm rate below 1e-6. A property that a sampler cannot have is reported as not
    applicable, with the reason. Takes some ten seconds.

    Args:
        sampler: with its settings. Its `adapt` is called in a warm-up of 60 steps.
        exact: whether it must leave every law as it is; None: whether its steps report an "acceptance".
        scale: standard deviation of the laws in the sampler's units, instead of the one found by trial.
        seed: of all random numbers.

    Raises:
        TypeError: `sampler` is none, or a class. ValueError: a baseline such as `MAP` or `SWAG`, or a schedule with exploration
            or ramp, which have no law; a negative seed, a scale that is not positive.
    """
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"check_sampler: {sampler!r} given, expected an object with its settings, such as bp.samplers.HMC(step_size=0.01)"
        )
    if not sampler.has_law:
        raise ValueError(
            f"check_sampler: {sampler!r} given, a baseline, or a schedule that leaves the temperature for a while: there is "
            "no law that its steps leave as it is, and nothing to check. Check a Cyclical without exploration and ramp; compare "
            "a baseline's predictions with a sampler's by bp.compare(draws, others, x)"
        )
    if seed < 0:
        raise ValueError(f"check_sampler: seed {seed} given, expected an integer from 0")
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"check_sampler: scale {scale} given, expected a positive number")
    with torch.random.fork_rng(devices=[]):
        subject = Subject(sampler, seed, exact, scale)
        kind = "must leave every law as it is" if subject.exact else "has an error that must vanish"
        return run_checks(subject, f"{describe(sampler)}, which {kind}", SAMPLER_CHECKS)
