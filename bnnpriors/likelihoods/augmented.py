"""Data augmentation as a likelihood: the average over transformations of one input, and never more data than there are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..counts import as_integer
from ..priors.site import Site
from ..transforms import Finite, Transform, as_transform
from .averages import AveragedLikelihood, average_log_prob, averaged, check_average
from .base import Likelihood

Network = Callable[[Tensor], Tensor]


class Augmented(Likelihood):
    """log p(y | x) by K transformations of x (Nabarro et al. 2106.05586), f_k = f(t_k(x)), p(y|f) the base likelihood:

    - "probs": log (1/K) Σ_k p(y | f_k), the labeller saw one of the transformed inputs;
    - "logits": log p(y | (1/K) Σ_k f_k), the network is the average;
    - "losses": (1/K) Σ_k log p(y | f_k), the usual practice, which is no likelihood: it does not add up to 1 over y.

    losses ≤ probs always, and losses ≤ logits where log p(y|f) is concave in f, as for `Categorical` and `Gaussian`. Over a full
    orbit, t_k random and fresh at each step, E of "probs" and "logits" grows with K to the likelihood of the whole orbit (for
    concave log p): K copies give a lower bound. Over a finite orbit K is its size and the likelihood is exact and deterministic.
    Copies are averaged: they never count as data.

    Args:
        base: any likelihood. transform: of `bp.transforms`, or a function of (images, generator); for a finite orbit a
            `transforms.Finite`: a group, `Frozen`, or `Listed`.
        num_samples: K in training; None for all elements of a finite orbit. num_test_samples: K in predictions; None: as many.
        average: as above. orbit: "full" or "finite".
        shared: whether the images of a step share their K transformations, in place of K an image.
        image_shape: the shape of one image for the transform, where the network takes it flat.
        seed: of the transformations of predictions, which are the same for all draws.

    Raises:
        TypeError: no likelihood or no transform. ValueError: settings that do not fit, each with what to do.
    """

    def __init__(
        self,
        base: Likelihood | Any,
        transform: Transform | Callable[..., Tensor],
        num_samples: int | None = None,
        *,
        num_test_samples: int | None = None,
        average: str = "probs",
        orbit: str = "full",
        shared: bool = False,
        image_shape: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not callable(getattr(base, "log_prob", None)) or isinstance(base, Augmented):
            raise TypeError(
                f"Augmented: base {base!r} given, expected a likelihood such as bp.likelihoods.Categorical()"
            )
        check_average(average)
        if orbit not in ("full", "finite"):
            raise ValueError(f"Augmented: orbit {orbit!r} given, expected 'full' or 'finite'")
        self.base, self.transform = base, as_transform(transform)
        self.average, self.orbit, self.shared, self.seed = average, orbit, shared, seed
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.num_samples = self._count("num_samples", num_samples)
        self.num_test_samples = (
            self.num_samples
            if num_test_samples is None
            else self._count("num_test_samples", num_test_samples)
        )
        self.sites: list[Site] = base.sites if isinstance(base, Likelihood) else []
        if kind := getattr(base, "kind", None):
            self.kind = kind

    @property
    def is_random(self) -> bool:
        """Whether the transformations are drawn, so that the density has noise."""
        return self.orbit == "full"

    def noise(
        self, x: Shaped[Tensor, "batch *one"], generator: torch.Generator, *, test: bool = False
    ) -> Float[Tensor, "batch copies numbers"] | None:
        """The random numbers of K transformations of each input; None for a finite orbit."""
        if not self.is_random:
            return None
        images, count = self._images(x), self.num_test_samples if test else self.num_samples
        if not self.shared:
            return self.transform.noise(images, count, generator)
        return self.transform.noise(images[:1], count, generator).expand(len(x), -1, -1)

    def copies(
        self, x: Float[Tensor, "batch *one"], noise: Float[Tensor, "batch copies numbers"] | None
    ) -> Float[Tensor, "batch copies *one"]:
        """K transformations of each input."""
        images = self._images(x)
        if noise is None:
            assert isinstance(self.transform, Finite)
            moved = self.transform.orbit(images)
        else:
            count = noise.shape[1]
            moved = self.transform.apply(images.repeat_interleave(count, 0), noise.flatten(0, 1))
        if moved.shape[1 - images.ndim :] != images.shape[1:]:
            raise ValueError(
                f"Augmented: {self.transform!r} made {tuple(moved.shape)} of images {tuple(images.shape)}, expected the same "
                f"shape of each image, {tuple(images.shape[1:])}: a transform keeps it"
            )
        return moved.reshape(len(x), -1, *x.shape[1:])

    def outputs(
        self,
        network: Network,
        x: Float[Tensor, "batch *one"],
        generator: torch.Generator | None = None,
        *,
        test: bool = False,
    ) -> Float[Tensor, "batch copies *out"]:
        """f_k of each input: for `combine`, or with `test` for the methods of `at_test()`. Raises as `draw`."""
        copies = self.draw(x, generator, test=test)
        return network(copies.flatten(0, 1)).unflatten(0, copies.shape[:2])

    def draw(
        self, x: Float[Tensor, "batch *one"], generator: torch.Generator | None = None, *, test: bool = False
    ) -> Float[Tensor, "batch copies *one"]:
        """K transformations of each input, fresh ones for a full orbit.

        Raises:
            ValueError: a full orbit without a generator, or inputs that the transform does not take.
        """
        if self.is_random and generator is None:
            raise ValueError(
                "Augmented: a full orbit draws transformations, and no generator was given: pass generator=torch.Generator()"
                ".manual_seed(0), on the device of the inputs"
            )
        self.check_inputs(x[:1])
        return self.copies(x, None if generator is None else self.noise(x, generator, test=test))

    def combine(self, outputs: Float[Tensor, "batch copies *out"], y: Any) -> Float[Tensor, " batch"]:
        """The average of the base likelihood over the copies of each example."""
        return average_log_prob(self.base, self.average, outputs, y)

    def log_prob(self, outputs: Float[Tensor, "batch copies *out"], y: Any) -> Float[Tensor, " batch"]:
        """`combine`."""
        return self.combine(outputs, y)

    def at_test(self) -> AveragedLikelihood:
        """What predictions use: for "losses" the normalised form, which is that of "logits".

        exp((1/K) Σ log p(y|f_k)) divided by its sum over y is softmax(f̄) for classes, and N(f̄, σ²) for Gaussian noise.
        """
        return averaged(self.base, self.average)

    def test_generator(self, device: torch.device) -> torch.Generator:
        """Of the transformations of predictions."""
        return torch.Generator(device).manual_seed(self.seed)

    def latents(self) -> dict[str, Tensor]:
        """The base likelihood's."""
        return self.base.latents() if isinstance(self.base, Likelihood) else {}

    def swaps(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The base likelihood's, under their names here."""
        return {f"base.{name}": value for name, value in self.base.swaps(latents).items()} if latents else {}

    def at(self, values: Mapping[str, Tensor | float]) -> Likelihood:
        """With the base likelihood's parameters fixed at these values."""
        new = copy.copy(self)
        new._modules = {**self._modules}
        new.base = self.base.at(values)
        new.sites = new.base.sites
        return new

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """The base likelihood's."""
        return self.base.prepare(y, dtype) if isinstance(self.base, Likelihood) else y

    def check(self, outputs_shape: tuple[int, ...], y: Tensor) -> None:
        """The base likelihood's, on the outputs of one copy."""
        if isinstance(self.base, Likelihood):
            self.base.check(outputs_shape, y)

    def check_inputs(self, x: Shaped[Tensor, "batch *one"]) -> None:
        """Raise ValueError where inputs cannot be transformed, or change their shape, or leave the finite numbers."""
        images = self._images(x)
        self.transform.check(tuple(images.shape[1:]))
        with torch.no_grad():
            copies = self.copies(x, self.noise(x, self.test_generator(x.device)))
        if not copies.isfinite().all():
            raise ValueError(f"Augmented: {self.transform!r} made NaN or infinite values of finite inputs")

    def _images(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ValueError(
                f"Augmented: inputs of {x.dtype} given, expected floating ones, which can be transformed"
            )
        if self.image_shape is None:
            return x
        if math.prod(self.image_shape) != math.prod(x.shape[1:]):
            raise ValueError(
                f"Augmented: inputs of shape {tuple(x.shape[1:])} given with image_shape {self.image_shape}, expected the same "
                "number of elements"
            )
        return x.reshape(len(x), *self.image_shape)

    def _count(self, name: str, given: int | None) -> int:
        number = as_integer(given)
        if given is not None and (number is None or number < 1):
            raise ValueError(f"Augmented: {name} {given!r} given, expected an integer from 1")
        if self.orbit == "full":
            if number is None:
                raise ValueError(
                    f"Augmented: a full orbit needs {name}, how many random transformations of each input are averaged: 8, as in "
                    "2106.05586; or pass orbit='finite' with a finite set of transforms"
                )
            return number
        if not isinstance(self.transform, Finite):
            raise ValueError(
                f"Augmented: orbit 'finite' with {self.transform!r} given, which draws at random, expected a finite set: a group "
                "such as bp.transforms.FlipGroup(), bp.transforms.Frozen(transform, num_samples=8), or Listed([...])"
            )
        if number is not None and number != self.transform.size:
            raise ValueError(
                f"Augmented: {name} {number} given for a finite orbit of {self.transform.size}, expected None or its size: the "
                "average is over all of it. For random elements pass orbit='full'"
            )
        return self.transform.size

    def extra_repr(self) -> str:
        """The settings."""
        return f"transform={self.transform!r}, num_samples={self.num_samples}, average={self.average!r}, orbit={self.orbit!r}"
