"""The horseshoes: their hierarchy, their densities, their draws and their shrinkage."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.priors.site import Site

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
SHAPE = (3, 4)


def _latents(site: Site) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        p.name: torch.randn(p.latent_shape, generator=generator, dtype=torch.float64) for p in site.walk()
    }


@pytest.mark.parametrize(("groups", "grid"), [("weight", (3, 4)), ("output", (3, 1)), ("input", (1, 4))])
def test_the_horseshoe_is_tau_lambda_z(groups: str, grid: tuple[int, ...]) -> None:
    site = Site("w", P.Horseshoe(0.1, groups=groups), SHAPE)
    u = _latents(site)
    assert {name: tuple(value.shape) for name, value in u.items()} == {
        "w": SHAPE,
        "w.scale": grid,
        "w.scale.scale": (),
    }
    values: dict[str, Tensor] = {}
    density = site.evaluate(u, values).item()
    lam, ratio = u["w.scale"].exp(), u["w.scale.scale"].exp()
    torch.testing.assert_close(values["w"], 0.1 * ratio * lam * u["w"])
    expected = scipy.stats.norm.logpdf(u["w"].numpy()).sum()
    expected += scipy.stats.halfcauchy.logpdf(lam.numpy()).sum() + u["w.scale"].sum().item()
    expected += scipy.stats.halfcauchy.logpdf(ratio.item()) + u["w.scale.scale"].item()
    assert density == pytest.approx(expected, abs=1e-9)


def test_the_regularised_horseshoe_is_the_formula_of_the_paper() -> None:
    prior = P.RegularizedHorseshoe(0.1, slab_scale=1.5, slab_df=3.0)
    site = Site("w", prior, SHAPE)
    u = _latents(site)
    values: dict[str, Tensor] = {}
    density = site.evaluate(u, values).item()
    tau, lam = 0.1 * u["w.local.scale"].exp(), u["w.local"].exp()
    c2 = 3.0 * 1.5**2 / 2 * u["w.slab"].exp()
    local = torch.sqrt(c2 * lam**2 / (c2 + tau**2 * lam**2))
    torch.testing.assert_close(values["w"], tau * local * u["w"])
    torch.testing.assert_close(values["w.slab"], c2)
    expected = scipy.stats.norm.logpdf(u["w"].numpy()).sum()
    expected += scipy.stats.halfcauchy.logpdf(lam.numpy()).sum() + u["w.local"].sum().item()
    expected += scipy.stats.halfcauchy.logpdf(u["w.local.scale"].exp().item()) + u["w.local.scale"].item()
    expected += scipy.stats.invgamma(1.5).logpdf(u["w.slab"].exp().item()) + u["w.slab"].item()
    assert density == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("make", [P.Horseshoe, P.RegularizedHorseshoe])
def test_both_forms_have_one_law(make: type[P.Normal]) -> None:
    """The density of the centred latents is that of the non-centred ones over the Jacobian of the map between them."""
    inner, outer = (Site("w", make(0.3, centred=centred), SHAPE) for centred in (False, True))
    u = _latents(inner)
    names = list(u)

    def centred_latents(*given: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        inner.evaluate(dict(zip(names, given, strict=True)), values)
        return torch.cat([(values[n] if n == "w" else values[n].log()).reshape(-1) for n in names])

    blocks = torch.autograd.functional.jacobian(centred_latents, tuple(u.values()))
    jacobian = torch.cat([block.reshape(block.shape[0], -1) for block in blocks], dim=1)
    flat = centred_latents(*u.values()).split([value.numel() for value in u.values()])
    moved = {n: part.reshape(u[n].shape) for n, part in zip(names, flat, strict=True)}
    expected = outer.evaluate(moved, {}) + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(inner.evaluate(u, {}), expected)


def test_huge_local_scales_meet_the_slab_and_tiny_ones_vanish() -> None:
    prior = P.base.substitute(
        P.RegularizedHorseshoe(),
        {"local": torch.tensor([1e-30, 1e30], requires_grad=True), "slab": torch.tensor(4.0)},
    )
    w = prior.from_standard(torch.ones(2))
    torch.testing.assert_close(w, torch.tensor([1e-30, 2.0]))
    w.sum().backward()
    assert bool(prior.local.grad.isfinite().all())


def test_draws_come_from_the_horseshoe() -> None:
    site = Site("w", P.Horseshoe(0.5), (300, 100))
    latents: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    site.sample(torch.zeros((), dtype=torch.float64), torch.Generator().manual_seed(0), latents)
    site.evaluate(latents, values)
    lam = (values["w.scale"] / values["w.scale.scale"]).flatten().numpy()
    z = (values["w"] / values["w.scale"]).flatten().numpy()
    assert scipy.stats.kstest(lam, scipy.stats.halfcauchy.cdf).pvalue > ALARM
    assert scipy.stats.kstest(z, scipy.stats.norm.cdf).pvalue > ALARM


@pytest.mark.parametrize("slab_df", [4.0, 7.0])
def test_the_variance_is_that_of_draws_of_the_hyperparameters(slab_df: float) -> None:
    """Mean of 400,000 values of the conditional variance c²τ/(τ + c), within 6 standard errors (alarm below 1e-8)."""
    prior = P.RegularizedHorseshoe(0.4, slab_scale=1.5, slab_df=slab_df)
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64}
    tau = P.HalfCauchy(0.4).sample((400_000,), **options)
    slab = P.InverseGamma(slab_df / 2, slab_df / 2 * 1.5**2).sample((400_000,), **options)
    each = slab * tau / (tau + slab.sqrt())
    assert abs(prior.variance() - each.mean().item()) < 6 * each.std().item() / math.sqrt(len(each))


def test_the_conditional_variance_is_the_integral_over_lambda() -> None:
    """E[c²λ²τ²/(c² + λ²τ²)] over a half-Cauchy λ, on 200,000 quantiles."""
    tau, c = 0.7, 1.9
    lam = scipy.stats.halfcauchy.ppf((torch.arange(200_000).double().numpy() + 0.5) / 200_000)
    mean = (c**2 * lam**2 * tau**2 / (c**2 + lam**2 * tau**2)).mean()
    assert mean == pytest.approx(c**2 * tau / (tau + c), rel=1e-4)


def test_infinite_variances_and_wrong_arguments() -> None:
    assert P.Horseshoe().variance() == math.inf
    assert P.RegularizedHorseshoe(slab_df=2.0).variance() == math.inf
    with pytest.raises(ValueError, match=r"slab_df -1\.0 given, expected a positive finite number"):
        P.RegularizedHorseshoe(slab_df=-1.0)
    with pytest.raises(ValueError, match="per: 'layer' given"):
        P.Horseshoe(groups="layer")
    with pytest.raises(NotImplementedError, match="under this prior on τ"):
        P.RegularizedHorseshoe(P.Gamma()).variance()


def test_a_global_scale_shared_by_layers() -> None:
    tau = P.HalfCauchy(0.1, centred=False).shared("tau")
    model = bp.attach(
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        {"*.weight": P.Horseshoe(tau), "*": P.Normal()},
    )
    assert [name for name in model.latents() if "scale" in name or "shared" in name] == [
        "0.weight.scale", "shared.tau", "2.weight.scale"
    ]  # fmt: skip
    model.sample_prior_(torch.Generator().manual_seed(0))
    assert math.isfinite(model.log_prior().item())
