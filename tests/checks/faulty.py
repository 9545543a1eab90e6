"""One faulty prior for each property that `check_prior` looks at; otherwise each is a standard normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bnnpriors import priors as P


class Sound(P.Prior):
    """The standard normal that the faults are planted in."""

    def log_prob(self, w: Tensor) -> Tensor:
        return -0.5 * w**2 - 0.5 * math.log(2 * math.pi)

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(shape, generator=generator)


class SampleOfAnotherShape(Sound):
    def sample(self, shape, *, generator=None):
        return torch.randn(shape[:-1], generator=generator)


class DensityOfAnotherShape(Sound):
    def log_prob(self, w):
        return super().log_prob(w[..., None] + torch.zeros(2, dtype=w.dtype))


class AlwaysDouble(Sound):
    def log_prob(self, w):
        return super().log_prob(w.double())


class DetachedGradient(Sound):
    def log_prob(self, w):
        return -0.5 * w * w.detach() - 0.5 * math.log(2 * math.pi)


class Branching(Sound):
    def log_prob(self, w):
        if (w.abs() > 1e6).any():
            return torch.full_like(w, -torch.inf)
        return super().log_prob(w)


class LogarithmOfExponential(Sound):
    def log_prob(self, w):
        return torch.log(torch.exp(-0.5 * w**2)) - 0.5 * math.log(2 * math.pi)


class HoldsALambda(Sound):
    def __init__(self) -> None:
        self.density = lambda w: -0.5 * w**2 - 0.5 * math.log(2 * math.pi)

    def log_prob(self, w):
        return self.density(w)


class GlobalGenerator(Sound):
    def sample(self, shape, *, generator=None):
        return torch.randn(shape)


class OneSeed(Sound):
    def sample(self, shape, *, generator=None):
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class HiddenState(P.Normal):
    """Every draw turns the sign of the weights: what a `state_dict` does not know."""

    def __init__(self) -> None:
        super().__init__(centred=False)
        self.sign = [1.0]

    def sample(self, shape, **options):
        self.sign[0] = -self.sign[0]
        return super().sample(shape, **options)

    def from_standard(self, z):
        return self.sign[0] * z

    to_standard = from_standard


class MissingJacobian(P.Normal):
    """The density of w lacks −log scale, that of the latent is right."""

    def __init__(self) -> None:
        super().__init__(0.0, 2.0, centred=False)

    def log_prob(self, w):
        return self._standard_log_prob(self.to_standard(w))


class NotInverse(P.Normal):
    """Multiplies where it should divide."""

    def __init__(self) -> None:
        super().__init__(1.0, 2.0, centred=False)

    def to_standard(self, w):
        return (w - self.loc) * self.scale


class Unnormalised(Sound):
    def log_prob(self, w):
        return super().log_prob(w) + 0.01


class UnnormalisedVector(P.Prior):
    """A correlated normal over the last dimension without its log determinant."""

    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64))

    def log_prob(self, w):
        z = torch.linalg.solve_triangular(self.factor.to(w), w[..., None], upper=False)[..., 0]
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(self, shape, *, generator=None):
        return torch.randn(shape, generator=generator, dtype=torch.float64) @ self.factor.T


class WrongScale(Sound):
    def sample(self, shape, *, generator=None):
        return 1.15 * torch.randn(shape, generator=generator)


class WrongCorrelation(UnnormalisedVector):
    def log_prob(self, w):
        return super().log_prob(w) - self.factor.diagonal().log().sum().to(w)

    def sample(self, shape, *, generator=None):
        covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
        return (
            torch.randn(shape, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
        )


class WrongHyperdraws(P.HalfNormal):
    """Drawn 1.3 times too large."""

    def sample(self, shape, **options):
        return 1.3 * super().sample(shape, **options)


class OutsideItsSupport(Sound):
    support = torch.distributions.constraints.positive

    def log_prob(self, w):
        return super().log_prob(w) + math.log(2)


class SeesItsPlace(P.Normal):
    """A location–scale family must be elementwise: the model evaluates it on tensors that are flattened together."""

    def _place(self, w: Tensor) -> Tensor:
        return 1.0 + torch.arange(w.shape[-1], dtype=w.dtype, device=w.device)

    def log_prob(self, w):
        return super().log_prob(w / self._place(w)) - self._place(w).log()

    def sample(self, shape, **options):
        w = super().sample(shape, **options)
        return w * self._place(w)


FAULTS: dict[str, list[P.Prior]] = {
    "shapes": [SampleOfAnotherShape(), DensityOfAnotherShape()],
    "support": [OutsideItsSupport()],
    "dtype and device": [AlwaysDouble()],
    "gradient": [DetachedGradient()],
    "chains": [Branching()],
    "extreme values": [LogarithmOfExponential()],
    "pickling": [HoldsALambda()],
    "seeds": [GlobalGenerator()],
    "state_dict": [HiddenState()],
    "non-centred form": [MissingJacobian(), NotInverse()],
    "normalisation": [Unnormalised(), UnnormalisedVector()],
    "draws follow the density": [
        WrongScale(),
        WrongCorrelation(),
        P.Normal(0.0, WrongHyperdraws(1.0)),
    ],
    "HMC on the prior alone": [SeesItsPlace()],
}
