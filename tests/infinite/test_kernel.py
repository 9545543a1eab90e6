"""The laws of every kernel, its exact limits, its gradients, and GPyTorch's view of it."""

import copy
import pickle

import gpytorch
import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite.plan import lay_out
from bnnpriors.infinite.trace import trace

from .networks import NETWORKS, inputs, model

P = bp.priors
ONE_PAIR = 1
"""A memory budget so small that each block is one pair."""


@pytest.mark.parametrize("name", NETWORKS)
def test_laws(name: str) -> None:
    """Symmetric, positive semi-definite, the same in blocks, in parts and alone, and nearly so in float32."""
    kernel, x = infinite.kernel(model(name)), inputs(name, 7)
    x[5] = x[2]
    whole = kernel.gram(x)
    assert torch.equal(whole, whole.T)
    assert float(torch.linalg.eigvalsh(whole).min()) > -1e-12 * float(whole.diagonal().max())
    nine_pairs = 9 * 8 * lay_out(kernel.program, NETWORKS[name][1]).peak
    for memory in (ONE_PAIR, nine_pairs):
        torch.testing.assert_close(kernel.gram(x, memory=memory), whole, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(kernel.matrix(x, memory=memory).detach(), whole, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(kernel.gram(x[:3], x[2:]), whole[:3, 2:], rtol=1e-7, atol=0)
    assert torch.equal(kernel.variance(x).detach(), whole.diagonal())
    torch.testing.assert_close(whole[5], whole[2], rtol=1e-7, atol=0)
    single = kernel.gram(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), whole, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tangent_kernel(name: str) -> None:
    """Symmetric, positive semi-definite, the same in blocks, at least K."""
    kernel, x = infinite.kernel(model(name)), inputs(name, 4)
    tangent = kernel.ntk(x)
    assert torch.equal(tangent, tangent.T)
    assert float(torch.linalg.eigvalsh(tangent - kernel.gram(x)).min()) > -1e-10
    torch.testing.assert_close(kernel.ntk(x, memory=ONE_PAIR), tangent, rtol=1e-10, atol=1e-12)


def test_the_tangent_kernel_of_a_wide_network() -> None:
    """Σ_θ s_θ² ∂f/∂θ ∂f'/∂θ, s the prior's scales, of one network of width 2048: its relative deviation is of order
    1/√2048 = .022, and .11 is five times that."""
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(3, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 1))
    priors = {"*.weight": P.Normal(0.0, P.fan_in(1.3)), "*.bias": P.Normal(0.0, 0.4)}
    network = bp.attach(wide, priors)
    network.sample_prior_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    rows = []
    for single in x:
        gradients = torch.autograd.grad(network(single[None]).sum(), list(wide.parameters()))
        scales = [network.named_priors()[name].scale for name, _ in wide.named_parameters()]  # type: ignore[attr-defined]
        rows.append(torch.cat([(s * g).flatten() for s, g in zip(scales, gradients, strict=True)]))
    finite = torch.stack(rows) @ torch.stack(rows).T
    expected = infinite.kernel(network).ntk(x)
    assert float(((finite - expected) / expected.diagonal().mean()).abs().max()) < 0.11


def test_no_inputs_and_one_input() -> None:
    kernel, x = infinite.kernel(model("strided")), inputs("strided", 2)
    assert kernel.gram(x[:1]).shape == (1, 1)
    assert kernel.gram(x, x[:0]).shape == (2, 0)
    assert kernel.gram(x[:0]).shape == (0, 0)


def _convolutions(prior: P.Prior, head: nn.Module | None = None) -> infinite.InfiniteWidthKernel:
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)] if head is None else [head, nn.Flatten()]
    net = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, (2, 3)), nn.ReLU(), *tail)
    head_prior = {"4.weight": prior} if head is not None else {}
    other = {"2.weight": prior} if head is None else {}
    return infinite.kernel(bp.attach(net, {**head_prior, **other, "*": P.Normal(0.0, 0.4)}))


def test_correlated_weights_without_correlation_are_independent_weights() -> None:
    """Σ = δ, with the full covariance and with the diagonal alone; the jitter of the prior is 1e-8."""
    x = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = P.CorrelatedNormal(0.4, torch.eye(6, dtype=torch.float64))
    expected = _convolutions(P.Normal(0.0, 0.4)).gram(x)
    torch.testing.assert_close(_convolutions(unit).gram(x), expected, rtol=1e-7, atol=0)
    whole = nn.Conv2d(1, 1, 3)
    unit = P.CorrelatedNormal(0.4, torch.eye(9, dtype=torch.float64))
    expected = _convolutions(P.Normal(0.0, 0.4), whole).gram(x)
    torch.testing.assert_close(_convolutions(unit, whole).gram(x), expected, rtol=1e-7, atol=0)


