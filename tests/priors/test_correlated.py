"""Correlated filters and matrix-normal tensors against SciPy's multivariate laws and against their stated figures."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from bnnpriors import priors as P
from bnnpriors.priors.site import Site
from bnnpriors.priors.taps import JITTER

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below
KERNELS = {
    "matern12": lambda d: np.exp(-d),
    "matern32": lambda d: (1 + 3**0.5 * d) * np.exp(-(3**0.5) * d),
    "matern52": lambda d: (1 + 5**0.5 * d + 5 * d * d / 3) * np.exp(-(5**0.5) * d),
    "rbf": lambda d: np.exp(-d * d / 2),
}


def _covariance(kernel: str, lengthscale: float, taps: tuple[int, ...]) -> np.ndarray:
    points = np.array(list(np.ndindex(*taps)), dtype=float)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    return KERNELS[kernel](distance / lengthscale) + JITTER * np.eye(len(points))


def _weights(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_figures_of_a_matern_correlation_on_nine_taps() -> None:
    covariance = P.CorrelatedNormal(1.0, "matern12", 1.0).covariance((3, 3))
    assert torch.logdet(covariance).item() == pytest.approx(-1.634373, abs=1e-6)
    assert torch.linalg.eigvalsh(covariance)[0].item() == pytest.approx(0.444260, abs=1e-6)
    assert covariance.sum().item() == pytest.approx(25.289468, abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("taps", [(3, 3), (2, 4), (5,), (1, 1), (2, 2, 2)])
def test_densities_are_scipys(kernel: str, taps: tuple[int, ...]) -> None:
    w = 0.3 * _weights(4, 2, *taps)
    flat = w.flatten(2).numpy()
    shape = 0.7**2 * _covariance(kernel, 1.3, taps)
    zero = np.zeros(math.prod(taps))
    normal = P.CorrelatedNormal(0.7, kernel, 1.3)
    expected = np.atleast_1d(scipy.stats.multivariate_normal(zero, shape).logpdf(flat)).reshape(4, 2)
    torch.testing.assert_close(normal.log_prob(w), torch.as_tensor(expected), rtol=1e-9, atol=1e-9)
    student = P.CorrelatedStudentT(4.0, 0.7, kernel, 1.3)
    law = scipy.stats.multivariate_t(zero, shape, df=4.0)
    expected = np.atleast_1d(law.logpdf(flat)).reshape(4, 2)
    torch.testing.assert_close(student.log_prob(w), torch.as_tensor(expected), rtol=1e-9, atol=1e-9)


def test_a_covariance_of_the_users_own() -> None:
    w = _weights(3, 2, 2, 2)
    factor = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    matrix = (factor @ factor.T + torch.eye(4)).double()
    expected = scipy.stats.multivariate_normal(np.zeros(4), 4.0 * (matrix.numpy() + JITTER * np.eye(4)))
    given = P.CorrelatedNormal(2.0, matrix)
    torch.testing.assert_close(given.log_prob(w), torch.as_tensor(expected.logpdf(w.flatten(2).numpy())))
    torch.testing.assert_close(given.variance(), 4 * matrix.diagonal())
    named, function = (
        P.CorrelatedNormal(2.0, "rbf", 0.8),
        P.CorrelatedNormal(2.0, lambda d: torch.exp(-d * d / 2), 0.8),
    )
    torch.testing.assert_close(named.log_prob(w), function.log_prob(w))
    assert Site("w", given, (3, 2, 2, 2)).latent_shape == (3, 2, 2, 2)


@pytest.mark.parametrize("student", [False, True])
def test_draws_have_the_law_of_the_taps_and_of_their_contrasts(student: bool) -> None:
    """20,000 filters: one tap, and a difference of two, which the correlation makes small."""
    prior = P.CorrelatedStudentT(3.0, 0.5, "rbf", 1.5) if student else P.CorrelatedNormal(0.5, "rbf", 1.5)
    draws = prior.sample((200, 100, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = 0.5 * math.sqrt(2 - 2 * math.exp(-0.5 / 1.5**2))
    law = scipy.stats.t(3.0) if student else scipy.stats.norm
    for sample, spread in ((draws[..., 1, 2], 0.5), (draws[..., 0, 0] - draws[..., 0, 1], near)):
        assert scipy.stats.kstest(sample.flatten().numpy() / spread, law.cdf).pvalue > ALARM
    assert scipy.stats.kstest((draws[..., 0, 0] - draws[..., 0, 1]).flatten().numpy(), law.cdf).pvalue < ALARM


@pytest.mark.parametrize(
    "prior",
    [
        P.CorrelatedNormal(P.HalfNormal(1.0).per("output"), "matern32", P.Gamma(2.0, 2.0)),
        P.CorrelatedNormal(P.HalfNormal(1.0).per("weight"), "rbf", P.LogNormal(0.0, 0.3).per("filter")),
        P.CorrelatedStudentT(
            P.Gamma(2.0, 0.5).per("input"), P.HalfNormal(1.0), "matern52", P.Gamma(2.0, 2.0)
        ),
        P.MatrixNormal(P.HalfCauchy(1.0).per("input"), P.LKJCholesky(2.0)),
        P.MatrixNormal(P.HalfCauchy(1.0).per("output"), rows=P.LKJCholesky(P.Gamma(2.0, 1.0))),
    ],
    ids=["normal", "normal-fine", "student", "columns", "both"],
)
def test_both_forms_of_a_learnt_covariance_agree_up_to_the_jacobian_of_the_map(prior: P.Prior) -> None:
    """log p(z) = log p(w) + log |dw/dz| by automatic differentiation; gradients equal finite differences."""
    shape = (3, 2, 1, 2)
    centred, other = (Site("w", P.base.substitute(prior, {"centred": c}), shape) for c in (True, False))
    generator = torch.Generator().manual_seed(0)
    latents = {
        part.name: 0.5 * torch.randn(part.latent_shape, generator=generator, dtype=torch.float64)
        for part in other.walk()
    }

    def weights(z: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        other.evaluate(latents | {"w": z}, values)
        return values["w"]

    jacobian = torch.autograd.functional.jacobian(weights, latents["w"]).reshape(12, 12)
    w = weights(latents["w"])
    expected = centred.evaluate(latents | {"w": w}, {}) + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(other.evaluate(latents, {}), expected)
    torch.testing.assert_close(other.latent_of(w, latents), latents["w"])
    names = list(latents)
    assert torch.autograd.gradcheck(
        lambda *given: centred.evaluate(dict(zip(names, given, strict=True)), {}),
        tuple(latents[name].clone().requires_grad_() for name in names),
    )


def test_equal_variance() -> None:
    assert P.CorrelatedNormal(0.5).variance() == pytest.approx(0.25)
    assert P.CorrelatedStudentT(5.0, 0.5).variance() == pytest.approx(0.25 * 5 / 3)
    assert P.CorrelatedStudentT(2.0, 0.5).variance() == math.inf
    matched = P.CorrelatedStudentT(5.0, 0.5, matched="variance")
    assert matched.variance() == pytest.approx(0.25)
    w = _weights(2, 2, 3, 3)
    plain = P.CorrelatedStudentT(5.0, 0.5 * math.sqrt(3 / 5))
    torch.testing.assert_close(matched.log_prob(w), plain.log_prob(w))
    with pytest.raises(ValueError, match="the variance is infinite for df ≤ 2"):
        P.CorrelatedStudentT(2.0, matched="variance")


def test_a_matrix_normal_is_scipys() -> None:
    w = _weights(3, 4)
    columns = torch.as_tensor(_covariance("rbf", 1.0, (4,))) * 2.0
    rows = torch.as_tensor(_covariance("matern12", 2.0, (3,)))
    law = scipy.stats.matrix_normal(np.zeros((3, 4)), 0.25 * rows.numpy(), columns.numpy())
    prior = P.MatrixNormal(0.5, columns, rows)
    assert prior.log_prob(w).item() == pytest.approx(law.logpdf(w.numpy()), abs=1e-9)
    independent = scipy.stats.matrix_normal(np.zeros((3, 4)), 0.25 * np.eye(3), columns.numpy())
    assert P.MatrixNormal(0.5, columns).log_prob(w).item() == pytest.approx(
        independent.logpdf(w.numpy()), abs=1e-9
    )
    assert prior.variance().shape == (3, 4)
    torch.testing.assert_close(prior.variance(), 0.25 * rows.diagonal()[:, None] * columns.diagonal())
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([prior.sample((3, 4), generator=generator, dtype=torch.float64) for _ in range(5000)])
    for sample, variance in (
        (draws[:, 2, 3], 0.5),
        (draws[:, 0, 0] - draws[:, 0, 1], 0.5 * (2 - 2 * math.exp(-0.5))),
        (draws[:, 0, 1] - draws[:, 1, 1], 0.5 * (2 - 2 * math.exp(-0.5))),
    ):
        assert scipy.stats.kstest(sample.numpy() / math.sqrt(variance), scipy.stats.norm.cdf).pvalue > ALARM


def test_single_precision_and_pickling() -> None:
    for prior, shape in (
        (P.CorrelatedNormal(0.5, "rbf", 2.0), (3, 2, 5, 5)),
        (P.CorrelatedStudentT(3.0, 0.5), (3, 2, 3)),
        (P.MatrixNormal(0.5, torch.eye(4) + 0.5), (3, 2, 2)),
    ):
        w = prior.sample(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        single = prior.log_prob(w.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, prior.log_prob(w).float(), rtol=1e-2, atol=1e-2)
        twin = pickle.loads(pickle.dumps(prior))
        torch.testing.assert_close(twin.log_prob(w), prior.log_prob(w), rtol=0, atol=0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel 'matern' given, expected one of 'matern12'"):
        P.CorrelatedNormal(kernel="matern")
    with pytest.raises(ValueError, match=r"lengthscale 2\.0 given with a covariance matrix"):
        P.CorrelatedNormal(1.0, torch.eye(9), 2.0)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) given, expected convolution weights"):
        Site("w", P.CorrelatedNormal(), (4, 3))
    with pytest.raises(ValueError, match=r"covariance of shape \(9, 9\) given, expected \(4, 4\)"):
        Site("w", P.CorrelatedNormal(1.0, torch.eye(9)), (4, 3, 2, 2))
    with pytest.raises(ValueError, match="expected a symmetric positive definite"):
        Site("w", P.CorrelatedNormal(1.0, torch.ones(4, 4) - 2 * torch.eye(4)), (4, 3, 2, 2))
    for wide in (P.CorrelatedNormal(torch.ones(5, 1, 1, 1)), P.MatrixNormal(torch.ones(5, 1, 1, 1))):
        with pytest.raises(
            ValueError, match=r"Normal: scale of shape \(5, 1, 1, 1\) given, expected a number or"
        ):
            Site("w", wide, (4, 3, 2, 2))
    with pytest.raises(ValueError, match=r"lengthscale of shape \(4, 3, 2, 2\) given.*per\('filter'\)"):
        Site("w", P.CorrelatedNormal(1.0, "rbf", P.Gamma().per("weight")), (4, 3, 2, 2))
    with pytest.raises(ValueError, match=r"columns of shape \(5, 5\) given, expected \(6, 6\)"):
        Site("w", P.MatrixNormal(1.0, torch.eye(5)), (4, 3, 2))
    with pytest.raises(ValueError, match="expected a symmetric positive definite covariance matrix"):
        P.MatrixNormal(1.0, -torch.eye(5))
    with pytest.raises(ValueError, match=r"such as LKJCholesky\(1\.0\)"):
        P.MatrixNormal(1.0, P.HalfNormal())
    with pytest.raises(ValueError, match=r"rows \.per\(\.\.\.\) given, expected one covariance"):
        Site("w", P.MatrixNormal(1.0, rows=P.LKJCholesky().per("output")), (4, 3))
