"""Replica exchange: its ratio, what is swapped and what stays, and a double well in which a chain alone would stick."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import (
    AMAGOLD,
    GGMC,
    HMC,
    MAP,
    SGHMC,
    SGLD,
    SWAG,
    Cyclical,
    Layerwise,
    ReplicaExchange,
)
from bnnpriors.samplers.exchange import _Ladder

from ..conjugate import regression, sample
from .targets import LIMIT, Accepting, Pooled, Refusing, assert_mean, of_potential, standard_errors, target_of

LADDER = [0.15, 4.0, 0.45, 1.35]
INNER = HMC(step_size=0.1, num_steps=8, metric="identity")


def wells(x):
    """U = 4(x² − 1)² + x/10: two wells, with a barrier of 27 T between them at the lowest temperature."""
    return 4 * (x**2 - 1) ** 2 + 0.1 * x


def moments(temperature):
    """E x and E x² by the trapezium rule."""
    x = torch.linspace(-5, 5, 40_001, dtype=torch.float64)
    weight = torch.softmax(-wells(x) / temperature, 0)
    return float((weight * x).sum()), float((weight * x**2).sum())


def averages(sampler, columns=300, steps=400):
    """E x and E x² of each chain after a quarter of the steps, [rungs, chains], and the last figures. All start at x = 1."""
    chains = columns * len(LADDER)
    target, streams = target_of(of_potential(wells, temperature=LADDER), chains), Pooled(0, chains)
    state = sampler.init(target, torch.ones(chains, 1, dtype=torch.float64), streams)
    sums = torch.zeros(2, chains, dtype=torch.float64)
    for index in range(steps):
        state, info = sampler.step(target, state, streams)
        if index >= steps // 4:
            sums += torch.stack([state.theta[:, 0], state.theta[:, 0] ** 2])
    return (sums / (steps - steps // 4)).unflatten(1, (len(LADDER), columns)), info


def test_a_chain_alone_sticks_and_with_exchange_it_has_the_exact_moments():
    stuck, _ = averages(INNER)
    assert (stuck[0, 0] > 0.5).all()
    (means, squares), info = averages(ReplicaExchange(INNER, every=2))
    for rung, temperature in enumerate(LADDER):
        mean, square = moments(temperature)
        assert_mean(means[rung], mean, resolution=0.15)
        assert_mean(squares[rung], square, resolution=0.1)
    rates = info["swap_acceptance"].unflatten(0, (4, -1)).mean(1)
    assert rates.isnan().tolist() == [False, True, False, False]
    assert (rates[[0, 2, 3]] > 0.1).all()
    assert info["round_trips"].sum() > 300


class WithoutTemperatures(ReplicaExchange):
    """The fault: exp(U_i − U_j) of the colder chain i, without the factor 1/T_i − 1/T_j."""

    def log_ratio(self, temperature, potential, swapped, partner):
        colder = torch.where(temperature < temperature[partner], 1.0, -1.0)
        return colder * (potential - potential[partner])


class Halved(ReplicaExchange):
    """The fault: the change of one of the two chains alone, on average."""

    def log_ratio(self, temperature, potential, swapped, partner):
        return 0.5 * super().log_ratio(temperature, potential, swapped, partner)


class UpsideDown(ReplicaExchange):
    """The fault: the ratio of the swap back."""

    def log_ratio(self, temperature, potential, swapped, partner):
        return -super().log_ratio(temperature, potential, swapped, partner)


def harmonic_distances(kind, columns=1000, steps=60):
    """Of E x² from T in U = x²/2, at the lower and the higher of two temperatures, in standard errors: from draws of the law,
    with 1/T_i − 1/T_j = 45, far from the 1 that a ratio without temperatures has, so that nearly all wrong swaps are made."""
    ladder = torch.tensor([0.02, 0.2], dtype=torch.float64).repeat_interleave(columns)
    target = target_of(of_potential(lambda x: 0.5 * x**2, temperature=[0.02, 0.2]), len(ladder))
    sampler, streams = kind(HMC(0.5, 3, metric="identity")), Pooled(0, len(ladder))
    state = sampler.init(target, ladder.sqrt()[:, None] * streams.normal(1), streams)
    squares = torch.zeros_like(ladder)
    for _ in range(steps):
        state, _ = sampler.step(target, state, streams)
        squares += state.theta[:, 0] ** 2 / steps
    return [float(standard_errors(part, t)[0]) for part, t in zip(squares.chunk(2), (0.02, 0.2), strict=True)]


def test_the_right_ratio_leaves_the_law_as_it_is():
    assert max(map(abs, harmonic_distances(ReplicaExchange))) < LIMIT


@pytest.mark.parametrize("kind", [WithoutTemperatures, Halved, UpsideDown])
def test_a_wrong_ratio_is_found(kind):
    assert max(map(abs, harmonic_distances(kind))) > 4 * LIMIT


@pytest.mark.parametrize("tempering", ["posterior", "likelihood"])
def test_the_ratio(tempering):
    """(1/T_i − 1/T_j)(U_i − U_j), with the negative log likelihood in the place of U where it alone is tempered."""
    given, *_ = regression(temperature=[0.5, 2.0], tempering=tempering)
    target = target_of(given, 6)
    theta = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    partner = torch.tensor([3, 4, 5, 0, 1, 2])
    found = ReplicaExchange(INNER).log_ratio(
        target.temperature, target.potential(theta), target.potential(theta[partner]), partner
    )
    part = target.potential(theta)
    if tempering == "likelihood":
        part = part + target.temperature * torch.stack(
            [torch.distributions.Normal(0.0, 1.0).log_prob(row).sum() for row in theta]
        )
    expected = (1 / target.temperature - 1 / target.temperature[partner]) * (part - part[partner])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, found[partner])


@pytest.mark.parametrize(
    "inner", [GGMC(0.2, 0.8, steps_per_test=2), AMAGOLD(0.2, 0.8, 2), INNER, Layerwise(INNER)], ids=str
)
def test_what_is_swapped_and_what_stays(inner):
    """θ, and m √(T_new/T_old), go; the step size stays; potential and gradient are those of the new place."""
    target = target_of(of_potential(wells, dim=2, temperature=[4.0, 0.5]), 6)
    sampler, theta = (
        ReplicaExchange(inner),
        torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double(),
    )
    state = sampler.init(target, theta, Pooled(0, 6))
    state = state._replace(step_size=torch.arange(6.0).double(), momentum=torch.randn_like(theta))
    new = sampler._turn(target, state, Accepting(1, 6), 0)
    partner = torch.tensor([3, 4, 5, 0, 1, 2])
    torch.testing.assert_close(new.theta, theta[partner])
    factor = torch.tensor([8.0] * 3 + [1 / 8] * 3).double().sqrt()[:, None]
    torch.testing.assert_close(new.momentum, state.momentum[partner] * factor)
    torch.testing.assert_close(new.step_size, state.step_size)
    assert new.replica.tolist() == [0, 0, 0, 1, 1, 1]
    potential, gradient = target.value_and_gradient(new.theta)
    torch.testing.assert_close(new.potential, potential)
    if "gradient" in new._fields:
        torch.testing.assert_close(new.gradient, gradient)
    refused = sampler._turn(target, state, Refusing(1, 6), 0)
    for name, value in state._asdict().items():
        if name not in ("proposed", "chance", "headed"):
            assert torch.equal(getattr(refused, name), value), name


def test_pairs_take_turns():
    """Neighbours in temperature, in whatever order they are given; a chain without a counterpart sits out."""
    ladder = _Ladder(torch.tensor([2.0, 2.0, 0.5, 0.5, 1.0, 1.0, 1.0]))
    partner, lower = ladder.pairs(0)
    assert partner.tolist() == [0, 1, 4, 5, 2, 3, 6]
    assert lower.tolist() == [False, False, True, True, False, False, False]
    partner, lower = ladder.pairs(1)
    assert partner.tolist() == [4, 5, 2, 3, 0, 1, 6]
    assert lower.tolist() == [False, False, False, False, True, True, False]


def test_round_trips():
    """Lowest, highest, lowest is one; highest, lowest is none."""
    target = target_of(of_potential(wells, temperature=[0.5, 1.0]), 2)
    sampler = ReplicaExchange(INNER)
    state = sampler.init(target, torch.zeros(2, 1).double(), Pooled(0, 2))
    seen = []
    for _ in range(5):
        state = sampler._turn(target, state, Accepting(1, 2), 0)
        seen.append((state.replica.tolist(), state.trips.tolist()))
    assert seen[:4] == [([1, 0], [0, 0]), ([0, 1], [1, 0]), ([1, 0], [1, 1]), ([0, 1], [2, 1])]


def test_turns_come_every_so_many_steps_and_figures_begin_after_warm_up():
    target, streams = target_of(of_potential(wells, temperature=[0.5, 1.0, 2.0]), 3), Accepting(0, 3)
    sampler = ReplicaExchange(INNER, every=3)
    state = sampler.init(target, torch.zeros(3, 1).double(), streams)
    proposed = []
    for index in range(12):
        state, info = sampler.step(target, state, streams)
        if index < 6:
            state = sampler.adapt(state, info, index, 6)
        proposed.append(state.proposed.tolist())
    assert proposed[2] == [0, 1, 0]
    assert proposed[4] == [0, 1, 0]
    assert proposed[5] == [0, 0, 0]
    assert proposed[8] == [0, 1, 0]
    assert proposed[11] == [1, 1, 0]


def test_a_run_is_resumed_bit_for_bit(tmp_path):
    """Between two turns, and in the middle of round trips."""
    given, *_ = regression(temperature=[0.5, 1.0, 2.0], batch_size=5)
    sampler = ReplicaExchange(GGMC(step_size=0.09, steps_per_test=2, target_acceptance=0.8), every=3)
    options = {"num_warmup": 20, "num_chains": 2, "seed": 1}
    whole = sample(given, sampler, num_samples=120, **options)
    sample(given, sampler, num_samples=53, store=tmp_path / "a", **options)
    joined = sample(given, sampler, num_samples=120, store=tmp_path / "a", resume=True, **options)
    assert torch.equal(joined.theta, whole.theta)
    for name, value in whole.stats.items():
        assert torch.equal(joined.stats[name].nan_to_num(), value.nan_to_num()), name
    assert {"swap_acceptance", "replica", "round_trips", "acceptance"} <= set(whole.stats)
    assert whole.stats["replica"].unique().tolist() == [0, 1, 2]
    assert whole.stats["round_trips"][:, -1].sum() > 0


def test_what_is_refused():
    given, *_ = regression(temperature=[0.5, 1.0], batch_size=5)
    with pytest.raises(
        ValueError, match=r"SGHMC estimates gradients on minibatches of 5 .* GGMC\(steps_per_test"
    ):
        sample(given, ReplicaExchange(SGHMC(step_size=0.01)), num_samples=1)
    with pytest.raises(ValueError, match="HMC needs exact gradients"):
        sample(given, ReplicaExchange(INNER), num_samples=1)
    ReplicaExchange(SGLD()).check(regression(temperature=[0.5, 1.0])[0].target(2))
    with pytest.warns(UserWarning, match="one temperature given, so there is nothing to exchange"):
        sample(regression()[0], ReplicaExchange(INNER), num_samples=2)
    for inner in (MAP(), SWAG()):
        with pytest.raises(
            ValueError, match=r"given, a baseline, which has no temperature .* expected a sampler"
        ):
            ReplicaExchange(inner)
    with pytest.raises(
        ValueError, match="the state of Cyclical has a field 'iteration' too: one of them cannot"
    ):
        ReplicaExchange(Cyclical(INNER))
    with pytest.raises(ValueError, match="every 0 given"):
        ReplicaExchange(INNER, every=0)
    ladder, *_ = regression(temperature=[0.5, 1.0])
    with pytest.raises(ValueError, match="cannot be spread over processes"):
        bp.sample(ladder, ReplicaExchange(INNER), num_samples=1, executor="dask")
