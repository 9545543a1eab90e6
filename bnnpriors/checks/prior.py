"""`check_prior`: is a prior what it says?"""

from __future__ import annotations

import torch

from ..priors import as_prior
from .derivatives import check_extremes, check_gradient, check_standard
from .interface import (
    check_chains,
    check_copies,
    check_dtypes,
    check_seeds,
    check_shapes,
    check_state_dict,
    check_support,
)
from .laws import check_draws, check_hmc, check_normalisation
from .report import Check, Report, run_checks
from .subject import Subject

DRAWN = ("shapes", "support")
PRIOR_CHECKS = (
    Check("shapes", check_shapes),
    Check("support", check_support, ("shapes",)),
    Check("dtype and device", check_dtypes, DRAWN),
    Check("gradient", check_gradient, DRAWN),
    Check("chains", check_chains, DRAWN),
    Check("extreme values", check_extremes, DRAWN),
    Check("pickling", check_copies, DRAWN),
    Check("seeds", check_seeds, DRAWN),
    Check("state_dict", check_state_dict, DRAWN),
    Check("non-centred form", check_standard, DRAWN),
    Check("normalisation", check_normalisation, (*DRAWN, "chains")),
    Check("draws follow the density", check_draws, (*DRAWN, "chains")),
    Check("HMC on the prior alone", check_hmc, (*DRAWN, "chains", "draws follow the density")),
)


def check_prior(prior: object, shape: tuple[int, ...] | None = None, seed: int = 0) -> Report:
    """Test a prior, ours or your own, as scikit-learn's `check_estimator` tests an estimator.

    The properties, with the figure of each in the report:

    - shapes: `log_prob` elementwise or with dimensions summed away; `sample(shape)` of that shape;
    - support: draws are finite and inside it;
    - dtype and device: float32 and float64, and CUDA where there is a device;
    - gradient: against central differences, hyperparameters included;
    - chains: `torch.func.vmap` equals a loop, for densities and gradients;
    - extreme values: finite or −∞ and never NaN, from 0 to 10³⁰ (float32: 10¹⁵), hyperparameters from 10⁻⁸ to 10⁸;
    - pickling, state_dict: a copy, or a model that loads the state, is the same;
    - seeds: the same seed gives the same draw, other seeds others, and the global generator is left alone;
    - non-centred form, where there is one: log p(w) + log |dw/dz| = log p₀(z);
    - normalisation: the density of the latents, Jacobian included, integrates to 1, given the hyperparameters;
    - draws follow the density, given the hyperparameters, and these theirs;
    - HMC on the prior alone, through `bp.Posterior(model)`, returns the prior's own quantiles.

    The last three have a false-alarm rate of 1e-6 together; the others have none. A property that the prior cannot have (the
    draws of `Improper`), or that cannot be judged while another fails, is reported as not applicable, with the reason.
    A prior on values that have other latents, such as `Dirichlet`, is judged as what it can be, a hyperprior.
    Takes a few seconds; the global random generators are left as they were.

    Args:
        prior: a `bp.priors.Prior`, or a torch or Pyro distribution.
        shape: the shape of the parameter, such as [out, in, 3, 3] of a convolution; a small one that fits if not given.
        seed: of all random numbers; another seed draws others.

    Raises:
        TypeError: `prior` is none. ValueError: a prior that cannot be on a tensor of this shape, or of any
            that is tried; a negative seed.
    """
    known = as_prior(prior)
    if seed < 0:
        raise ValueError(f"check_prior: seed {seed} given, expected an integer from 0")
    if shape is not None and any(length < 1 for length in shape):
        raise ValueError(
            f"check_prior: shape {shape} given, expected positive lengths, those of a parameter; () for a number"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        subject = Subject(known, shape, seed)
        place = "as a hyperprior, on values" if subject.is_hyperprior else "on a tensor"
        return run_checks(subject, f"{known!r} {place} of shape {subject.shape}", PRIOR_CHECKS)
