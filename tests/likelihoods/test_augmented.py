"""Augmented likelihoods on outputs: their three forms, the inequalities between them, predictions, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors import transforms as T
from bnnpriors.likelihoods import Augmented, Categorical, Gaussian

AVERAGES = ("probs", "logits", "losses")
BASES = {"classes": Categorical(), "regression": Gaussian(0.7)}


def _drawn(kind: str, seed: int, batch: int, copies: int, width: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = spread * torch.randn(batch, copies, width, generator=generator, dtype=torch.float64)
    if kind == "classes":
        return outputs, torch.randint(width, (batch,), generator=generator)
    return outputs, torch.randn(batch, width, generator=generator, dtype=torch.float64)


def _forms(kind: str, outputs: Tensor, y: Tensor) -> list[Tensor]:
    transform = T.HorizontalFlip()
    copies = outputs.shape[1]
    return [
        Augmented(BASES[kind], transform, copies, average=average).combine(outputs, y) for average in AVERAGES
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(BASES)),
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(2, 5),
    st.floats(0.01, 100.0),
)
def test_inequalities(kind: str, seed: int, batch: int, copies: int, width: int, spread: float) -> None:
    """losses ≤ probs and losses ≤ logits for every set of draws; all three are equal for K = 1 and for identical copies."""
    outputs, y = _drawn(kind, seed, batch, copies, width, spread)
    probs, logits, losses = _forms(kind, outputs, y)
    slack = 1e-9 * (1 + losses.abs())
    assert bool((losses <= probs + slack).all())
    assert bool((losses <= logits + slack).all())
    same = outputs[:, :1].expand(-1, copies, -1)
    for one in (outputs[:, :1], same):
        for form in _forms(kind, one, y):
            torch.testing.assert_close(form, BASES[kind].log_prob(outputs[:, 0], y))


@pytest.mark.parametrize("kind", sorted(BASES))
def test_logits_and_probs_are_not_ordered(kind: str) -> None:
    probs, logits, _ = _forms(kind, *_drawn(kind, 0, 500, 3, 3, 2.0))
    assert bool((probs > logits + 0.01).any())
    assert bool((logits > probs + 0.01).any())


def test_formulas_against_scipy() -> None:
    outputs, y = _drawn("regression", 0, 6, 4, 2, 1.0)
    each = scipy.stats.norm(outputs.numpy(), 0.7).logpdf(y[:, None].numpy()).sum(2)
    probs, logits, losses = _forms("regression", outputs, y)
    torch.testing.assert_close(probs, torch.as_tensor(scipy.special.logsumexp(each, 1) - math.log(4)))
    torch.testing.assert_close(losses, torch.as_tensor(each.mean(1)))
    middle = scipy.stats.norm(outputs.numpy().mean(1), 0.7).logpdf(y.numpy()).sum(1)
    torch.testing.assert_close(logits, torch.as_tensor(middle))
    outputs, y = _drawn("classes", 1, 6, 4, 3, 3.0)
    softmax = torch.softmax(outputs, -1)
    rows = torch.arange(6)
    probs, logits, losses = _forms("classes", outputs, y)
    torch.testing.assert_close(probs, softmax.mean(1)[rows, y].log())
    torch.testing.assert_close(logits, torch.softmax(outputs.mean(1), -1)[rows, y].log())
    torch.testing.assert_close(losses, softmax.log().mean(1)[rows, y])


def test_a_miss_of_many_nats_keeps_its_gradient() -> None:
    """Through clamped probabilities it would read −15.94 with zero gradient."""
    outputs = torch.tensor([[[30.0, 0.0], [31.0, 0.0]]], requires_grad=True)
    value = Augmented(Categorical(), T.HorizontalFlip(), 2).combine(outputs, torch.tensor([1]))
    value.sum().backward()
    expected = torch.logsumexp(torch.tensor([-30.0, -31.0]), 0).item() - math.log(2)
    assert value.item() == pytest.approx(expected)
    assert outputs.grad is not None
    assert outputs.grad[0, :, 1].sum().item() == pytest.approx(1.0)


def test_predictions_of_losses_are_the_normalised_losses() -> None:
    """exp of the mean log likelihood over its sum over y: softmax(f̄) for classes, N(f̄, σ²) for Gaussian noise."""
    outputs, _ = _drawn("classes", 0, 5, 4, 3, 2.0)
    aug = Augmented(Categorical(), T.HorizontalFlip(), 4, average="losses")
    each = torch.stack([aug.combine(outputs, torch.full((5,), label)) for label in range(3)], 1)
    torch.testing.assert_close(aug.at_test().log_probs(outputs), torch.log_softmax(each, 1))
    assert float(each.exp().sum(1).max()) < 1.0

    outputs, _ = _drawn("regression", 0, 1, 4, 1, 2.0)
    noise = Augmented(Gaussian(0.7), T.HorizontalFlip(), 4, average="losses")
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)[:, None]
    log = noise.combine(outputs.expand(6001, -1, -1), grid)
    total = scipy.integrate.trapezoid(log.exp().numpy(), grid[:, 0].numpy())
    test = noise.at_test()
    torch.testing.assert_close(test.log_prob(outputs.expand(6001, -1, -1), grid), log - math.log(total))


@pytest.mark.parametrize("average", AVERAGES)
def test_predictive_moments_and_cdf_of_regression(average: str) -> None:
    """Against integrals of the predictive density."""
    outputs, _ = _drawn("regression", 3, 1, 5, 1, 1.5)
    test = Augmented(Gaussian(0.4), T.HorizontalFlip(), 5, average=average).at_test()
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    density = test.log_prob(outputs.expand(4801, -1, -1), grid[:, None]).exp()
    step = float(grid[1] - grid[0])
    mean = float((density * grid).sum() * step)
    assert float(density.sum() * step) == pytest.approx(1.0)
    assert test.mean(outputs).item() == pytest.approx(mean)
    assert test.variance(outputs).item() == pytest.approx(float((density * (grid - mean) ** 2).sum() * step))
    below = float(density[grid <= 0.3].sum() * step) - 0.5 * step * float(density[grid <= 0.3][-1])
    at = torch.tensor([[float(grid[grid <= 0.3][-1])]], dtype=torch.float64)
    assert test.cdf(outputs, at).item() == pytest.approx(below, abs=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", sorted(BASES))
def test_reduced_outputs_predict_the_same(kind: str, average: str) -> None:
    outputs, y = _drawn(kind, 0, 12, 4, 3, 2.0)
    test = Augmented(BASES[kind], T.HorizontalFlip(), 4, average=average).at_test()
    few = test.reduced(outputs.unflatten(0, (3, 4)))
    assert few.shape[2] == (4 if (kind, average) == ("regression", "probs") else 1)
    torch.testing.assert_close(test.log_prob(few.flatten(0, 1), y), test.log_prob(outputs, y))


def test_latents_of_the_base_are_those_of_the_whole() -> None:
    aug = Augmented(Gaussian(P.HalfNormal(P.Gamma(2.0, 1.0))), T.HorizontalFlip(), 3).double()
    assert aug.layout.names == ("scale", "scale.scale")
    latents = {"scale": torch.tensor(-0.5).double(), "scale.scale": torch.tensor(0.2).double()}
    values, density = aug.values(latents)
    assert values["scale"].item() == pytest.approx(math.exp(-0.5))
    assert density.item() == pytest.approx(aug.base.values(latents)[1].item())
    outputs, y = _drawn("regression", 0, 5, 3, 2, 1.0)
    fixed = Augmented(Gaussian(math.exp(-0.5)), T.HorizontalFlip(), 3)
    for likelihood, expected in ((aug, fixed), (aug.at_test(), fixed.at_test())):
        swapped = torch.func.functional_call(likelihood, likelihood.swaps(latents), (outputs, y))
        torch.testing.assert_close(swapped, expected.log_prob(outputs, y))
    torch.testing.assert_close(
        aug.at({"scale": math.exp(-0.5)}).log_prob(outputs, y), fixed.log_prob(outputs, y)
    )
    assert aug.layout.names == ("scale", "scale.scale")
    again = pickle.loads(pickle.dumps(copy.deepcopy(aug)))
    torch.testing.assert_close(again.log_prob(outputs, y), aug.log_prob(outputs, y))


class Huber:
    """A likelihood of the user's own: `log_prob` and nothing else."""

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return -nn.functional.huber_loss(outputs, y, reduction="none").sum(1)


