"""Likelihoods against SciPy, their latent parameters, and the targets that they refuse."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from bnnpriors import priors as P
from bnnpriors.likelihoods import Categorical, Gaussian, Likelihood


def _randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("scale", [1, 0.3, 2.5])
@pytest.mark.parametrize("shape", [(6, 1), (6, 3), (6,), (6, 2, 2)])
def test_gaussian_is_scipys(scale: float, shape: tuple[int, ...]) -> None:
    outputs, y = _randn(2, *shape)
    expected = scipy.stats.norm(outputs.numpy(), scale).logpdf(y.numpy()).reshape(6, -1).sum(1)
    likelihood = Gaussian(scale)
    torch.testing.assert_close(likelihood.log_prob(outputs, y), torch.as_tensor(expected))
    torch.testing.assert_close(likelihood(outputs, y), torch.as_tensor(expected))
    assert torch.equal(likelihood.mean(outputs), outputs)
    torch.testing.assert_close(likelihood.variance(outputs), torch.full(shape, scale**2, dtype=torch.float64))
    assert likelihood.kind == "regression"
    assert likelihood.layout.dim == 0
    assert likelihood.log_prior().item() == 0.0


def test_categorical_is_the_log_softmax() -> None:
    logits, y = 30 * _randn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    expected = torch.as_tensor(scipy.special.log_softmax(logits.numpy(), axis=1))
    likelihood = Categorical()
    torch.testing.assert_close(likelihood.log_probs(logits), expected)
    torch.testing.assert_close(likelihood.log_prob(logits, y), expected[range(7), y])
    assert likelihood.kind == "classification"


def test_a_miss_of_many_nats_keeps_its_value_and_gradient() -> None:
    logits = torch.tensor([[40.0, 0.0]], requires_grad=True)
    value = Categorical().log_prob(logits, torch.tensor([1]))
    value.sum().backward()
    assert value.item() == pytest.approx(-40.0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))


def test_log_prob_gradients_equal_finite_differences() -> None:
    outputs, y = _randn(2, 4, 3)
    assert torch.autograd.gradcheck(
        lambda o: Gaussian(0.7).log_prob(o, y), (outputs.clone().requires_grad_(),)
    )
    labels = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(
        lambda o: Categorical().log_prob(o, labels), (outputs.clone().requires_grad_(),)
    )


def test_a_learnt_scale_is_a_latent_with_its_prior_and_jacobian() -> None:
    likelihood = Gaussian(P.HalfCauchy(2.0)).double()
    assert likelihood.layout.shapes == (("scale", ()),)
    u = torch.tensor(-0.7, dtype=torch.float64)
    values, density = likelihood.values({"scale": u})
    assert values["scale"].item() == pytest.approx(math.exp(-0.7))
    expected = scipy.stats.halfcauchy(scale=2.0).logpdf(math.exp(-0.7)) - 0.7
    assert density.item() == pytest.approx(expected, abs=1e-10)

    outputs, y = _randn(2, 5, 2)
    fixed = Gaussian(math.exp(-0.7)).log_prob(outputs, y)
    swapped = functional_call(likelihood, likelihood.swaps({"scale": u}), (outputs, y))
    torch.testing.assert_close(swapped, fixed)
    torch.testing.assert_close(likelihood.at({"scale": math.exp(-0.7)}).log_prob(outputs, y), fixed)
    torch.testing.assert_close(likelihood.log_prob(outputs, y), Gaussian(1.0).log_prob(outputs, y))


def test_the_noise_scale_differs_by_chain_under_vmap() -> None:
    likelihood = Gaussian(P.HalfNormal(P.Gamma(2.0, 1.0)))
    assert likelihood.layout.names == ("scale", "scale.scale")
    outputs, y = _randn(3, 5, 2), _randn(5, 2)
    u = _randn(2, 3)

    def each(outputs: Tensor, scale: Tensor, above: Tensor) -> Tensor:
        swaps = likelihood.swaps({"scale": scale, "scale.scale": above})
        return functional_call(likelihood, swaps, (outputs, y))

    together = vmap(each)(outputs, u[0], u[1])
    for chain in range(3):
        torch.testing.assert_close(
            together[chain], Gaussian(u[0, chain].exp().item()).log_prob(outputs[chain], y)
        )


class TwoScales(Likelihood):
    """A regression whose signal and noise both have scales of their own."""

    kind = "regression"

    def __init__(self) -> None:
        super().__init__()
        self.add_parameter("gain", P.Gamma(2.0, 1.0))
        self.add_parameter("scale", P.HalfNormal(1.0))

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        noise = Gaussian(1.0).at({"scale": self.parameter_value("scale")})
        return noise.log_prob(self.parameter_value("gain") * outputs, y)


def test_the_log_prior_sums_over_all_parameters() -> None:
    likelihood = TwoScales()
    latents = {
        "gain": torch.tensor(0.3, dtype=torch.float64),
        "scale": torch.tensor(-0.4, dtype=torch.float64),
    }
    expected = scipy.stats.gamma(2.0).logpdf(math.exp(0.3)) + 0.3
    expected += scipy.stats.halfnorm.logpdf(math.exp(-0.4)) - 0.4
    assert likelihood.values(latents)[1].item() == pytest.approx(expected, abs=1e-10)
    outputs, y = _randn(2, 5, 2)
    swapped = functional_call(likelihood, likelihood.swaps(latents), (outputs, y))
    torch.testing.assert_close(swapped, Gaussian(math.exp(-0.4)).log_prob(math.exp(0.3) * outputs, y))


def test_prior_draws_are_reproducible_and_of_the_asked_dtype() -> None:
    likelihood = TwoScales()
    like = torch.zeros(1, dtype=torch.float64)
    first = likelihood.sample_prior(like, torch.Generator().manual_seed(0))
    again = likelihood.sample_prior(like, torch.Generator().manual_seed(0))
    assert {name: value.dtype for name, value in first.items()} == dict.fromkeys(
        ("gain", "scale"), torch.float64
    )
    assert first == again
    assert first["gain"] != first["scale"]


@pytest.mark.parametrize(
    "likelihood", [Gaussian(0.5), Gaussian(P.HalfCauchy(1.0)), Categorical(), TwoScales()]
)
def test_pickle_and_copy(likelihood: Likelihood) -> None:
    outputs, y = _randn(2, 5, 2)
    target = torch.tensor([0, 1, 1, 0, 1]) if likelihood.kind == "classification" else y
    for twin in (pickle.loads(pickle.dumps(likelihood)), copy.deepcopy(likelihood)):
        torch.testing.assert_close(twin.log_prob(outputs, target), likelihood.log_prob(outputs, target))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_gaussian_refuses_a_scale_that_is_not_positive(scale: float) -> None:
    with pytest.raises(ValueError, match=r"Gaussian: scale .* given, expected a positive number or a prior"):
        Gaussian(scale)


def test_gaussian_targets() -> None:
    likelihood = Gaussian()
    assert likelihood.prepare(torch.tensor([1, 2]), torch.float32).dtype == torch.float32
    with pytest.raises(ValueError, match=r"dtype torch\.bool given, expected real numbers"):
        likelihood.prepare(torch.tensor([True]), torch.float32)
    with pytest.raises(ValueError, match=r"outputs \(4, 1\) but targets \(4,\): .*y\[:, None\]"):
        likelihood.check((4, 1), torch.zeros(4))


@pytest.mark.parametrize("y", [torch.zeros(3), torch.eye(3).long(), torch.tensor([True, False])])
def test_categorical_refuses_targets_that_are_not_labels(y: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"expected integer labels \[N\]; convert one-hot targets with y\.argmax\(1\)"
    ):
        Categorical().prepare(y, torch.float32)


def test_categorical_takes_any_integer_dtype() -> None:
    for dtype in (np.uint8, np.int16, np.int32, np.int64):
        assert (
            Categorical().prepare(torch.as_tensor(np.array([0, 1], dtype)), torch.float32).dtype
            == torch.int64
        )


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_categorical_refuses_labels_out_of_range(labels: list[int]) -> None:
    with pytest.raises(
        ValueError, match=rf"labels from {min(labels)} to {max(labels)} given, expected 0 to 2"
    ):
        Categorical().check((2, 3), torch.tensor(labels))
    with pytest.raises(ValueError, match=r"outputs \(2, 3, 4\) for 2 labels: expected logits \(2, classes\)"):
        Categorical().check((2, 3, 4), torch.tensor(labels))


def test_a_class_without_log_prob_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Likelihood has no log_prob\(outputs, y\)"):
        Likelihood().log_prob(torch.zeros(1, 1), torch.zeros(1, 1))
