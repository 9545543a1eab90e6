"""pSGLD: its update by hand, the freeze of its metric, and what is left out where it is not frozen."""

import pytest
import torch

from bnnpriors.checks.chains import Subject
from bnnpriors.checks.equilibrium import check_banana
from bnnpriors.samplers import PSGLD

from .targets import Pooled, assert_mean, of_potential, target_of
from .test_sgld import mean_posterior


def start(chains, dim=1):
    return torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_step_by_hand():
    """G = 1/(λ + √V/N); θ − (h²/2) G ĝ + h √(TG) ε; V starts at a tensor's mean and learns in warm-up."""
    posterior, precision, mean, _ = mean_posterior(temperature=0.5)
    target = target_of(posterior, 6)
    sampler = PSGLD(step_size=0.3, square_decay=0.9, damping=0.1)
    state = sampler.init(target, start(6), Pooled(0, 6))
    torch.testing.assert_close(state.gradient, precision * (state.theta - mean))
    torch.testing.assert_close(state.square, state.gradient**2)
    new, _ = sampler.step(target, state, Pooled(1, 6))
    metric = 1 / (0.1 + state.gradient.abs() / 12)
    noise = 0.3 * (0.5 * metric).sqrt() * Pooled(1, 6).normal(1)
    torch.testing.assert_close(new.theta, state.theta - 0.045 * metric * state.gradient + noise)
    assert new.square is state.square
    adapted = sampler.adapt(new, {}, 0, 10)
    torch.testing.assert_close(adapted.square, 0.9 * state.square + 0.1 * new.gradient**2)


def test_the_square_starts_at_the_mean_of_its_tensor():
    target = target_of(of_potential(lambda x: 0.5 * x**2, dim=3), 4)
    state = PSGLD().init(target, start(4, 3), Pooled(0, 4))
    torch.testing.assert_close(state.square, (state.theta**2).mean(1, keepdim=True).expand(4, 3))


def test_always_learning_is_the_papers_algorithm():
    """V is updated by the gradient before the step that it scales, and not by `adapt`."""
    target = target_of(of_potential(lambda x: 0.5 * x**2), 4)
    sampler = PSGLD(step_size=0.3, square_decay=0.9, freeze=False)
    state = sampler.init(target, start(4), Pooled(0, 4))._replace(
        square=torch.ones(4, 1, dtype=torch.float64)
    )
    new, _ = sampler.step(target, state, Pooled(1, 4))
    square = 0.9 + 0.1 * state.gradient**2
    torch.testing.assert_close(new.square, square)
    metric = 1 / (1e-5 + square.sqrt())
    noise = 0.3 * metric.sqrt() * Pooled(1, 4).normal(1)
    torch.testing.assert_close(new.theta, state.theta - 0.045 * metric * state.gradient + noise)
    assert sampler.adapt(new, {}, 0, 10) is new


def test_a_frozen_metric_has_the_error_of_sgld():
    """With G fixed, Var θ = (T/k)/(1 − h²Gk/4): another step size for each element, and no other error."""
    chains, step = 2000, 0.5
    stiffness = torch.tensor([1.0, 9.0], dtype=torch.float64)
    target = target_of(of_potential(lambda x: 0.5 * stiffness * x**2, dim=2, temperature=2.0), chains)
    sampler, streams = PSGLD(step_size=step, damping=1e-9), Pooled(0, chains)
    state = sampler.init(target, start(chains, 2), streams)
    metric = torch.tensor([2.0, 0.5], dtype=torch.float64)
    state = state._replace(square=(metric**-2).expand(chains, 2))
    squares = []
    for index in range(250):
        state, _ = sampler.step(target, state, streams)
        if index >= 100:
            squares.append(state.theta**2 * stiffness / 2.0)
    exact = 1 / (1 - step**2 * metric * stiffness / 4)
    assert_mean(torch.stack(squares).mean(0), exact, resolution=0.1)


def test_warm_up_learns_scales():
    """After warm-up V is the mean of ĝ², k T here, within what the missing term of the warm-up takes away."""
    chains = 200
    stiffness = torch.tensor([1.0, 100.0], dtype=torch.float64)
    target = target_of(of_potential(lambda x: 0.5 * stiffness * x**2, dim=2), chains)
    sampler, streams = PSGLD(step_size=0.3, square_decay=0.995), Pooled(0, chains)
    state = sampler.init(target, start(chains, 2) / stiffness.sqrt(), streams)
    for index in range(1500):
        state, info = sampler.step(target, state, streams)
        state = sampler.adapt(state, info, index, 1500)
    torch.testing.assert_close(state.square.mean(0), stiffness, rtol=0.4, atol=0)


def test_the_missing_term_is_an_error_that_no_step_size_removes():
    """`check_sampler` passes the frozen metric and not the other."""
    assert check_banana(Subject(PSGLD(), 0, None, None))[0]
    assert not check_banana(Subject(PSGLD(square_decay=0.9, freeze=False), 0, None, None))[0]


@pytest.mark.parametrize("options", [{"step_size": 0.0}, {"damping": 0.0}, {"square_decay": 1.5}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PSGLD(**options)
