"""Rotation, blur and noise at five levels: each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from bnnpriors.datasets import Dataset, corrupt, corruptions, diabetes, digits
from bnnpriors.datasets.corruptions import SEVERITIES, _rotate


def pictures(points: int = 5, channels: int = 3, height: int = 16, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(points, channels, height, width, generator=generator, dtype=torch.float64)


def colours(height: int = 8, width: int = 8) -> Dataset:
    x = pictures(height=height, width=width).numpy()
    return Dataset.from_raw(
        "colours",
        x,
        np.arange(5),
        x,
        np.arange(5),
        kind="classification",
        shared_scale=True,
        dtype=torch.float64,
    )


def test_right_angles_turn_pixels_into_pixels() -> None:
    """Anticlockwise, an angle an image; on pictures that are not square half a turn is one too."""
    images = pictures(4)
    turned = _rotate(images, torch.tensor([0.0, 90.0, 180.0, -90.0]))
    for image, result, quarters in zip(images, turned, (0, 1, 2, -1), strict=True):
        torch.testing.assert_close(result, torch.rot90(image, quarters, (1, 2)), rtol=0, atol=1e-6)
    wide = pictures(1, height=6, width=10)
    torch.testing.assert_close(_rotate(wide, torch.tensor([180.0])), wide.flip(2, 3), rtol=0, atol=1e-6)


def test_an_angle_keeps_its_size_on_pictures_that_are_not_square() -> None:
    """A bright pixel 4 to the right of the centre is, after 45°, at (4 cos 45°, −4 sin 45°)."""
    image = torch.zeros(1, 1, 11, 21, dtype=torch.float64)
    image[0, 0, 5, 14] = 1.0
    turned = _rotate(image, torch.tensor([45.0]))[0, 0]
    rows, columns = torch.arange(11.0) - 5, torch.arange(21.0) - 10
    centre = [(turned.sum(1) * rows).sum() / turned.sum(), (turned.sum(0) * columns).sum() / turned.sum()]
    assert centre == pytest.approx([-(8**0.5), 8**0.5], abs=0.1)


def test_images_turn_both_ways() -> None:
    """Each of 40 is turned by the level's angle, to one side or the other."""
    images = pictures(40, 1)
    turned = corrupt(images, "rotation", 2)
    left, right = (_rotate(images, torch.full((40,), angle)) for angle in (30.0, -30.0))
    to_left = ((turned - left).abs().amax((1, 2, 3)) < 1e-12).tolist()
    to_right = ((turned - right).abs().amax((1, 2, 3)) < 1e-12).tolist()
    assert [not side for side in to_left] == to_right
    assert 0 < sum(to_left) < 40


@pytest.mark.parametrize("level", range(1, 6))
def test_the_blur_is_scipys(level: int) -> None:
    images = pictures(2, height=12, width=20)
    blurred = corrupt(images, "blur", level)
    sigma = SEVERITIES["blur"][level - 1]
    expected = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("level", [1, 3])
def test_the_noise_has_the_size_it_says(level: int) -> None:
    """150,000 grey pixels of 0.5: mean and mean square, of a cut-off normal, within 6 standard errors: a false alarm in 10⁸."""
    sigma = SEVERITIES["noise"][level - 1]
    images = torch.full((50, 3, 20, 50), 0.5, dtype=torch.float64)
    noise = corrupt(images, "noise", level) - images
    count, edge = noise.numel(), 0.5 / sigma
    assert abs(noise.mean()) < 6 * sigma / count**0.5
    beyond = norm.sf(edge)  # cut off at ±edge standard deviations
    variance = sigma**2 * (1 - 2 * (edge * norm.pdf(edge) + beyond) + 2 * edge**2 * beyond)
    assert abs(noise.square().mean() / variance - 1) < 6 * (2 / count) ** 0.5
    assert 0.0 <= (noise + images).min() < (noise + images).max() <= 1.0


@pytest.mark.parametrize("kind", SEVERITIES)
def test_each_level_is_further_away(kind: str) -> None:
    data = digits(dtype=torch.float64)
    images = data.denormalize(data.x_test).reshape(-1, 1, 8, 8)
    distances = [float((corrupt(images, kind, level) - images).square().mean()) for level in range(1, 6)]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("kind", ["rotation", "noise"])
def test_the_seed_alone_decides(kind: str) -> None:
    images = pictures(20)
    first = corrupt(images, kind, 3, seed=1)
    torch.manual_seed(5)
    assert torch.equal(corrupt(images, kind, 3, seed=1), first)
    assert not torch.equal(corrupt(images, kind, 3, seed=2), first)


@pytest.mark.parametrize("data", [digits(), colours()], ids=["flat", "colour"])
def test_all_kinds_and_levels_of_a_data_set(data: Dataset) -> None:
    """Level 0 first; on the training set's scale, in the shape of the inputs."""
    made = list(corruptions(data, seed=3))
    assert [(version.corruption, version.level) for version in made] == [("none", 0)] + [
        (kind, level) for kind in ("rotation", "blur", "noise") for level in range(1, 6)
    ]
    assert made[0].inputs is data.x_test
    images = data.denormalize(data.x_test)
    shape = (-1, 1, 8, 8) if images.ndim == 2 else (-1, 3, 8, 8)
    expected = corrupt(images.reshape(shape), "noise", 5, seed=3).reshape(images.shape)
    torch.testing.assert_close(data.denormalize(made[-1].inputs), expected, rtol=1e-5, atol=1e-5)
    assert [version.level for version in corruptions(data, ["blur"])] == [0, 1, 2, 3, 4, 5]


def test_what_cannot_be_corrupted_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"corruptions \['fog'\]: expected some of rotation, blur, noise"):
        corruptions(digits(), ["fog"])
    with pytest.raises(ValueError, match=r"corruptions of diabetes.*expected images"):
        corruptions(diabetes())
    x = np.arange(24.0).reshape(3, 8) / 24
    oblong = Dataset.from_raw(
        "oblong", x, np.arange(3), x, np.arange(3), kind="classification", shared_scale=True
    )
    with pytest.raises(ValueError, match="flat square ones"):
        corruptions(oblong)
    for kind, level in (("fog", 1), ("blur", 0), ("blur", 6)):
        with pytest.raises(ValueError, match=f"corruption '{kind}', level {level}: expected one of"):
            corrupt(pictures(), kind, level)