def test_fully_correlated_weights_are_mean_pooling() -> None:
    """Σ = 1/F²: a convolution over all positions with one weight is a mean and a dense layer."""
    x = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones(9, 9, dtype=torch.float64)
    readout = _convolutions(P.CorrelatedNormal(0.4 / 9, ones), nn.Conv2d(1, 1, 3))
    pooled = _convolutions(P.Normal(0.0, 0.4))
    torch.testing.assert_close(readout.gram(x), pooled.gram(x), rtol=1e-7, atol=0)


def test_padding_makes_many_positions_of_one() -> None:
    """Each output sees the one position through a tap of its own: K_qq' = δ_qq' σ² K, and its mean over 9 positions is σ² K/9."""
    net = nn.Sequential(
        nn.Conv2d(2, 1, 3, bias=False),
        nn.Conv2d(1, 1, 3, padding=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1, 1, bias=False),
    )
    x = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 0.5**2 / 9 * 0.3**2 * 0.5**2 * x.flatten(1) @ x.flatten(1).T
    for prior in (P.Normal(0.0, 0.3), P.CorrelatedNormal(0.3, torch.eye(9, dtype=torch.float64))):
        kernel = infinite.kernel(bp.attach(net, {"1.weight": prior, "*": P.Normal(0.0, 0.5)}))
        torch.testing.assert_close(kernel.gram(x), expected, rtol=1e-7, atol=0)


