"""Does the density integrate to one, do draws follow it, and does a sampler that knows the density alone return them?

The three share a false-alarm rate of `ALARM` for one prior: a third each, divided over the tests of a check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from ..posterior import Posterior, Target
from ..priors import Fixed, Improper
from ..priors.site import Site
from ..programs import Plan
from ..samplers import HMC
from ..streams import Streams
from .orbits import Orbit, geometric, grid, log_masses, orbits
from .report import NotApplicable
from .subject import NAME, NUM_DRAWS, Latents, Subject, own_log_density, size

ALARM = 1e-6
TOLERANCE = 1e-3
"""Largest error of an integral that is computed by quadrature alone."""
STANDARD_ERRORS = 5.2
"""Of a normal variable, exceeded with probability 2e-7 < ALARM / 3."""
EVALUATIONS = 80_000_000
"""Numbers that the test of the draws may push through the density, about."""
NUM_DIRECTIONS = 4000
NUM_CHAINS = 1000
NUM_TRAJECTORIES = 12


def check_normalisation(subject: Subject) -> tuple[bool, str]:
    """∫ p(w | hyperparameters) dw = 1 for the tensor and for each hyperparameter, in latent space, Jacobian included.

    One latent, or a density that is a product over its latents: quadrature, within `TOLERANCE`. Otherwise, with x = m + r L ω, ω
    uniform on the sphere of area S_d, Z = |L| S_d E_ω ∫ r^{d−1} p(m + r L ω) dr: quadrature along each ray and a mean over
    rays, within `STANDARD_ERRORS` of it.
    """
    if isinstance(subject.prior, (Improper, Fixed)):
        raise NotApplicable(f"{type(subject.prior).__name__} is no distribution: its density is 1 everywhere")
    try:
        latents = subject.draws
    except NotApplicable:
        points = subject.points(256)
        latents = {name: torch.stack([p[name] for p in points]) for name in points[0]}
    worst, words = 0.0, ""
    for site in subject.site.walk():
        own = latents[site.name].reshape(len(latents[site.name]), -1)
        at = {name: value[0] for name, value in latents.items()}

        def density(u: Tensor, _: slice, site: Site = site, at: Latents = at) -> Tensor:
            return own_log_density(site, at, u)

        if size(site) == 1 or _is_product(density, own):
            integral, allowed = _product_integral(density, own), TOLERANCE
        else:
            integral, error = _ray_integral(density, own, subject.generator(3))
            if error > 0.1:
                raise NotApplicable(
                    f"the integral over {size(site)} latents is known to ± {error:.2g} only; give a smaller shape"
                )
            allowed = max(TOLERANCE, STANDARD_ERRORS * error)
        off = abs(integral - 1) / allowed
        if off >= worst or math.isnan(off):
            worst, words = off, f"integral of {_named(site)} {integral:.6g}, expected 1 ± {allowed:.2g}"
        if not off <= 1:
            break
    return worst <= 1, words


def check_draws(subject: Subject) -> tuple[bool, str]:
    """Draws follow the density: the position of each on lines and rays through it is uniform (see `orbits`).

    A Kolmogorov–Smirnov test for each line and the rays of the tensor, given its hyperparameters, and of each hyperparameter.
    """
    from scipy.stats import kstest

    latents = subject.draws
    generator = subject.generator(4)
    found: dict[str, float] = {}
    used = NUM_DRAWS
    for site in subject.site.walk():
        own = latents[site.name].flatten(1) if size(site) > 1 else latents[site.name].reshape(-1, 1)
        for orbit in orbits(own, generator):
            uniform = _positions(site, latents, own, orbit)
            used = min(used, len(uniform))
            name = f"{_named(site)} along {orbit.name}"
            found[name] = float(kstest(uniform.numpy(), "uniform").pvalue)
    return _verdict(found, f"Kolmogorov–Smirnov tests of {used} draws")


def check_hmc(subject: Subject) -> tuple[bool, str]:
    """HMC on the prior alone, through `bp.Posterior(model)`, leaves the law of the prior's draws as it is.

    `NUM_CHAINS` chains start at draws; after `NUM_TRAJECTORIES` trajectories their latents, radii and log densities are compared
    with fresh draws by two-sample Kolmogorov–Smirnov tests.
    """
    from scipy.stats import ks_2samp

    draws = subject.in_model(subject.draws, subject.generator(5))
    posterior = Posterior(subject.attached())
    theta = posterior.layout.pack(draws, (len(draws[NAME]),))
    start, fresh = theta[:NUM_CHAINS], theta[NUM_CHAINS : 2 * NUM_CHAINS]
    target = posterior.target(len(start), Plan(len(start), 4096, False))
    streams = Streams(
        subject.seed, [(0, k) for k in range(len(start))], dtype=theta.dtype, device=theta.device
    )
    spread = fresh.quantile(torch.tensor([0.25, 0.75], dtype=theta.dtype), dim=0).diff(dim=0)[0] / 1.35
    metric = (spread**2).clamp(min=1e-12).expand_as(start)
    step = 1.0
    for _ in range(12):
        sampler = HMC(step_size=step, num_steps=5, jitter=0.2)
        trial = sampler.init(target, fresh, streams)._replace(inverse_mass=metric)
        if sampler.step(target, trial, streams)[1]["acceptance"].mean() > 0.7:
            break
        step /= 2
    state = sampler.init(target, start, streams)._replace(inverse_mass=metric)
    for _ in range(NUM_TRAJECTORIES):
        state, info = sampler.step(target, state, streams)
    acceptance = float(info["acceptance"].mean())
    if acceptance < 0.1:
        return (
            False,
            f"acceptance {acceptance:.2f} at step size {step:g}, expected 0.1 at least: the chains do not move",
        )
    before, after = _summaries(fresh, target), _summaries(state.theta, target)
    found = {
        name: float(ks_2samp(after[name].numpy(), before[name].numpy(), method="asymp").pvalue)
        for name in after
    }
    holds, words = _verdict(
        found, f"Kolmogorov–Smirnov tests of {len(start)} chains against {len(fresh)} draws"
    )
    return holds, f"{words}; acceptance {acceptance:.2f}"


def _positions(site: Site, latents: Latents, own: Tensor, orbit: Orbit) -> Float64[Tensor, " draws"]:
    position = orbit.position(own)
    relative = geometric(position, 4.0, 1e6)
    absolute = grid(orbit, position, 4.0)
    count = min(len(own), max(500, EVALUATIONS // (8 * 4 * (len(relative) + len(absolute)) * own.shape[1])))
    own, position = own[:count], position[:count]
    breaks = torch.cat([absolute - position[:, None], relative.expand(count, -1)], dim=1)
    others = {name: value[:count] for name, value in latents.items()}

    def density(u: Tensor, part: slice) -> Tensor:
        here = {name: value[part] for name, value in others.items()}
        repeats = len(u) // len(next(iter(here.values())))
        spread = {name: value.repeat_interleave(repeats, 0) for name, value in here.items()}
        return own_log_density(site, spread, u)

    below, total = log_masses(density, orbit, own, breaks, 4)
    return (below - total).exp()


def _is_product(density: Callable[[Tensor, slice], Tensor], own: Tensor) -> bool:
    """Whether log p is a sum over latents, seen at a few draws: f(w) − f(w⁰) = Σ_k [f(w⁰ with w_k) − f(w⁰)]."""
    first, everything = own[:1], slice(None)
    base = density(first, everything)
    for row in own[1:4]:
        singly = torch.where(torch.eye(own.shape[1], dtype=torch.bool), row, first)
        change = (density(singly, everything) - base).sum()
        whole = density(row[None], everything) - base
        if not torch.allclose(change, whole[0], rtol=1e-8, atol=1e-8):
            return False
    return True


def _product_integral(density: Callable[[Tensor, slice], Tensor], own: Tensor) -> float:
    """exp(Σ_k log ∫ p(w⁰ with w_k) dw_k − (d − 1) log p(w⁰))."""
    first = own[:1]
    dim = own.shape[1]
    total = -(dim - 1) * density(first, slice(None))
    for direction in torch.eye(dim, dtype=own.dtype):
        orbit = Orbit("", direction)
        position = orbit.position(own)
        breaks = grid(orbit, position, 2.0) - position[0]
        total = total + log_masses(density, orbit, first, breaks[None], 10)[1]
    return float(total.exp())


def _ray_integral(
    density: Callable[[Tensor, slice], Tensor], own: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    """The integral by rays and its standard error."""
    dim = own.shape[1]
    centre = own.median(0).values
    factor = torch.linalg.cholesky(_shape_matrix(own - centre))
    size = torch.linalg.solve_triangular(factor, (own - centre).T, upper=False).norm(dim=0)
    normal = torch.randn(NUM_DIRECTIONS, dim, generator=generator, dtype=own.dtype)
    points = centre + size.median() * torch.nn.functional.normalize(normal, dim=1) @ factor.T
    orbit = Orbit("", centre, is_radial=True)
    breaks = grid(orbit, (size / size.median()).log(), 2.0).expand(NUM_DIRECTIONS, -1)
    _, masses = log_masses(density, orbit, points, breaks, 4)
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)
    constant = log_area + dim * size.median().log() + factor.diagonal().log().sum()
    each = (masses + constant).exp()
    return float(each.mean()), float(each.std() / math.sqrt(NUM_DIRECTIONS))


def _shape_matrix(x: Float64[Tensor, "draws dim"]) -> Float64[Tensor, "dim dim"]:
    """Tyler's estimate of the shape of a cloud (1987, Annals of Statistics 15), which heavy tails do not disturb."""
    dim = x.shape[1]
    shape = torch.eye(dim, dtype=x.dtype)
    x = x[x.norm(dim=1) > 0]
    for _ in range(20):
        distance = (x * torch.linalg.solve(shape, x.T).T).sum(1)
        shape = (x / distance[:, None]).T @ x
        shape = shape / shape.diagonal().mean() + 1e-9 * torch.eye(dim, dtype=x.dtype)
    return shape


def _summaries(theta: Float64[Tensor, "chains dim"], target: Target) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    picked = torch.randperm(theta.shape[1], generator=generator)[:5].tolist()
    columns = {f"latent {k}": theta[:, k] for k in sorted({*picked, theta.shape[1] - 1})}
    potential = target.potential(theta)
    return columns | {"the radius": theta.norm(dim=1), "the log density": potential}


def _verdict(found: dict[str, float], what: str) -> tuple[bool, str]:
    level = ALARM / 3 / len(found)
    name = min(found, key=found.__getitem__)
    sign = ">" if found[name] > level else "≤"
    return (
        found[name] > level,
        f"{what}: smallest of {len(found)} p-values {found[name]:.2g} {sign} {level:.1g} ({name})",
    )


def _named(site: Site) -> str:
    return "the density" if "." not in site.name else site.name.partition(".")[2]
