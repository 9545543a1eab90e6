"""Finite sets of deterministic transformations: orbits that can be averaged over exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .base import Custom, Shape, Transform, as_transform
from .pixels import Compose


class Finite(Transform):
    """Base class: `size` deterministic transformations g_1 … g_K. A subclass defines `size` and `element`.

    As a random transform it takes one of them, each with probability 1/K.
    """

    size: int

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """g_index of every image; index from 0."""
        raise NotImplementedError(
            f"{type(self).__name__} has no element(index, images): define it in your class"
        )

    def orbit(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch size *shape"]:
        """Every image by every element."""
        return torch.stack([self.element(index, images) for index in range(self.size)], dim=1)

    def numbers(self, shape: Shape) -> int:
        """One, which picks an element."""
        return 1

    def apply(
        self, images: Float[Tensor, "batch *shape"], noise: Float[Tensor, "batch numbers"]
    ) -> Float[Tensor, "batch *shape"]:
        """A random element an image."""
        chosen = (noise[:, 0] * self.size).floor().clamp(max=self.size - 1)
        chosen = chosen.view(-1, *[1] * (images.ndim - 1))
        result = self.element(0, images)
        for index in range(1, self.size):
            result = torch.where(chosen == index, self.element(index, images), result)
        return result


class Listed(Finite):
    """The functions in a list, each `function(images [n, *shape]) -> images [n, *shape]`, deterministic and traceable.

    Add the identity, `lambda images: images`, where the untransformed image belongs to the orbit.
    """

    def __init__(self, functions: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.functions = list(functions)
        if not self.functions or not all(callable(function) for function in self.functions):
            raise TypeError(
                f"Listed: {functions!r} given, expected a list of functions of images, at least one"
            )
        self.size = len(self.functions)

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The function at `index`."""
        return self.functions[index](images)


class Frozen(Finite):
    """`num_samples` draws of a random transform, made once and kept: the same for every image, step and chain.

    The orbit is then finite and its likelihood exact, which Metropolis tests need.

    Args:
        transform: of this package; a function of the user's own belongs in `Listed`.
        num_samples: K. seed: of the draws.
    """

    def __init__(self, transform: Transform, num_samples: int, seed: int = 0) -> None:
        self.transform = as_transform(transform)
        if isinstance(self.transform, (Custom, Finite)) or (
            isinstance(self.transform, Compose) and self.transform._opaque
        ):
            raise TypeError(
                f"Frozen: {transform!r} given, expected a random transform of bp.transforms. Functions of your own that are "
                "deterministic make an orbit as Listed([...]), and a finite set of transforms is an orbit already"
            )
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(f"Frozen: num_samples {num_samples!r} given, expected an integer from 1")
        self.size, self.seed = num_samples, seed

    def check(self, shape: Shape) -> None:
        """As the transform's."""
        self.transform.check(shape)

    def element(self, index: int, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The transform at its numbers `index`."""
        row = self._numbers(images)[index]
        return self.transform.apply(images, row.expand(len(images), -1))

    def _numbers(self, images: Tensor) -> Float[Tensor, "size numbers"]:
        """From numpy, so that a traced program holds them as a constant."""
        count = self.transform.numbers(tuple(images.shape[1:]))
        uniform = np.random.default_rng(self.seed).random((self.size, count), dtype=np.float32)
        return torch.as_tensor(uniform).to(images)