def test_any_object_with_log_prob_is_a_base() -> None:
    outputs, y = _drawn("regression", 0, 5, 3, 2, 1.0)
    each = torch.stack([Huber().log_prob(outputs[:, k], y) for k in range(3)])
    aug = Augmented(Huber(), T.HorizontalFlip(), 3)
    torch.testing.assert_close(aug.combine(outputs, y), torch.logsumexp(each, 0) - math.log(3))
    torch.testing.assert_close(aug.at_test().log_prob(outputs, y), aug.combine(outputs, y))


def test_copies_of_full_finite_shared_and_flat_inputs() -> None:
    x = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    make = {"image_shape": (1, 3, 4), "num_test_samples": 5}
    aug = Augmented(Categorical(), T.Translation(1.0), 3, **make)
    noise = aug.noise(x, torch.Generator().manual_seed(1))
    assert noise is not None
    assert noise.shape == (4, 3, 2)
    assert aug.noise(x, torch.Generator(), test=True).shape == (4, 5, 2)
    copies = aug.copies(x, noise)
    expected = aug.transform.apply(x.view(4, 1, 3, 4), noise[:, 1]).view(4, 12)
    torch.testing.assert_close(copies[:, 1], expected)
    together = Augmented(Categorical(), T.Translation(1.0), 3, shared=True, **make)
    shared = together.noise(x, torch.Generator().manual_seed(1))
    assert torch.equal(shared, shared[:1].expand(4, -1, -1))
    finite = Augmented(Categorical(), T.FlipGroup(), orbit="finite", image_shape=(1, 3, 4))
    assert finite.noise(x, torch.Generator()) is None
    assert torch.equal(finite.copies(x, None)[:, 1], x.view(4, 3, 4).flip(-1).view(4, 12))
    assert (finite.num_samples, finite.num_test_samples) == (2, 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Augmented(3, T.Rotation(3.0), 8), TypeError, "base 3 given, expected a likelihood"),
        (
            lambda: Augmented(Augmented(Categorical(), T.Rotation(3.0), 2), T.Rotation(3.0), 2),
            TypeError,
            "base",
        ),
        (lambda: Augmented(Categorical(), "flip", 8), TypeError, "'flip' given as transform"),
        (lambda: Augmented(Categorical(), T.Rotation(3.0)), ValueError, "a full orbit needs num_samples"),
        (lambda: Augmented(Categorical(), T.Rotation(3.0), 0), ValueError, "num_samples 0 given"),
        (
            lambda: Augmented(Categorical(), T.Rotation(3.0), 2, num_test_samples=1.5),
            ValueError,
            "num_test_samples 1.5",
        ),
        (
            lambda: Augmented(Categorical(), T.Rotation(3.0), 2, average="mean"),
            ValueError,
            "average 'mean' given",
        ),
        (
            lambda: Augmented(Categorical(), T.Rotation(3.0), 2, orbit="half"),
            ValueError,
            "orbit 'half' given",
        ),
        (lambda: Augmented(Categorical(), T.Rotation(3.0), 2, orbit="finite"), ValueError, "Frozen"),
        (
            lambda: Augmented(Categorical(), T.FlipGroup(), 3, orbit="finite"),
            ValueError,
            "3 given for a finite orbit of 2",
        ),
    ],
)
@pytest.mark.usefixtures("as_a_user_meets_it")
def test_refusals(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()


class Cut(T.Transform):
    """Two of four rows."""

    def numbers(self, shape: tuple[int, ...]) -> int:
        return 1

    def apply(self, images: Tensor, noise: Tensor) -> Tensor:
        return images[:, :, :2]


def test_inputs_that_do_not_fit_are_refused_before_any_work() -> None:
    x, y = torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.long)
    model = bp.attach(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), P.Normal(0.0, 1.0))

    def posterior(transform: T.Transform, inputs: Tensor = x, **options: object) -> bp.Posterior:
        return bp.Posterior(model, Augmented(Categorical(), transform, 2, **options), inputs, y)

    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        posterior(T.Rotation(3.0), x.flatten(1))
    with pytest.raises(ValueError, match="expected the same number of elements"):
        posterior(T.Rotation(3.0), x.flatten(1), image_shape=(1, 4, 5))
    with pytest.raises(ValueError, match="a transform keeps it"):
        posterior(Cut())
    with pytest.raises(ValueError, match="labels from 3 to 3"):
        bp.Posterior(model, Augmented(Categorical(), T.HorizontalFlip(), 2), x, y + 3)
