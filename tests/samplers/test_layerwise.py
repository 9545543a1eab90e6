"""Layer-wise preconditioning: the masses, the dynamics with them written out, and when they change."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import AMAGOLD, BAOAB, GGMC, HMC, MAP, SGHMC, SGLD, SWAG, Cyclical, Layerwise
from bnnpriors.samplers.layerwise import _Stretched

from ..conjugate import sample
from .targets import Density, Pooled, assert_mean, target_of

STIFF = (1.0, 100.0)


class Two(torch.nn.Module):
    """A module with two parameters, of two elements and one."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.second = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))


def posterior(**options):
    """Two tensors of stiffness 1 and 100."""
    priors = {
        name: Density(lambda w, k=k: 0.5 * k * w**2)
        for name, k in zip(("first", "second"), STIFF, strict=True)
    }
    return bp.Posterior(bp.attach(Two(), priors), **options)


def start(chains):
    return torch.randn(chains, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_masses():
    """M = √(mean ĝ² + 10⁻⁷) of each tensor, divided by the smallest."""
    target = target_of(posterior(), 4)
    theta = start(4)
    state = Layerwise(SGLD()).init(target, theta, Pooled(0, 4))
    root = torch.stack(
        [((theta[:, :2] ** 2).mean(1) + 1e-7).sqrt(), (1e4 * theta[:, 2] ** 2 + 1e-7).sqrt()], dim=1
    )
    mass = root / root.min(1, keepdim=True).values
    torch.testing.assert_close(state.scale, mass[:, [0, 0, 1]] ** -0.5)
    torch.testing.assert_close(state.theta, theta)
    torch.testing.assert_close(state.gradient, theta * torch.tensor([1.0, 1.0, 100.0]).double())


def test_minibatches_of_the_estimate():
    """On minibatches as many estimates as asked for, each with its own batch."""
    y = torch.linspace(-3, 3, 12, dtype=torch.float64)[:, None]
    net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    given = bp.Posterior(bp.attach(net, bp.priors.Normal()), bp.likelihoods.Gaussian(1.0), y, y, batch_size=2)
    target, calls = target_of(given, 3), []

    class Counting(_Stretched):
        def gradient_estimate(self, theta, streams):
            calls.append(self._target.gradient_estimate(theta, streams))
            return calls[-1]

    counted = Counting(target, torch.ones(3, 1, dtype=torch.float64))
    Layerwise(SGLD(), num_batches=8).init(counted, torch.zeros(3, 1).double(), Pooled(0, 3))
    assert len(calls) == 9
    assert not torch.equal(calls[0], calls[1])


def test_dynamics_with_masses_by_hand():
    """SGHMC with M: m ← a m − hĝ √((1+a)/2) + √((1−a²)T) M^½ ε, θ ← θ + h M⁻¹ m √(2/(1+a)); the state has M^{−½} m."""
    target = target_of(posterior(temperature=0.5), 6)
    sampler = Layerwise(SGHMC(step_size=0.1, momentum_decay=0.8))
    state = sampler.init(target, start(6), Pooled(0, 6))
    mass = state.scale**-2
    new, _ = sampler.step(target, state, Pooled(1, 6))
    factor, momentum = 0.9**0.5, state.momentum * mass.sqrt()
    noise = (0.36 * 0.5 * mass).sqrt() * Pooled(1, 6).normal(3)
    momentum = 0.8 * momentum - 0.1 * factor * state.gradient + noise
    torch.testing.assert_close(new.momentum * mass.sqrt(), momentum)
    torch.testing.assert_close(new.theta, state.theta + 0.1 / factor * momentum / mass)
    torch.testing.assert_close(new.gradient, new.theta * torch.tensor([1.0, 1.0, 100.0]).double())


def test_a_new_mass_keeps_the_stretched_momentum():
    """m ← √(M_new/M_old) m, which is the same M^{−½} m; estimates are due every so many warm-up steps, and none after them."""
    target, streams = target_of(posterior(), 5), Pooled(0, 5)
    sampler = Layerwise(SGLD(step_size=0.05), every=3)
    state = sampler.init(target, start(5), streams)
    scales, due = [], []
    for iteration in range(12):
        scales.append(state.scale)
        state, info = sampler.step(target, state, streams)
        if iteration < 9:
            state = sampler.adapt(state, info, iteration, 9)
        due.append(bool(state.due.all()))
    assert [k for k, is_due in enumerate(due) if is_due] == [2, 5]
    changed = [k for k in range(1, 12) if not torch.equal(scales[k], scales[k - 1])]
    assert changed == [4, 7]
    guided = Layerwise(BAOAB(step_size=1e-9, momentum_decay=1.0), every=1)
    first = guided.init(target, start(5), streams)
    first = guided.adapt(first._replace(theta=2 * first.theta + 1), {}, 0, 10)
    second, _ = guided.step(target, first, streams)
    assert not torch.allclose(second.scale, first.scale)
    torch.testing.assert_close(second.momentum, first.momentum, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inner", [MAP(), SWAG()], ids=str)
def test_baselines_are_refused(inner):
    """Their averages of a path would be of coordinates that change with M."""
    with pytest.raises(ValueError, match=r"given, a baseline, expected a sampler.*without Layerwise"):
        Layerwise(inner)


@pytest.mark.parametrize(
    "inner",
    [
        GGMC(0.2, 0.8, steps_per_test=3),
        HMC(0.2, 3, metric="identity"),
        AMAGOLD(0.2, 0.8, 3),
        BAOAB(0.1, 0.8),
    ],
    ids=str,
)
def test_the_law_is_left_as_it_is(inner):
    """Var θ = T/k in both tensors, with masses of warm-up; kinetic temperature is m'²."""
    chains = 1000
    target, streams = target_of(posterior(temperature=0.5), chains), Pooled(0, chains)
    sampler = Layerwise(inner, every=20)
    spread = 0.5**0.5 / torch.tensor([1.0, 1.0, 10.0], dtype=torch.float64)
    state = sampler.init(target, spread * start(chains), streams)
    squares, momenta = torch.zeros(chains, 3).double(), torch.zeros(chains, 3).double()
    for index in range(260):
        state, info = sampler.step(target, state, streams)
        if index < 60:
            state = sampler.adapt(state, info, index, 60)
        elif index >= 100:
            squares += state.theta**2 * torch.tensor([1.0, 1.0, 100.0]) / 0.5 / 160
            momenta += state.momentum**2 / 0.5 / 160
    assert_mean(squares, 1.0, resolution=0.25)
    if not isinstance(inner, BAOAB):
        assert_mean(momenta, 1.0, resolution=0.1)


def test_within_a_schedule():
    draws = sample(
        posterior(), Cyclical(Layerwise(SGHMC(step_size=0.05), every=5), cycle_length=10),
        num_samples=5, num_warmup=20, num_chains=2,
    )  # fmt: skip
    assert draws.theta.isfinite().all()


@pytest.mark.parametrize("options", [{"num_batches": 0}, {"every": 0}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Layerwise(SGLD(), **options)
