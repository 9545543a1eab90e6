"""Empirical Bayes: what trained weights say about the prior.

The analysis is that of Fortuin et al. (2102.06571, section 3): marginals and their tails, and covariances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .load import Network, load_networks

if TYPE_CHECKING:
    from .result import FittedPriors


def fit(
    weights: Network | Sequence[Network],
    *,
    include: str = "*",
    scale: Literal["number", "fan_in"] = "number",
    location: bool = False,
    level: float = 0.95,
    max_weights: int = 200_000,
    seed: int = 0,
) -> FittedPriors:
    """Fit priors to the weights of one or many trained networks, layer by layer.

    For each parameter, over the pooled networks: standard deviation and gain, excess kurtosis, Student's degrees of freedom with
    a profile-likelihood interval, Hill's tail index; the log likelihood per held-out weight of Normal, Laplace, Logistic, Cauchy,
    StudentT and GeneralizedNormal under maximum-likelihood parameters; for convolutions the covariance of the taps, whether it is
    there, and CorrelatedNormal and CorrelatedStudentT with each kernel; for linear layers the correlations of rows and of columns
    against shuffled weights. Weights are held out by whole networks where there are several (in at most five groups), otherwise
    by a random fifth at a time.

    Recommended is Normal, until a likelihood ratio on held-out weights dismisses it (false-alarm rate below 1e-6 a layer, at any
    number of weights); then the best family with a scale alone; dismissing that one likewise, the best with a shape or
    lengthscale too; and dismissing that one, CorrelatedStudentT, which has both.

    Intervals and false-alarm rates take weights (filters, for a convolution) as independent. Those of one trained network are
    not quite so; several networks are the better witness.

    Args:
        weights: a torch module, a `state_dict`, {name: array}, the path of a checkpoint (.pt or .pth that holds plain tensors,
            .npz), or a sequence of those, of one architecture.
        include: glob over parameter names.
        scale: `"number"`, or `"fan_in"` for `fan_in(gain)` with gain = s·√fan_in, which carries over to other widths.
        location: whether families have a location of their own; 0 otherwise.
        level: of all intervals, between 0 and 1.
        max_weights: families are fitted to a random choice of this many weights of a larger layer.
        seed: of that choice, the folds and the shuffles.

    Returns:
        A `FittedPriors`: `print` it; `.priors` goes to `bp.attach`; `.rows`, `.table()`, `.plot(folder)`.

    Raises:
        FileNotFoundError: a path that leads to no file.
        TypeError: something that is no network.
        ValueError: a checkpoint of pickled objects, no weights, NaN or infinity, networks of different architectures, or an
            argument out of range.
    """
    if scale not in ("number", "fan_in"):
        raise ValueError(f"fit: scale {scale!r} given, expected 'number' or 'fan_in'")
    if not 0 < level < 1:
        raise ValueError(f"fit: level {level} given, expected a number between 0 and 1, such as 0.95")
    if max_weights < 1000:
        raise ValueError(f"fit: max_weights {max_weights} given, expected 1000 or more")
    networks = load_networks(weights, include)

    import numpy as np

    from .layer import Options, fit_layer
    from .result import FittedPriors

    options = Options(scale, location, level, max_weights)
    return FittedPriors(
        {
            name: fit_layer(
                name,
                [network[name] for network in networks],
                options,
                np.random.default_rng([seed, position]),
            )
            for position, name in enumerate(networks[0])
        },
        level,
    )


__all__ = ["fit"]
