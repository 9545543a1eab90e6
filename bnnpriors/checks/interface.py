"""What a prior owes the rest of the library: shapes, dtypes, batches of chains, copies, and random numbers of its own."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import Tensor
from torch.func import grad, vmap

from .report import NotApplicable
from .subject import NAME, Latents, Subject

FLOAT32_TOLERANCE = 1e-3
SAME = 1e-9
"""Relative difference allowed where only rounding may differ."""


def check_shapes(subject: Subject) -> tuple[bool, str]:
    """`log_prob` returns the shape of w, or that shape with dimensions summed away; `sample(shape)` returns `shape`."""
    shape = subject.shape
    try:
        drawn = tuple(subject.draw(subject.generator())[NAME].shape)
    except NotApplicable as reason:
        words = str(reason)
    else:
        words = f"sample of {shape} gives {drawn}"
        if drawn != subject.site.latent_shape:
            return False, f"{words}, expected {subject.site.latent_shape}"
    prior, w = subject.conditioned(subject.points(1)[0])
    if prior.centred:
        found = tuple(prior.log_prob(w).shape)
        words = f"log_prob of {shape} gives {found}, {words}"
        if not _is_reduced(found, shape):
            return False, f"{words}; expected {shape}, or that with dimensions summed away"
    return True, words


def check_support(subject: Subject) -> tuple[bool, str]:
    """Every draw has a finite latent: it lies inside the support, and is neither NaN nor infinite."""
    latents = subject.draws
    for name, value in latents.items():
        share = float((~value.isfinite()).double().mean())
        if share:
            return (
                False,
                f"{share:.2%} of the drawn values of {name} are NaN, infinite or outside the support",
            )
    count = len(latents[NAME])
    return True, f"{count} draws are finite and inside"


def check_dtypes(subject: Subject) -> tuple[bool, str]:
    """The density follows the dtype and device of w, and float32 agrees with float64."""
    latents = subject.points(1)[0]
    exact = float(subject.site.evaluate(latents, {}))
    for dtype in (torch.float64, torch.float32):
        here = {name: value.to(dtype) for name, value in latents.items()}
        prior, w = subject.conditioned(here)
        density = prior.log_prob(w) if prior.centred else prior.standard().log_prob(here[NAME])
        if w.dtype != dtype or density.dtype != dtype:
            return False, f"{dtype}: value of {w.dtype} and log_prob of {density.dtype}, expected {dtype}"
    words, error = "float32 and float64", _relative(float(subject.site.evaluate(here, {})), exact)
    if torch.cuda.is_available():
        there = {name: value.cuda() for name, value in latents.items()}
        density = subject.site.evaluate(there, {})
        if density.device.type != "cuda":
            return False, f"w on CUDA: log_prob on {density.device}, expected CUDA"
        error = max(error, _relative(float(density), exact))
        subject.site.sample(torch.zeros((), device="cuda"), torch.Generator("cuda").manual_seed(0), {})
        words += " on CPU, float64 on CUDA"
    else:
        words += " on CPU; no CUDA device here"
    return (
        error <= FLOAT32_TOLERANCE,
        f"{words}: relative difference {error:.1g}, allowed {FLOAT32_TOLERANCE:g}",
    )


def check_chains(subject: Subject) -> tuple[bool, str]:
    """Densities and gradients of many chains in one `torch.func.vmap` are those of a loop."""
    points = subject.points(7)
    stacked = {name: torch.stack([point[name] for point in points]) for name in points[0]}

    def density(latents: Latents) -> Tensor:
        return subject.site.evaluate(latents, {})

    together = vmap(density)(stacked)
    singly = torch.stack([density(point) for point in points])
    error = float(((together - singly).abs() / (1 + singly.abs())).max())
    gradients = vmap(grad(density))(stacked)
    for name, value in gradients.items():
        one = torch.stack([grad(density)(point)[name] for point in points])
        error = max(error, float(((value - one).abs() / (1 + one.abs())).max()))
    return (
        error <= SAME,
        f"vmap over {len(points)} chains against a loop: largest difference {error:.1g}, allowed {SAME:g}",
    )


def check_copies(subject: Subject) -> tuple[bool, str]:
    """A pickled and a deep-copied prior have the same density."""
    point = subject.points(1)[0]
    exact = float(subject.site.evaluate(point, {}))
    size = len(pickle.dumps(subject.prior))
    for twin in (pickle.loads(pickle.dumps(subject.prior)), copy.deepcopy(subject.prior)):
        other = float(Subject(twin, subject.shape, subject.seed).site.evaluate(point, {}))
        if other != exact:
            return False, f"log density {exact:.6g}, of the copy {other:.6g}, expected equal numbers"
    return True, f"pickle of {size} bytes and deepcopy give the same density"


@torch.no_grad()
def check_state_dict(subject: Subject) -> tuple[bool, str]:
    """A second model that loads the first one's `state_dict` has its weights, hyperparameters and log prior."""
    twin = subject.attached(prior=copy.deepcopy(subject.prior))
    model = subject.attached()
    try:
        generator = subject.generator(5)
        model.set_latents_(subject.in_model(subject.draw(generator), generator))
    except NotApplicable:
        model.net.get_parameter(NAME).normal_(generator=subject.generator(5))
    values, log_prior = model.values()
    twin.load_state_dict(model.state_dict())
    others, other_log_prior = twin.values()
    error = max([float((others[n] - value).abs().max()) for n, value in values.items()], default=0.0)
    error = max(error, abs(float(other_log_prior - log_prior)))
    keys = len(model.state_dict())
    return (
        error == 0,
        f"{keys} entries saved and loaded: largest difference of values and log prior {error:.1g}",
    )


def check_seeds(subject: Subject) -> tuple[bool, str]:
    """One seed gives one draw, another seed another, and torch's global generator is not touched."""
    before = torch.get_rng_state()
    first, again, other = (subject.draw(subject.generator(k)) for k in (6, 6, 7))
    touched = not torch.equal(before, torch.get_rng_state())
    if touched:
        return False, "sample() with a generator moves torch's global one; draw from `generator` alone"
    if any(not torch.equal(first[name], again[name]) for name in first):
        return (
            False,
            "two draws from generators of the same seed differ; all random numbers must come from `generator`",
        )
    if torch.equal(first[NAME], other[NAME]):
        return False, "draws from generators of different seeds are equal; `generator` is not used"
    return True, "same seed, same draw; another seed, another draw; the global generator untouched"


def _is_reduced(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether dropping dimensions of `shape`, or keeping them with length 1, gives `found`."""
    if not found:
        return True
    if not shape:
        return False
    rest = _is_reduced(found, shape[:-1])
    return rest or (found[-1] in (1, shape[-1]) and _is_reduced(found[:-1], shape[:-1]))


def _relative(value: float, exact: float) -> float:
    return abs(value - exact) / (1 + abs(exact))
