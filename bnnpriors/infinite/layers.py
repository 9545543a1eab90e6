"""From the priors of a model to the variances of its layers: what a wide layer keeps of the distribution of its weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..module import BayesianModule
from ..priors import CorrelatedNormal, CorrelatedStudentT, Distribution, Normal, Prior
from ..priors.heavy_tailed import student_moments
from ..priors.site import Site
from .program import Layer, Taps

INDEPENDENT = ("weight", "filter")


class ApproximateKernelWarning(UserWarning):
    """The kernel has the right variances, but not every layer is Gaussian in the limit."""


class LayerPriors:
    """The layers of one model, made from its sites.

    Args:
        model: the module with its priors.
    """

    def __init__(self, model: BayesianModule) -> None:
        self._sites = {name: site for site in model.sites for name in site.members}
        self._values = {name: value.detach() for name, value in model.values()[0].items()}
        self._names = {
            id(parameter): name for name, parameter in model.net.named_parameters(remove_duplicate=True)
        }

    def layer(self, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, *, is_first: bool) -> Layer:
        """The variances of a layer.

        Args:
            is_first: whether its fan-in stays finite as the network grows, so that no central limit theorem holds for it.

        Raises:
            ValueError: a prior without a finite variance or with a mean, weights that are dependent or of different variances, a
                hyperprior that the whole layer shares, a parameter that has no prior.
        """
        weight = f"{name}.weight".lstrip(".")
        site = self._site(weight, module.weight)
        fan_in = math.prod(module.weight.shape[1:])
        taps: Taps | None
        if isinstance(site.prior, CorrelatedNormal):
            taps, variance = _correlated(weight, site)
        else:
            taps, variance = self._independent(weight, site)
        bias = 0.0 if module.bias is None else self._bias(f"{name}.bias".lstrip("."), module.bias)
        if is_first and not _is_gaussian(site.prior):
            _warn(weight, site.prior, "its fan-in does not grow with the width")
        return Layer(name, variance * fan_in, bias, taps)

    def _bias(self, name: str, parameter: Tensor) -> float:
        if self._names[id(parameter)] not in self._sites:
            if bool((parameter == 0).all()):
                return 0.0
            raise ValueError(
                f"infinite.kernel: {name} is fixed at a value that is not zero, which differs between channels; give it a prior, "
                "set it to zero, or use bias=False"
            )
        site = self._site(name, parameter)
        _, variance = self._independent(name, site)
        if not _is_gaussian(site.prior):
            _warn(name, site.prior, "each unit has one bias, whatever the width")
        return variance

    def _site(self, name: str, parameter: Tensor) -> Site:
        site = self._sites.get(self._names[id(parameter)])
        if site is None:
            raise ValueError(
                f"infinite.kernel: {name} has no prior: it is frozen or Fixed; a network of infinite width needs "
                "independent random weights, so give it a prior in bp.attach"
            )
        if site.is_joint:
            raise ValueError(
                f"infinite.kernel: {name} shares the joint prior {site.prior!r}, expected independent weights; give each "
                "parameter a prior of its own"
            )
        for attribute, hyper in _hyperpriors(site.prior):
            if hyper.extent not in INDEPENDENT or hyper.shared_as or isinstance(site.prior, CorrelatedNormal):
                raise ValueError(
                    f"infinite.kernel: {name}: {attribute} has the prior {hyper!r}, which many weights share: the network of "
                    "infinite width is then a mixture of Gaussian processes, one for each value. Give a number, and learn it by "
                    "marginal likelihood (GPRegression.fit)"
                )
        return site

    def _independent(self, name: str, site: Site) -> tuple[Taps | None, float]:
        """The taps, if they differ, and the mean variance of a weight."""
        conditioned = site.condition(self._values)
        value = self._values[name] if name in self._values else torch.zeros(site.shape)
        if tuple(conditioned.log_prob(value).shape) != site.shape:
            raise ValueError(
                f"infinite.kernel: {name}: the density of {site.prior!r} is not elementwise, expected independent weights, or "
                "CorrelatedNormal on a convolution"
            )
        _check_centred(name, site.prior)
        variance = _moment(name, site.prior, "variance")
        spread = variance.expand(site.shape)
        taps = spread.reshape(-1, math.prod(site.shape[2:])) if len(site.shape) > 1 else spread.reshape(-1, 1)
        if not torch.allclose(taps, taps[:1].expand_as(taps), rtol=1e-12):
            raise ValueError(
                f"infinite.kernel: {name}: {site.prior!r} has variances that differ between channels or units, expected one "
                "variance (or one a tap): channels must be exchangeable for their number to grow"
            )
        mean = float(taps[0].mean())
        is_even = torch.allclose(taps[0], taps[0].mean(), rtol=1e-12)
        return (None if is_even else Taps(scales=taps[0].sqrt())), mean


def _hyperpriors(prior: Prior) -> Iterator[tuple[str, Prior]]:
    """The hyperpriors at every depth, by the names of their latents."""
    for attribute, hyper in prior.hyperpriors().items():
        yield attribute, hyper
        yield from ((f"{attribute}.{inner}", above) for inner, above in _hyperpriors(hyper))


def _correlated(name: str, site: Site) -> tuple[Taps, float]:
    prior = site.prior
    assert isinstance(prior, CorrelatedNormal)
    student = 1.0
    if isinstance(prior, CorrelatedStudentT) and not prior.matched:
        student = float(torch.as_tensor(student_moments(prior, prior.df)[1]).max())
        _check_finite(name, prior, student)
    lengthscale = torch.as_tensor(prior.lengthscale, dtype=torch.float64)
    scale = torch.as_tensor(prior.scale, dtype=torch.float64).expand(site.shape)
    filters = scale.reshape(-1, math.prod(site.shape[2:]))
    if lengthscale.numel() > 1 or not torch.allclose(filters, filters[:1].expand_as(filters), rtol=1e-12):
        raise ValueError(
            f"infinite.kernel: {name}: {prior!r} differs between filters, expected one covariance for all: channels must be "
            "exchangeable for their number to grow"
        )
    is_even = torch.allclose(filters[0], filters[0].mean(), rtol=1e-12)
    taps = Taps(prior.kernel, float(lengthscale), None if is_even else filters[0])
    covariance = prior.covariance(site.shape[2:])
    squares = filters[0].square() * covariance.diagonal() * student
    return taps, float(squares.mean())


def _moment(name: str, prior: Prior, which: str) -> Tensor:
    try:
        value = torch.as_tensor(getattr(prior, which)(), dtype=torch.float64)
    except NotImplementedError as missing:
        raise ValueError(
            f"infinite.kernel: {name}: {prior!r} has no {which} in closed form; define {which}() in your class"
        ) from missing
    if which == "variance":
        _check_finite(name, prior, float(value.max()))
    return value


def _check_finite(name: str, prior: Prior, variance: float) -> None:
    if not math.isfinite(variance):
        raise ValueError(
            f"infinite.kernel: {name}: {prior!r} has an infinite variance, so sums over many weights do not converge to a "
            "Gaussian process; use StudentT(df > 2), Laplace, Normal or another prior with a finite one"
        )


def _check_centred(name: str, prior: Prior) -> None:
    _moment(name, prior, "variance")
    if bool((_moment(name, prior, "mean") != 0).any()):
        raise ValueError(
            f"infinite.kernel: {name}: {prior!r} has a mean other than zero, and a sum over many such weights has no limit; "
            "centre the prior (loc=0)"
        )


def _is_gaussian(prior: Prior) -> bool:
    if isinstance(prior, Distribution):
        return isinstance(prior.distribution, torch.distributions.Normal)
    normal = isinstance(prior, Normal) or type(prior) is CorrelatedNormal
    return normal and not prior.hyperpriors()


def _warn(name: str, prior: Prior, reason: str) -> None:
    warnings.warn(
        f"infinite.kernel: {name}: {prior!r} is not Gaussian and {reason}, so the network of infinite width is not exactly the "
        "Gaussian process with this kernel. Its variance is used; Normal there is exact",
        ApproximateKernelWarning,
        stacklevel=4,
    )
