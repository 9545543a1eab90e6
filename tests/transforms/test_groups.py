"""The axioms of finite groups, and what is no group."""

from __future__ import annotations

import pytest
import torch

from bnnpriors import transforms as T

SQUARE = T.Product([T.RotationGroup(), T.FlipGroup()])
GROUPS = [
    (T.FlipGroup(), (1, 3, 4), 2),
    (T.FlipGroup(horizontal=True, vertical=True), (2, 3, 4), 4),
    (T.RotationGroup(), (1, 3, 3), 4),
    (T.CyclicShifts((4, 6), step=2), (1, 4, 6), 6),
    (T.CyclicShifts((5,)), (5,), 5),
    (SQUARE, (1, 3, 3), 8),
    (T.Product([SQUARE, T.CyclicShifts((4, 4), step=2)]), (1, 4, 4), 32),
]


@pytest.mark.parametrize(("group", "shape", "size"), GROUPS, ids=repr)
def test_axioms(group: T.Group, shape: tuple[int, ...], size: int) -> None:
    """Closure (`table` raises without), identity first, associativity, inverses; the action is g_i (g_j x) = (g_i g_j) x."""
    table = group.table(shape)
    everything = torch.arange(size)
    assert group.size == size
    assert torch.equal(table[0], everything)
    assert torch.equal(table[:, 0], everything)
    assert torch.equal(table[table], table[:, table])
    assert bool((table == 0).any(1).all())
    assert torch.equal(table.sort(1).values, everything.expand(size, -1))
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    orbit = group.orbit(images)
    for outer in range(size):
        for inner in range(size):
            assert torch.equal(group.element(outer, orbit[:, inner]), orbit[:, table[outer, inner]])


def test_random_elements_are_uniform_over_the_orbit() -> None:
    images = torch.arange(9.0).view(1, 1, 3, 3)
    noise = torch.linspace(0, 1 - 2**-24, 800)[:, None]
    moved = SQUARE.apply(images.expand(800, -1, -1, -1), noise)
    hits = (moved[:, None] == SQUARE.orbit(images)).flatten(2).all(2)
    assert hits.sum(0).tolist() == [100] * 8


def test_what_is_no_group_is_said_to_be_none() -> None:
    class Half(T.Group):
        size = 2

        def element(self, index: int, images: torch.Tensor) -> torch.Tensor:
            return images.rot90(1, (-2, -1)) if index else images

    with pytest.raises(ValueError, match="not closed under composition"):
        Half().table((1, 3, 3))
    twice = T.Product([T.FlipGroup(), T.FlipGroup()])
    with pytest.raises(ValueError, match="4 elements, of which 2 differ"):
        twice.table((1, 3, 3))


def test_frozen_transforms_are_the_same_for_every_image_and_process() -> None:
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    frozen = T.Frozen(T.Compose([T.Rotation(30.0), T.CropWithPadding(2)]), 4, seed=3)
    orbit = frozen.orbit(images)
    torch.testing.assert_close(orbit[2:4], frozen.orbit(images[2:4]))
    torch.testing.assert_close(orbit, T.Frozen(frozen.transform, 4, seed=3).orbit(images))
    assert not torch.allclose(orbit, T.Frozen(frozen.transform, 4, seed=4).orbit(images))
    listed = T.Listed([lambda images: images, lambda images: images.flip(-1)])
    assert torch.equal(listed.orbit(images), T.FlipGroup().orbit(images))
