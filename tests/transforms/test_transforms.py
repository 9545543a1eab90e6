"""Random transforms against direct constructions, their gradients, vmap and generators, and the input that they refuse."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torch.func import vmap

from bnnpriors import transforms as T

EVERY = [
    T.CropWithPadding(2),
    T.CropWithPadding(1, fill=-0.4),
    T.HorizontalFlip(),
    T.VerticalFlip(0.3),
    T.Rotation(30.0),
    T.Translation(1.5, fill=0.2),
    T.Scale(0.8, 1.3),
    T.Shear(20.0),
    T.Affine([T.Rotation(30.0), T.Scale(0.8, 1.3), T.Translation(2.0)]),
    T.AdditiveNoise(0.1),
    T.Compose(
        [T.Rotation(10.0), T.Shear(5.0), T.CropWithPadding(1), T.HorizontalFlip(), T.AdditiveNoise(0.1)]
    ),
    T.FlipGroup(horizontal=True, vertical=True),
    T.Frozen(T.Compose([T.Rotation(20.0), T.AdditiveNoise(0.1)]), 3),
]


def _images(count: int = 5, dtype: torch.dtype = torch.float64, size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.randn(count, 2, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("transform", EVERY, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_generator_and_gradient(transform: T.Transform, dtype: torch.dtype) -> None:
    images = _images(dtype=dtype)
    before, state = images.clone(), torch.random.get_rng_state()
    moved = transform(images, _generator())
    assert moved.shape == images.shape
    assert moved.dtype == dtype
    assert torch.equal(moved, transform(images, _generator()))
    assert not torch.equal(moved, transform(images, _generator(2)))
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    if dtype == torch.float64:
        noise = transform.noise(images[:2], 1, _generator())[:, 0]
        assert torch.autograd.gradcheck(
            lambda x: transform.apply(x, noise), images[:2].clone().requires_grad_()
        )


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_each_image_has_its_own_numbers_and_vmap_over_chains_agrees(transform: T.Transform) -> None:
    images = _images(4)
    noise = transform.noise(images, 3, _generator())
    assert noise.shape[:2] == (4, 3)
    whole = transform.apply(images.repeat_interleave(3, 0), noise.flatten(0, 1)).unflatten(0, (4, 3))
    for image in range(4):
        alone = transform.apply(images[image].expand(3, -1, -1, -1), noise[image])
        torch.testing.assert_close(whole[image], alone)
    chains = torch.stack([images, images + 1])
    numbers = torch.stack([noise[:, 0], noise[:, 1]])
    together = vmap(transform.apply)(chains, numbers)
    for chain in range(2):
        torch.testing.assert_close(together[chain], transform.apply(chains[chain], numbers[chain]))


def _at(transform: T.Transform, images: Tensor, *numbers: float) -> Tensor:
    return transform.apply(images, torch.tensor([numbers], dtype=images.dtype).expand(len(images), -1))


def test_rotations_turn_anticlockwise_and_about_the_centre() -> None:
    images = _images()
    torch.testing.assert_close(_at(T.Rotation(90.0), images, 1.0), images.rot90(1, (-2, -1)))
    torch.testing.assert_close(_at(T.Rotation(180.0), images, 0.0), images.rot90(2, (-2, -1)))
    torch.testing.assert_close(_at(T.Rotation(77.0), images, 0.5), images)


@pytest.mark.parametrize("size", [(9, 9), (8, 12)])
def test_interpolation_is_scipys(size: tuple[int, int]) -> None:
    """Positions in pixels, not in the normalised coordinates of `affine_grid`: a rectangle turns as a square does."""
    images = _images(1, size=size)
    turn, stretch, slope = 0.3, 1.2, math.tan(math.radians(10.0))
    transform = T.Affine([T.Rotation(90.0, fill=0.5), T.Scale(0.6, 2.4, fill=0.5), T.Shear(10.0, fill=0.5)])
    moved = _at(transform, images, 0.5 + turn / math.pi, 0.5, 1.0)
    cos, sin = math.cos(turn), math.sin(turn)
    xy = torch.tensor([[cos, -sin], [sin, cos]]) / stretch @ torch.tensor([[1.0, slope], [0.0, 1.0]])
    matrix = xy.flip(0, 1).double().numpy()  # scipy counts rows first
    centre = (torch.tensor(size).double().numpy() - 1) / 2
    for channel in range(2):
        expected = scipy.ndimage.affine_transform(
            images[0, channel].numpy() - 0.5, matrix, centre - matrix @ centre, order=1, mode="grid-constant"
        )
        torch.testing.assert_close(moved[0, channel], torch.as_tensor(expected) + 0.5, rtol=0, atol=1e-6)


def test_translation_scale_and_shear_at_their_ends() -> None:
    images = _images()
    right = _at(T.Translation(2.0, fill=-1.0), images, 0.0, 0.5)
    torch.testing.assert_close(right[..., 2:], images[..., :-2])
    torch.testing.assert_close(right[..., :2], torch.full_like(right[..., :2], -1.0))
    edge = _at(T.Translation(1.0), images, 0.5, 1.0)
    torch.testing.assert_close(edge[..., -1, :], images[..., -1, :])
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 1, 8, 8) - 3.5
    torch.testing.assert_close(_at(T.Scale(0.5, 2.0), ramp, 1.0)[..., 2:6], ramp[..., 2:6] / 2)
    down = ramp.mT
    sheared = _at(T.Shear(45.0 - 1e-9), ramp, 1.0)[..., 3:5, 3:5]
    torch.testing.assert_close(sheared, (ramp + down)[..., 3:5, 3:5])


def test_a_composition_of_affine_transforms_interpolates_once() -> None:
    composed = T.Compose([T.Rotation(30.0), T.Translation(2.0), T.Scale(0.9, 1.1), T.HorizontalFlip()])
    assert [type(part) for part in composed.transforms] == [T.Affine, T.HorizontalFlip]
    there_and_back = T.Affine([T.Rotation(90.0), T.Rotation(90.0)])
    images = _images()
    torch.testing.assert_close(_at(there_and_back, images, 0.9, 0.1), images)
    order = T.Affine([T.Rotation(90.0, fill=0.0), T.Translation(2.0, fill=0.0)])
    expected = _at(T.Translation(2.0, fill=0.0), images.rot90(1, (-2, -1)), 0.0, 0.5)
    torch.testing.assert_close(_at(order, images, 1.0, 0.0, 0.5), expected)


def test_crops_are_windows_of_the_padded_image() -> None:
    """All (2p + 1)² windows, each as often as the others: χ² of 25 classes below its 1 − 10⁻⁷ quantile."""
    image = torch.arange(1.0, 65.0, dtype=torch.float64).view(1, 1, 8, 8)
    padded = torch.nn.functional.pad(image, [2] * 4, value=-7.0)
    windows = torch.stack([padded[0, :, i : i + 8, j : j + 8] for i in range(5) for j in range(5)])
    crops = T.CropWithPadding(2, fill=-7.0)(image.expand(5000, -1, -1, -1), _generator())
    hits = (crops[:, None] == windows[None]).flatten(2).all(2)
    assert bool((hits.sum(1) == 1).all())
    counts = hits.sum(0).double()
    assert float(((counts - 200) ** 2 / 200).sum()) < scipy.stats.chi2.isf(1e-7, 24)
    replicated = torch.nn.functional.pad(image, [2] * 4, mode="replicate")
    assert torch.equal(_at(T.CropWithPadding(2), image, 0.0, 0.99), replicated[..., :8, 4:])


def test_noise_is_normal_and_flips_have_their_probability() -> None:
    """KS test and binomial tails at 10⁻⁷."""
    images = torch.zeros(400, 1, 8, 8)
    noise = T.AdditiveNoise(0.5)(images, _generator()) / 0.5
    assert scipy.stats.kstest(noise.double().flatten().numpy(), "norm").pvalue > 1e-7
    extremes = T.AdditiveNoise(1.0).apply(images[:2], torch.tensor([[0.0], [1 - 2**-24]]).expand(2, 64))
    assert bool(extremes.isfinite().all())
    ramp = torch.arange(8.0).expand(4000, 1, 8, 8)
    flipped = (T.HorizontalFlip(0.3)(ramp, _generator())[:, 0, 0, 0] == 7).sum()
    assert scipy.stats.binomtest(int(flipped), 4000, 0.3).pvalue > 1e-7


def test_a_users_function_and_compositions_with_it() -> None:
    def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.randn(len(images), 1, 1, 1, generator=generator, dtype=images.dtype)

    images = _images()
    custom = T.as_transform(jitter)
    copies = custom.noise(images, 3, _generator())
    assert copies.shape == (5, 3, 128)
    expected = jitter(images.repeat_interleave(3, 0), _generator())
    torch.testing.assert_close(copies.view(15, 2, 8, 8), expected)
    both = T.Compose([T.FlipGroup(), jitter])
    moved = both(images, _generator())
    assert moved.shape == images.shape
    assert torch.equal(moved, both(images, _generator()))
    with pytest.raises(ValueError, match=r"lambda.*returned \(5, 2, 8, 7\) for images \(5, 2, 8, 8\)"):
        T.Custom(lambda images, generator: images[..., 1:])(images, _generator())
    with pytest.raises(ValueError, match="returned NaN"):
        T.Custom(lambda images, generator: images / 0 * 0)(images, _generator())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: T.CropWithPadding(0), ValueError, "padding 0 given, expected an integer from 1"),
        (
            lambda: T.CropWithPadding(1, fill="zero"),
            ValueError,
            "fill 'zero' given, expected a finite number or 'edge'",
        ),
        (lambda: T.Rotation(-3.0), ValueError, "degrees -3.0 given"),
        (lambda: T.Rotation(3.0, fill=math.nan), ValueError, "fill nan"),
        (lambda: T.Translation(0.0), ValueError, "pixels 0.0 given"),
        (lambda: T.Scale(1.2, 0.8), ValueError, "low 1.2 and high 0.8 given"),
        (lambda: T.Shear(90.0), ValueError, "degrees 90.0 given"),
        (lambda: T.HorizontalFlip(0.0), ValueError, "probability 0.0 given"),
        (lambda: T.AdditiveNoise(-1.0), ValueError, "scale -1.0 given"),
        (lambda: T.Affine([]), TypeError, r"\[\] given, expected affine"),
        (
            lambda: T.Affine([T.Rotation(1.0), T.Scale(0.5, 2.0, fill=0.0)]),
            ValueError,
            "expected one for all",
        ),
        (lambda: T.Compose([]), TypeError, "at least one"),
        (lambda: T.Compose([3]), TypeError, "3 given as transform, expected one of bp.transforms"),
        (lambda: T.Frozen(T.FlipGroup(), 3), TypeError, "is an orbit already"),
        (lambda: T.Frozen(T.Rotation(3.0), 0), ValueError, "num_samples 0 given"),
        (lambda: T.Listed([]), TypeError, "at least one"),
        (lambda: T.FlipGroup(horizontal=False), ValueError, "one flip at least"),
        (lambda: T.CyclicShifts((8, 8), 3), ValueError, "lengths that step divides"),
        (lambda: T.Product([]), TypeError, "at least one"),
        (lambda: T.Rotation(3.0)(torch.zeros(2, 64), _generator()), ValueError, "image_shape="),
        (lambda: T.Rotation(3.0)(torch.zeros(64), _generator()), ValueError, r"expected \(batch, ...\)"),
        (lambda: T.Rotation(3.0)(torch.zeros(2, 1, 8, 8).long(), _generator()), TypeError, "int64"),
        (
            lambda: T.RotationGroup()(torch.zeros(2, 1, 8, 9), _generator()),
            ValueError,
            "expected square ones",
        ),
        (lambda: T.CyclicShifts((8, 8))(torch.zeros(2, 1, 8, 9), _generator()), ValueError, "last axes"),
    ],
)
@pytest.mark.usefixtures("as_a_user_meets_it")
def test_refusals(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()