def test_positions_are_kept_apart_only_where_they_have_to_be() -> None:
    """The diagonal shortcut: no pooling and no correlated weights, no covariance between different positions."""
    assert not any(lay_out(trace(model("strided")), (2, 5, 4)).is_full)
    plan = lay_out(trace(model("pooled")), (2, 4, 3))
    assert any(plan.is_full)
    assert not any(
        full
        for full, positions in zip(plan.is_full, plan.positions, strict=True)
        if positions in ((), (1, 1))
    )
    net = nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(1, 1, 3),
        nn.ReLU(),
        nn.Conv2d(1, 1, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, 1),
    )
    plan = lay_out(trace(bp.attach(net, P.Normal(0.0, 1.0))), (1, 10, 10))
    assert plan.is_full == (True, *(False,) * 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name: str) -> None:
    """In every hyperparameter and the inputs, in blocks of one pair and in one block, against central differences."""
    kernel, x = infinite.kernel(model(name)), inputs(name, 2)
    raw = [kernel.raw_weight_variance, kernel.raw_bias_variance]
    raw += [kernel.raw_lengthscale_of_taps] if kernel.tap_names else []
    mix = torch.randn(2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value() -> Tensor:
        return (mix * kernel.matrix(x)).sum()

    gradients = torch.autograd.grad(value(), raw)
    in_blocks = torch.autograd.grad((mix * kernel.matrix(x, memory=ONE_PAIR)).sum(), raw)
    for parameter, gradient, other in zip(raw, gradients, in_blocks, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-12)
        for index in range(parameter.numel()):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[index] += step
                    ends.append(float(value()))
                    parameter[index] -= step
            assert float(gradient[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7)
    x.requires_grad_()
    assert bool(torch.autograd.grad(value(), x)[0].isfinite().all())


def test_hyperparameters_have_names_and_can_be_set() -> None:
    kernel = infinite.kernel(model("pooled"))
    assert kernel.tap_names == ["0.1.branch.0", "0.4"]
    assert kernel.bias_names == ["0.0", "0.1.branch.0", "0.4", "1"]
    assert kernel.layer_names == ["0.0", "0.1.branch.0", "0.2.branch.0", "0.4", "1"]
    assert kernel.lengthscale_of_taps.tolist() == pytest.approx([1.5, 2.0])
    before = kernel.gram(inputs("pooled", 2))
    kernel.set(lengthscale_of_taps=3.0, weight_variance=kernel.weight_variance * 2)
    assert kernel.lengthscale_of_taps.tolist() == pytest.approx([3.0, 3.0])
    assert not torch.allclose(kernel.gram(inputs("pooled", 2)), before, rtol=1e-2)
    for bad, message in (
        ({"lengthscale": 1.0}, "expected one of"),
        ({"weight_variance": -1.0}, "expected positive numbers"),
        ({"weight_variance": torch.ones(2)}, r"expected \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            kernel.set(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_and_states(name: str) -> None:
    """A pickled copy and a deep copy are the same; a state that is loaded brings the hyperparameters."""
    kernel, x = infinite.kernel(model(name)), inputs(name, 2)
    other = infinite.kernel(model(name))
    kernel.set(weight_variance=1.7)
    expected = kernel.gram(x)
    for copied in (pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel)):
        assert torch.equal(copied.gram(x), expected)
    assert not torch.allclose(other.gram(x), expected)
    other.load_state_dict(kernel.state_dict())
    assert torch.equal(other.gram(x), expected)


def test_one_pixel_is_the_arc_cosine_kernel() -> None:
    """√2 ReLU of one pixel with two channels: (1/π)[√(vv'−c²) + (π−θ)c], c = mean of x x', here .6090 for v = v' = 1, c = .5."""
    net = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(1, 1, bias=False))
    priors = {"0.weight": P.Normal(0.0, P.fan_in()), "3.weight": P.Normal(0.0, P.fan_in(2**0.5))}
    x = torch.tensor([[1.0, 1.0], [0.5 + 0.75**0.5, 0.5 - 0.75**0.5]], dtype=torch.float64)[..., None, None]
    gram = infinite.kernel(bp.attach(net, priors)).gram(x)
    assert float(gram[0, 1]) == pytest.approx(
        (0.75**0.5 + (torch.pi - torch.pi / 3) * 0.5) / torch.pi, rel=1e-14
    )
    assert float(gram[0, 1]) == pytest.approx(0.6090, abs=5e-5)
    assert gram.diagonal().tolist() == pytest.approx([1.0, 1.0], rel=1e-14)


def test_gpytorch_takes_it_as_a_kernel() -> None:
    """Flat rows, batches, diagonals, and inside a scaled sum."""
    shape = NETWORKS["strided"][1]
    kernel = infinite.kernel(model("strided"), input_shape=shape)
    images = inputs("strided", 6)
    rows = images.flatten(1)
    expected = kernel.gram(images)
    assert isinstance(kernel, gpytorch.kernels.Kernel)
    torch.testing.assert_close(kernel(rows).to_dense().detach(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        kernel(rows[:2], rows[2:]).to_dense().detach(), expected[:2, 2:], rtol=1e-7, atol=0
    )
    torch.testing.assert_close(kernel(rows, diag=True).detach(), expected.diagonal())
    torch.testing.assert_close(
        kernel(rows[:3], rows[3:], diag=True).detach(), expected.diagonal(3), rtol=1e-7, atol=0
    )
    batched = kernel(rows.reshape(2, 3, -1)).to_dense().detach()
    torch.testing.assert_close(batched[1], expected[3:, 3:], rtol=1e-7, atol=0)
    both = gpytorch.kernels.ScaleKernel(kernel).double() + gpytorch.kernels.RBFKernel().double()
    assert both(rows).to_dense().shape == (6, 6)
    with pytest.raises(NotImplementedError, match="last_dim_is_batch"):
        kernel.forward(rows, rows, last_dim_is_batch=True)


def test_inputs_that_no_kernel_takes(as_a_user_meets_it: None) -> None:
    kernel, x = infinite.kernel(model("strided")), inputs("strided", 2)
    with pytest.raises(TypeError, match="uint8"):
        kernel.gram(x.to(torch.uint8))
    with pytest.raises(ValueError, match="memory 0"):
        kernel.gram(x, memory=0)
    with pytest.raises(ValueError, match="NaN"):
        kernel.gram(x / 0)
    with pytest.raises(ValueError, match=r"flat rows.*input_shape"):
        kernel.gram(x.flatten(1))
    with pytest.raises(ValueError, match="one shape and dtype"):
        kernel.matrix(x, x.float())
    with pytest.raises(ValueError, match=r"expected \[n, features\]"):
        kernel.gram(x[0, 0, 0])
    with pytest.raises(ValueError, match="rows of 40 numbers"):
        infinite.kernel(model("strided"), input_shape=(2, 5, 4)).gram(x.flatten(1)[:, 1:])
    with pytest.raises(ValueError, match="expects 2 channels"):
        infinite.kernel(model("strided"), input_shape=(3, 5, 4))
