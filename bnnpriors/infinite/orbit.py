"""The kernel of an infinitely wide network whose outputs are averaged over a finite orbit of its inputs."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from ..transforms import Finite
from .nngp import MEMORY, InfiniteWidthKernel

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from gpytorch.kernels import Kernel


class OrbitKernel(Kernel):
    """The covariance of f̄(x) = (1/K) Σ_g f(g x): `Augmented(..., average="logits", orbit="finite")` for the infinitely wide
    network (van der Wilk et al. 1808.05563).

        k̄(x, x') = (1/K²) Σ_g Σ_h k(g x, h x').

    Of a group under which the base kernel is invariant, k(g x, g x') = k(x, x'), each g gives the same inner sum over g⁻¹h, so
    one sum suffices: k̄(x, x') = (1/K) Σ_g k(x, g x'). Dense layers with independent weights are invariant under every
    permutation of the inputs; convolutions with zero padding of equal width on both sides under flips, and on square images
    under quarter turns if the kernel's taps are alike, but not under shifts.

    Under a group, k̄ is invariant in each argument by itself, so a regression's predictions at x and at g x are the same.

    Args:
        kernel: from `bp.infinite.kernel`. orbit: a group or any other finite set of `bp.transforms`.
        invariant: whether to take one sum, K times cheaper. It is checked on the first inputs of each matrix.

    Raises:
        TypeError: a kernel or an orbit of another kind.
    """

    has_lengthscale = False

    def __init__(self, kernel: InfiniteWidthKernel, orbit: Finite, *, invariant: bool = False) -> None:
        super().__init__()
        if not isinstance(kernel, InfiniteWidthKernel):
            raise TypeError(f"OrbitKernel: {type(kernel).__name__} given, expected bp.infinite.kernel(model)")
        if not isinstance(orbit, Finite):
            raise TypeError(
                f"OrbitKernel: {orbit!r} given, expected a finite set of bp.transforms, such as FlipGroup(), or "
                "Frozen(transform, num_samples=8) of a random one"
            )
        self.kernel, self.orbit, self.invariant = kernel, orbit, invariant

    @torch.no_grad()
    def gram(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory: int = MEMORY,
    ) -> Float[Tensor, "n m"]:
        """K̄(x1, x2) without gradients; arguments and errors as for `InfiniteWidthKernel.gram`."""
        dtype, device = dtype or x1.dtype, device or x1.device
        other = None if x2 is None else x2.to(device, dtype)
        return self.matrix(x1.to(device, dtype), other, memory=memory)

    def matrix(
        self,
        x1: Float[Tensor, "n *shape"],
        x2: Float[Tensor, "m *shape"] | None = None,
        *,
        memory: int = MEMORY,
    ) -> Float[Tensor, "n m"]:
        """K̄(x1, x2), with gradients in the hyperparameters and the inputs; the symmetric K̄(x1, x1) if there is no x2.

        Raises:
            ValueError: inputs that the network or the transforms do not take, or a kernel that is not invariant.
        """
        first = self._images(x1)
        second = None if x2 is None else self._images(x2)
        if self.invariant:
            self._check_invariance(first, memory)
            total = self._one_sum(first, first if second is None else second, memory)
            return total if second is not None else (total + total.mT) / 2
        size = self.orbit.size
        total = first.new_zeros(len(first), len(first if second is None else second))
        for row in range(size):
            left = self._moved(row, first)
            for column in range(row if second is None else 0, size):
                if second is not None:
                    total = total + self.kernel.matrix(left, self._moved(column, second), memory=memory)
                elif column == row:
                    total = total + self.kernel.matrix(left, memory=memory)
                else:
                    part = self.kernel.matrix(left, self._moved(column, first), memory=memory)
                    total = total + part + part.mT
        return total / size**2

    def variance(self, x: Float[Tensor, "n *shape"], *, memory: int = MEMORY) -> Float[Tensor, " n"]:
        """K̄(x, x) of each input alone, with gradients."""
        images = self._images(x)
        if not len(images):
            return images.new_empty(0)
        orbits = torch.stack([self._moved(index, images) for index in range(self.orbit.size)], dim=1)
        if self.invariant:
            self._check_invariance(images, memory)
            return torch.stack([self.kernel.matrix(o[:1], o, memory=memory).mean() for o in orbits])
        return torch.stack([self.kernel.matrix(o, memory=memory).mean() for o in orbits])

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        """What GPyTorch calls, with flat rows [n, features]."""
        if x1.ndim > 2 or x2.ndim > 2:
            raise NotImplementedError("OrbitKernel: batches of inputs are not supported; give [n, features]")
        is_same = x1.shape == x2.shape and torch.equal(x1, x2)
        if not diag:
            return self.matrix(x1, None if is_same else x2)
        if is_same:
            return self.variance(x1)
        return torch.cat([self.matrix(a[None], b[None])[0] for a, b in zip(x1, x2, strict=True)])

    def _one_sum(self, x1: Tensor, x2: Tensor, memory: int) -> Tensor:
        total = x1.new_zeros(len(x1), len(x2))
        for index in range(self.orbit.size):
            total = total + self.kernel.matrix(x1, self._moved(index, x2), memory=memory)
        return total / self.orbit.size

    @torch.no_grad()
    def _check_invariance(self, images: Tensor, memory: int) -> None:
        some = images[:2]
        plain = self.kernel.matrix(some, some.clone(), memory=memory)
        for index in range(self.orbit.size):
            moved = self._moved(index, some)
            found = self.kernel.matrix(moved, moved.clone(), memory=memory)
            if not torch.allclose(found, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max())):
                raise ValueError(
                    f"OrbitKernel: invariant=True given, but k(g x, g x') differs from k(x, x') for element {index} of "
                    f"{self.orbit!r}, by up to {float((found - plain).abs().max()):.3g}: leave invariant out for the double sum"
                )

    def _moved(self, index: int, images: Tensor) -> Tensor:
        return self.orbit.element(index, images)

    def _images(self, x: Tensor) -> Tensor:
        shape = self.kernel.input_shape
        if shape is not None and x.ndim == 2 and x.shape[1] == math.prod(shape):
            x = x.reshape(len(x), *shape)
        self.orbit.check(tuple(x.shape[1:]))
        return x
