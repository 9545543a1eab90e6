"""Every elementwise prior against SciPy: density, normalisation, gradient and draws."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from bnnpriors import priors as P

ALARM = 1e-6  # false-alarm rate of each Kolmogorov-Smirnov test below


def _gamma(concentration: Any, rate: Any) -> Any:
    return scipy.stats.gamma(concentration, scale=1 / rate)


def _inverse_gamma(concentration: Any, rate: Any) -> Any:
    return scipy.stats.invgamma(concentration, scale=rate)


def _log_normal(loc: Any, scale: Any) -> Any:
    return scipy.stats.lognorm(scale, scale=np.exp(loc))


def _gennorm(loc: Any, scale: Any, beta: Any) -> Any:
    return scipy.stats.gennorm(beta, loc, scale)


def _uniform(low: float, high: float) -> Any:
    return scipy.stats.uniform(low, high - low)


# name: (constructor, parameters, the same in SciPy). Parameters are numbers here and tensors in the tests that ask for it.
FAMILIES: dict[str, tuple[Callable[..., P.Prior], dict[str, float], Callable[..., Any]]] = {
    "normal": (P.Normal, {"loc": 0.3, "scale": 1.7}, scipy.stats.norm),
    "laplace": (P.Laplace, {"loc": -0.2, "scale": 0.8}, scipy.stats.laplace),
    "student": (P.StudentT, {"df": 3.5, "loc": 0.4, "scale": 1.2}, scipy.stats.t),
    "heavy_student": (P.StudentT, {"df": 0.7, "loc": 0.0, "scale": 0.5}, scipy.stats.t),
    "cauchy": (P.Cauchy, {"loc": 0.4, "scale": 0.6}, scipy.stats.cauchy),
    "logistic": (P.Logistic, {"loc": -0.5, "scale": 1.4}, scipy.stats.logistic),
    "generalized_normal": (P.GeneralizedNormal, {"loc": 0.1, "scale": 1.1, "beta": 1.6}, _gennorm),
    "heavy_generalized_normal": (P.GeneralizedNormal, {"loc": 0.0, "scale": 0.6, "beta": 0.5}, _gennorm),
    "uniform": (P.Uniform, {"low": -1.5, "high": 2.5}, _uniform),
    "half_normal": (P.HalfNormal, {"scale": 1.3}, lambda scale: scipy.stats.halfnorm(scale=scale)),
    "half_cauchy": (P.HalfCauchy, {"scale": 0.7}, lambda scale: scipy.stats.halfcauchy(scale=scale)),
    "gamma": (P.Gamma, {"concentration": 2.5, "rate": 1.5}, _gamma),
    "small_gamma": (P.Gamma, {"concentration": 0.4, "rate": 3.0}, _gamma),
    "inverse_gamma": (P.InverseGamma, {"concentration": 2.7, "rate": 1.3}, _inverse_gamma),
    "log_normal": (P.LogNormal, {"loc": -0.3, "scale": 0.7}, _log_normal),
}
SPREAD = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)
POSITIVE = ("half_normal", "half_cauchy", "gamma", "small_gamma", "inverse_gamma", "log_normal")
TAKES_TENSORS = [name for name in FAMILIES if name != "uniform"]


def _points(name: str) -> Tensor:
    grid = torch.linspace(-8, 8, 101, dtype=torch.float64)
    return (grid / 3).exp() if name in POSITIVE else torch.cat([grid, torch.tensor([-100.0, 100.0])])


@pytest.mark.parametrize("name", FAMILIES)
def test_log_prob_is_scipys(name: str) -> None:
    make, parameters, reference = FAMILIES[name]
    w = _points(name)
    expected = torch.as_tensor(reference(**parameters).logpdf(w.numpy()))
    torch.testing.assert_close(make(**parameters).log_prob(w), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", TAKES_TENSORS)
def test_log_prob_with_tensor_parameters_is_scipys(name: str) -> None:
    make, numbers, reference = FAMILIES[name]
    parameters = {key: value * SPREAD for key, value in numbers.items()}
    w = _points(name)[:, None].expand(-1, 3)
    expected = reference(**{key: value.numpy() for key, value in parameters.items()}).logpdf(w.numpy())
    torch.testing.assert_close(
        make(**parameters).log_prob(w), torch.as_tensor(expected), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_integrates_to_one(name: str) -> None:
    make, parameters, _ = FAMILIES[name]
    prior = make(**parameters)

    def density(w: float) -> float:
        return math.exp(float(prior.log_prob(torch.tensor(w, dtype=torch.float64))))

    low, high = (-1.5, 2.5) if name == "uniform" else (0.0 if name in POSITIVE else -math.inf, math.inf)
    pieces = [
        scipy.integrate.quad(density, *ends, limit=200) for ends in ((low, 0.0), (0.0, 1.0), (1.0, high))
    ]
    assert sum(value for value, _ in pieces) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", TAKES_TENSORS)
def test_gradients_equal_finite_differences(name: str) -> None:
    make, numbers, _ = FAMILIES[name]
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(4, 3, generator=generator, dtype=torch.float64) + 0.3
    parameters = [(value * SPREAD).requires_grad_() for value in numbers.values()]

    def log_prob(w: Tensor, *values: Tensor) -> Tensor:
        return make(**dict(zip(numbers, values, strict=True))).log_prob(w)

    assert torch.autograd.gradcheck(log_prob, (w.requires_grad_(), *parameters))


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_pass_a_kolmogorov_smirnov_test(name: str) -> None:
    make, parameters, reference = FAMILIES[name]
    for seed, dtype in enumerate((torch.float64, torch.float32)):
        generator = torch.Generator().manual_seed(seed)
        draws = make(**parameters).sample((100, 300), generator=generator, dtype=dtype)
        assert draws.shape == (100, 300)
        assert draws.dtype == dtype
        result = scipy.stats.kstest(draws.double().flatten().numpy(), reference(**parameters).cdf)
        assert result.pvalue > ALARM


@pytest.mark.parametrize("name", TAKES_TENSORS)
def test_draws_with_tensor_parameters_pass_a_kolmogorov_smirnov_test(name: str) -> None:
    make, numbers, reference = FAMILIES[name]
    parameters = {key: value * SPREAD for key, value in numbers.items()}
    draws = make(**parameters).sample(
        (20_000, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    uniform = reference(**{key: value.numpy() for key, value in parameters.items()}).cdf(draws.numpy())
    for column in uniform.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > ALARM


def test_the_kolmogorov_smirnov_test_sees_a_scale_that_is_wrong_by_a_twentieth() -> None:
    draws = P.Laplace(0.0, 1.05).sample((100_000,), generator=torch.Generator().manual_seed(0))
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.laplace().cdf).pvalue < ALARM


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_dtype_and_device_follow_the_weight(name: str, as_tensor: bool) -> None:
    make, numbers, _ = FAMILIES[name]
    parameters = {
        key: torch.tensor(value, dtype=torch.float64) if as_tensor else value
        for key, value in numbers.items()
    }
    if as_tensor and name not in TAKES_TENSORS:
        return
    prior = make(**parameters)
    for dtype in (torch.float32, torch.float64):
        assert prior.log_prob(torch.ones(2, 3, dtype=dtype)).dtype == dtype
        assert prior.sample((2, 3), dtype=dtype).dtype == dtype
    if not as_tensor:
        on_meta = prior.log_prob(torch.ones(2, 3, device="meta"))
        assert (on_meta.device.type, on_meta.shape) == ("meta", (2, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_draws_and_densities_on_an_accelerator(name: str) -> None:
    make, parameters, reference = FAMILIES[name]
    generator = torch.Generator("cuda").manual_seed(0)
    draws = make(**parameters).sample((30_000,), generator=generator)
    assert draws.device.type == "cuda"
    assert scipy.stats.kstest(draws.cpu().numpy(), reference(**parameters).cdf).pvalue > ALARM
    w = _points(name)
    torch.testing.assert_close(
        make(**{k: torch.tensor(v) if name in TAKES_TENSORS else v for k, v in parameters.items()})
        .log_prob(w.cuda().float())
        .cpu(),
        torch.as_tensor(reference(**parameters).logpdf(w.numpy())).float(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_generator_reproduces_draws_and_leaves_the_global_one_alone(name: str) -> None:
    make, parameters, _ = FAMILIES[name]
    prior = make(**parameters)
    before = torch.get_rng_state()
    first = prior.sample((5,), generator=torch.Generator().manual_seed(3))
    again = prior.sample((5,), generator=torch.Generator().manual_seed(3))
    other = prior.sample((5,), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", FAMILIES)
def test_pickle_and_copy_keep_the_density(name: str) -> None:
    make, parameters, _ = FAMILIES[name]
    prior = make(**parameters)
    w = _points(name)
    for twin in (pickle.loads(pickle.dumps(prior)), copy.deepcopy(prior)):
        assert type(twin) is type(prior)
        torch.testing.assert_close(twin.log_prob(w), prior.log_prob(w), rtol=0, atol=0)
        assert repr(twin) == repr(prior)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_mean_and_variance_are_scipys(name: str, as_tensor: bool) -> None:
    make, numbers, reference = FAMILIES[name]
    expected = reference(**numbers)
    if as_tensor and name not in TAKES_TENSORS:
        return
    parameters = {k: torch.tensor(v, dtype=torch.float64) if as_tensor else v for k, v in numbers.items()}
    prior = make(**parameters)
    if name in ("cauchy", "heavy_student"):
        assert math.isnan(float(prior.mean()))
        assert float(prior.variance()) == math.inf
    else:
        assert float(prior.mean()) == pytest.approx(expected.mean(), rel=1e-10)
        assert float(prior.variance()) == pytest.approx(expected.var(), rel=1e-10)


@pytest.mark.parametrize("name", [n for n in TAKES_TENSORS if n not in POSITIVE])
def test_gradients_are_finite_where_a_weight_is_the_location(name: str) -> None:
    make, parameters, _ = FAMILIES[name]
    w = torch.zeros(3, requires_grad=True)
    make(**parameters | {"loc": 0.0}).log_prob(w).sum().backward()
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())


def test_the_gradient_of_the_degrees_of_freedom_is_a_number_where_a_square_overflows() -> None:
    df = torch.tensor(3.0, requires_grad=True)
    P.StudentT(df).log_prob(torch.tensor([1e30, 1.0])).sum().backward()
    assert df.grad is not None
    assert not bool(df.grad.isnan())


def test_improper_and_fixed_add_nothing() -> None:
    w = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert P.Improper().variance() == math.inf
    assert P.Fixed().variance() == 0.0
    for prior in (P.Improper(), P.Fixed()):
        assert torch.equal(prior.log_prob(w), torch.zeros(3, 2))
        with pytest.raises(NotImplementedError, match=r"define sample\(shape"):
            prior.sample((2,))
