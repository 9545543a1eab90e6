"""`bp.optim`: the samplers' own steps, closed forms, resuming, schedules, and what is refused."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnpriors as bp
from bnnpriors.streams import Streams

from .samplers.targets import LIMIT, of_potential, target_of

NUM_DATA = 50
KINDS: dict[str, tuple[type[bp.optim.SamplingOptimizer], Any, dict[str, Any]]] = {
    "SGLD": (bp.optim.SGLD, bp.samplers.SGLD, {}),
    "PSGLD": (bp.optim.PSGLD, bp.samplers.PSGLD, {"square_decay": 0.9}),
    "SGHMC": (bp.optim.SGHMC, bp.samplers.SGHMC, {"momentum_decay": 0.8}),
    "BAOAB": (bp.optim.BAOAB, bp.samplers.BAOAB, {"momentum_decay": 0.8}),
    "GGMC": (bp.optim.GGMC, bp.samplers.GGMC, {"momentum_decay": 0.8}),
    "SGNHT": (bp.optim.SGNHT, bp.samplers.SGNHT, {"momentum_decay": 0.8, "thermostat_steps": 20.0}),
}


def potential(theta: Tensor) -> Tensor:
    return theta**4 / 4 + 2 * theta**2 - 0.3 * theta


def optimizer(name: str, parameters: Any, **options: Any) -> bp.optim.SamplingOptimizer:
    kind, _, own = KINDS[name]
    options = {"lr": 0.5, "num_data": NUM_DATA, "temperature": 0.7, "seed": 0} | own | options
    return kind(parameters, **({"num_warmup": 4} if name == "PSGLD" else {}), **options)


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_the_sampler(name: str) -> None:
    """θ and the momentum at each of ten steps, of two tensors as one vector, from the random numbers of chain 0; the step size
    changes half-way."""
    posterior = of_potential(potential, dim=6, temperature=0.7)
    target = target_of(posterior, 1)
    step_size, own = math.sqrt(0.5 / NUM_DATA), KINDS[name][2]
    sampler = KINDS[name][1](step_size=step_size, **own)
    streams = Streams(3, [(0, 0)], dtype=torch.float64, device=torch.device("cpu"))
    theta = torch.linspace(-1, 1, 6, dtype=torch.float64)[None]
    state = sampler.init(target, theta, streams)
    if name == "PSGLD":
        halves = (state.gradient**2).view(2, 3).mean(1)  # the optimizer sees two tensors
        state = state._replace(square=halves.repeat_interleave(3)[None])
        target = target_of(of_potential(potential, dim=6, temperature=0.7), 1)
        target.num_data = NUM_DATA

    parameters = [nn.Parameter(theta[0, :3].clone()), nn.Parameter(theta[0, 3:].clone().view(3, 1))]
    opt = optimizer(name, parameters, seed=3)
    for index in range(10):
        if index == 5:
            state = state._replace(step_size=0.6 * state.step_size)
            opt.param_groups[0]["lr"] *= 0.6**2
        opt.zero_grad()
        loss = sum(potential(p).sum() for p in parameters) / NUM_DATA
        loss.backward()
        if index and opt.tensors == ("momentum",):
            warm = opt.temperatures()
            torch.testing.assert_close(warm.overall[0], float((state.momentum**2).mean()) / 0.7)
            torch.testing.assert_close(warm.overall[1], float((state.theta * state.gradient).mean()) / 0.7)
        opt.step()
        state, info = sampler.step(target, state, streams)
        if index < 4:
            state = sampler.adapt(state, info, index, 4)
        flat = torch.cat([p.detach().flatten() for p in parameters])[None]
        torch.testing.assert_close(flat, state.theta, rtol=1e-10, atol=1e-12)
    if name == "SGNHT":
        torch.testing.assert_close(opt.state[parameters[0]]["friction"], state.friction)


@pytest.mark.parametrize("name", ["SGLD", "SGHMC", "BAOAB", "GGMC"])
def test_the_variance_in_a_harmonic_potential(name: str) -> None:
    """2000 independent elements of one parameter, each a chain; the closed form of the sampler, at 5.2 standard errors."""
    stiffness, lr = 4.0, 0.4 * NUM_DATA / 4.0
    parameter = nn.Parameter(torch.zeros(2000, dtype=torch.float64))
    opt = optimizer(name, [parameter], lr=lr)
    total = torch.zeros(2000, dtype=torch.float64)
    for index in range(160):
        opt.zero_grad()
        (0.5 * stiffness * parameter**2 / NUM_DATA).sum().backward()
        opt.step()
        if index >= 60:
            total += parameter.detach() ** 2 / 100
    own = {"momentum_decay": 0.8} if name != "SGLD" else {}
    expected = 0.7 * KINDS[name][1](step_size=math.sqrt(lr / NUM_DATA), **own).harmonic_variance(stiffness)
    error = float(total.std()) / 2000**0.5
    assert LIMIT * error < 0.05 * expected
    assert abs(float(total.mean()) - expected) < LIMIT * error


def _loop(
    opt: Any, model: bp.BayesianModule, likelihood: Any, data: Any, steps: int, generator: Any
) -> float:
    loss = torch.zeros(())
    for _ in range(steps):
        rows = torch.randint(len(data.x_train), (32,), generator=generator)
        opt.zero_grad()
        loss = bp.potential(
            model, likelihood, data.x_train[rows], data.y_train[rows], num_data=len(data.x_train)
        )
        loss.backward()
        opt.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_run_goes_on_bit_for_bit(name: str) -> None:
    """Parameters, noise and momenta after 3 + 4 steps are those after 7, through `state_dict`s written to disk."""
    data = bp.datasets.diabetes(seed=0)
    ends = []
    for resumed in (False, True):
        model, likelihood = _model()
        opt = optimizer(name, _parameters(model, likelihood), lr=1e-3, num_data=len(data.x_train))
        generator = torch.Generator().manual_seed(0)
        _loop(opt, model, likelihood, data, 3, generator)
        if resumed:
            saved = _through_disk([model.state_dict(), likelihood.state_dict(), opt.state_dict()])
            model, likelihood = _model()
            opt = optimizer(name, _parameters(model, likelihood), lr=1.0, num_data=len(data.x_train), seed=9)
            for owner, state in zip((model, likelihood, opt), saved, strict=True):
                owner.load_state_dict(state)
        _loop(opt, model, likelihood, data, 4, generator)
        ends.append([p.detach().clone() for p in _parameters(model, likelihood)])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def _model() -> tuple[bp.BayesianModule, bp.likelihoods.Gaussian]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
    model = bp.attach(
        net,
        {"*.weight": bp.priors.Normal(0.0, bp.priors.HalfNormal(), centred=False), "*": bp.priors.Normal()},
    )
    return model, bp.likelihoods.Gaussian(bp.priors.HalfNormal())


def _parameters(*owners: nn.Module) -> list[nn.Parameter]:
    return [p for owner in owners for p in owner.parameters()]


def _through_disk(states: list[Any]) -> list[Any]:
    import io

    buffer = io.BytesIO()
    torch.save(states, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def test_the_potential_is_that_of_the_posterior() -> None:
    """N times the loss on the full data is U, all hyperpriors included, and so is the loss written out."""
    data = bp.datasets.diabetes(seed=0)
    model, likelihood = _model()
    x, y = data.x_train, data.y_train
    posterior = bp.Posterior(model, likelihood, x, y)
    loss = bp.potential(model, likelihood, x, y, num_data=len(x))
    exact = -posterior.log_density(posterior.current()[None])
    torch.testing.assert_close(len(x) * loss.double(), exact[0], rtol=1e-5, atol=0)
    known = bp.likelihoods.Gaussian(0.5)
    loss = -(known.log_prob(model(x[:9]), y[:9]).mean() + model.log_prior() / 60_000)
    torch.testing.assert_close(loss, bp.potential(model, known, x[:9], y[:9], num_data=60_000))
    with pytest.raises(ValueError, match="num_data 0 given, expected the size of the training set"):
        bp.potential(model, known, x, y, num_data=0)


def test_a_training_script_samples_a_posterior() -> None:
    """SGHMC over shuffled epochs of a `DataLoader`, with a cosine schedule, on real data: the average of its predictions is
    good, and its momenta have their temperature."""
    data = bp.datasets.diabetes(seed=0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 1))
    model = bp.attach(net, {"*.weight": bp.priors.Normal(0.0, bp.priors.fan_in()), "*": bp.priors.Normal()})
    likelihood = bp.likelihoods.Gaussian(0.7)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data.x_train, data.y_train), batch_size=64, shuffle=True
    )
    num_data = len(data.x_train)
    opt = bp.optim.SGHMC(model.named_parameters(), lr=0.01, num_data=num_data)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20, eta_min=0.003)
    outputs, kinetic, inside = [], [], []
    for epoch in range(80):
        for xb, yb in loader:
            opt.zero_grad()
            bp.potential(model, likelihood, xb, yb, num_data=num_data).backward()
            if epoch >= 40 and opt.param_groups[0]["steps"] % 7 == 0:
                warm = opt.temperatures()
                kinetic.append(warm.overall[0])
                inside.append(warm.inside)
            opt.step()
        if epoch < 20:
            schedule.step()
        elif epoch >= 40:
            with torch.no_grad():
                outputs.append(model(data.x_test))
    assert opt.param_groups[0]["lr"] == pytest.approx(0.003)
    rmse = float((torch.stack(outputs).mean(0) - data.y_test).square().mean().sqrt())
    assert rmse < 0.9 * float(data.y_test.std())
    assert 0.9 < sum(kinetic) / len(kinetic) < 1.1
    assert sum(inside) / len(inside) > 0.9
    assert set(warm.sizes) == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}
    assert "net.0.weight" in str(warm)


def test_groups_have_their_own_settings_and_fixed_parameters_stay() -> None:
    """A group at T = 0 moves as SGD does, at half the learning rate, and one without gradient is left out."""
    still, cold, hot = (nn.Parameter(torch.ones(4)) for _ in range(3))
    still.requires_grad_(False)
    opt = bp.optim.SGLD(
        [{"params": [cold, still], "temperature": 0.0}, {"params": [hot], "lr": 1e-4}], lr=0.1, num_data=10
    )
    ((cold**2).sum() + (hot**2).sum()).backward()
    opt.step()
    torch.testing.assert_close(cold.detach(), torch.full((4,), 1 - 0.05 * 2))
    assert torch.equal(still, torch.ones(4))
    assert 0 < float((hot.detach() - 1).std()) < 0.02
    assert opt.temperatures().kinetic == {}


def test_a_copy_goes_on_as_the_original_would() -> None:
    """Deep-copied together with its parameters: the same noise, and gradients checked as before."""
    parameter = nn.Parameter(torch.ones(3))
    opt = bp.optim.GGMC([parameter], lr=1e-2, num_data=10)
    for _ in range(2):
        (parameter**2).sum().backward()
        opt.step()
    twin_parameter, twin = copy.deepcopy((parameter, opt))
    for p, o in ((parameter, opt), (twin_parameter, twin)):
        o.zero_grad()
        (p**2).sum().backward()
        o.step()
    assert torch.equal(parameter, twin_parameter)
    twin.zero_grad()
    (twin_parameter**2).sum().backward()
    nn.utils.clip_grad_norm_([twin_parameter], 0.1)
    with pytest.raises(ValueError, match="was changed"):
        twin.step()


def test_a_closure_is_called_once_with_gradients() -> None:
    parameter = nn.Parameter(torch.ones(3))
    opt = bp.optim.SGLD([parameter], lr=1e-3, num_data=10)
    calls = []

    def closure() -> Tensor:
        opt.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        calls.append(float(loss.detach()))
        return loss

    assert float(opt.step(closure).detach()) == 3.0
    assert calls == [3.0]


@pytest.mark.parametrize("change", ["clip_grad_norm_", "clip_grad_value_", "replaced"])
def test_clipped_gradients_are_refused(change: str) -> None:
    """In place or replaced; accumulated and hand-made gradients, and `zero_grad(set_to_none=False)`, are none of these."""
    parameter = nn.Parameter(torch.full((3,), 5.0))
    opt = bp.optim.SGHMC([("weight", parameter)], lr=1e-3, num_data=10)
    for _ in range(2):
        (parameter**2).sum().backward()
    opt.step()
    opt.zero_grad(set_to_none=False)
    (parameter**2).sum().backward()
    opt.step()
    parameter.grad = torch.ones(3)
    opt.step()
    opt.zero_grad()
    (parameter**2).sum().backward()
    if change == "replaced":
        parameter.grad = parameter.grad.clamp(max=0.1)
    else:
        getattr(nn.utils, change)([parameter], 0.1)
    before = parameter.detach().clone()
    with pytest.raises(ValueError, match=r"gradient of parameter 'weight' was changed.*lower lr instead"):
        opt.step()
    assert torch.equal(parameter, before)
    allowed = bp.optim.SGHMC([parameter], lr=1e-3, num_data=10, check_gradients=False)
    (parameter**2).sum().backward()
    nn.utils.clip_grad_norm_([parameter], 0.1)
    allowed.step()


def test_an_amp_scaler() -> None:
    """The scaled loss gives the step that the plain one gives."""
    ends = []
    for scaled in (False, True):
        parameter = nn.Parameter(torch.ones(4))
        opt = bp.optim.SGHMC([parameter], lr=1e-2, num_data=10, seed=0, check_gradients=not scaled)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=1024.0)
        for _ in range(3):
            opt.zero_grad()
            scaler.scale((parameter**2).sum()).backward()
            scaler.step(opt)
            scaler.update()
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("SGLD", {"chain": -1}, "chain -1 given, expected an integer from 0"),
        ("SGLD", {"lr": 0.0}, r"SGLD: lr 0\.0 given, expected a positive number"),
        ("SGLD", {"num_data": 0}, "num_data 0 given"),
        ("SGLD", {"temperature": -1.0}, r"temperature -1\.0 given, expected a number from 0"),
        ("SGLD", {"seed": -1}, "seed -1 given, expected an integer from 0"),
        ("SGHMC", {"momentum_decay": 1.5}, r"momentum_decay 1\.5 given, expected a number in \[0, 1\]"),
        ("SGNHT", {"momentum_decay": 0.0}, r"momentum_decay 0\.0 given, expected a number in \(0, 1\]"),
        ("SGNHT", {"thermostat_steps": 0.5}, "thermostat_steps"),
        ("PSGLD", {"damping": 0.0}, "damping"),
        ("GGMC", {"steps_per_test": 3}, r"cannot make the Metropolis test.*a loader passes over.*bp\.sample"),
    ],
)
def test_bad_settings(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        optimizer(name, [nn.Parameter(torch.ones(2))], **options)


def test_a_size_that_is_no_integer() -> None:
    group = {"params": [nn.Parameter(torch.ones(2))], "num_data": 60.5}
    with pytest.raises(
        ValueError, match=r"num_data 60\.5 given, expected the size of the training set, an integer from 1"
    ):
        optimizer("SGLD", [group])


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("SGHMC", "lr", -0.1),
        ("SGLD", "temperature", -1.0),
        ("SGLD", "num_data", 60.5),
        ("SGHMC", "momentum_decay", 1.5),
        ("SGNHT", "thermostat_steps", math.nan),
        ("PSGLD", "damping", 0.0),
    ],
)
def test_settings_that_become_bad_later(name: str, setting: str, value: float) -> None:
    """As a scheduler or a script may leave them: refused by the next step, which changes nothing."""
    parameter = nn.Parameter(torch.ones(2))
    opt = optimizer(name, [parameter])
    _step(opt, parameter)
    before = parameter.detach().clone()
    opt.param_groups[0][setting] = value
    with pytest.raises(ValueError, match=rf"{name}: {setting} {value} given, expected"):
        _step(opt, parameter)
    assert torch.equal(parameter, before)


def _step(opt: bp.optim.SamplingOptimizer, *parameters: Tensor) -> None:
    opt.zero_grad()
    sum((p**2).sum() for p in parameters).backward()
    opt.step()


@pytest.mark.parametrize("name", KINDS)
def test_a_parameter_that_is_unfrozen_later_starts_then(name: str) -> None:
    """In front of one that goes on as before, with a momentum of temperature T at its first update and a checked gradient."""
    late, first = nn.Parameter(torch.full((20_000,), 3.0), requires_grad=False), nn.Parameter(torch.ones(3))
    opt = optimizer(name, [late, first], lr=0.5)
    for _ in range(3):
        _step(opt, first)
    if name == "SGNHT":
        opt.state[first]["friction"] += 1000.0
    late.requires_grad_(True)
    _step(opt, first, late)
    assert not torch.equal(late, torch.full((20_000,), 3.0))
    assert opt.state[late].keys() == opt.state[first].keys()
    if "momentum" in opt.state[late] and name != "SGNHT":
        decay, gradient = 0.8, NUM_DATA * 2 * 3.0
        h = math.sqrt(0.5 / NUM_DATA)
        kick = {"SGHMC": math.sqrt((1 + decay) / 2), "BAOAB": decay / 2, "GGMC": 1 / 2}[name]
        momentum = opt.state[late]["momentum"]
        error = (0.7 / 20_000) ** 0.5
        assert abs(float(momentum.mean()) + kick * h * gradient) < LIMIT * error
        assert abs(float(momentum.var()) - 0.7) < LIMIT * 0.7 * (2 / 20_000) ** 0.5
    if name == "SGNHT":
        assert torch.equal(opt.state[late]["friction"], opt.state[first]["friction"])
        assert float(opt.state[late]["friction"]) > 900.0
    opt.zero_grad()
    (late.sum() + first.sum()).backward()
    nn.utils.clip_grad_norm_([late], 0.1)
    with pytest.raises(ValueError, match=r"parameter '0\.0' was changed"):
        opt.step()


def _noise(**options: Any) -> Tensor:
    parameter = nn.Parameter(torch.ones(5))
    _step(optimizer("SGLD", [parameter], **options), parameter)
    return parameter.detach()


def test_seeds() -> None:
    """By default from torch's global generator, so that a script repeats and its optimizers differ; else the seed's chains."""
    torch.manual_seed(5)
    one, other = _noise(seed=None), _noise(seed=None)
    torch.manual_seed(5)
    assert torch.equal(one, _noise(seed=None))
    assert not torch.equal(one, other)
    global_state = torch.get_rng_state()
    assert torch.equal(_noise(seed=3), _noise(seed=3, chain=0))
    assert not torch.equal(_noise(seed=3), _noise(seed=3, chain=1))
    assert torch.equal(torch.get_rng_state(), global_state)
    moved = (1 - 0.5 * 0.5 * 2) + math.sqrt(0.5 * 0.7 / NUM_DATA) * Streams(
        3, [(0, 1)], dtype=torch.float32, device=torch.device("cpu")
    ).normal(5)[0]
    torch.testing.assert_close(_noise(seed=3, chain=1), moved)


def test_two_living_optimizers_of_one_stream_are_told() -> None:
    """Not where the other is gone, also not in a cycle, where the chains differ, or for copies and resumed runs."""
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gone = optimizer("SGLD", parameters[:1], seed=12)
        schedule = torch.optim.lr_scheduler.StepLR(gone, 5)
        gone.cycle = schedule  # type: ignore[attr-defined]
        _step(gone, parameters[0])
        del gone, schedule
        living = optimizer("SGHMC", parameters[:1], seed=12)
        _step(living, parameters[0])
        _step(optimizer("SGLD", parameters[1:2], seed=12, chain=1), parameters[1])
        resumed = optimizer("SGHMC", parameters[:1], seed=4)
        resumed.load_state_dict(living.state_dict())
        _step(resumed, parameters[0])
        twin_parameter, twin = copy.deepcopy((parameters[0], living))
        _step(twin, twin_parameter)
    with pytest.warns(
        UserWarning, match=r"SGLD: another optimizer \(SGHMC\) has seed 12 and chain 0 too.*chain="
    ):
        _step(optimizer("SGLD", parameters[1:2], seed=12), parameters[1])


def test_streams_that_are_not_in_use_are_kept_in_a_state_dict() -> None:
    """Of a dtype that is frozen, and of one whose first step comes after the run goes on."""
    ends = []
    for resumed in (False, True):
        parameters = [
            nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64, torch.bfloat16)
        ]
        single, double, half = parameters
        half.requires_grad_(False)
        opt = optimizer("SGLD", parameters, seed=3, chain=2)
        _step(opt, single, double)
        single.requires_grad_(False)
        _step(opt, double)
        if resumed:
            saved = _through_disk([opt.state_dict()])[0]
            opt = optimizer("SGLD", parameters, seed=8)
            opt.load_state_dict(saved)
            opt.load_state_dict(opt.state_dict())
        for parameter in parameters:
            parameter.requires_grad_(True)
        _step(opt, *parameters)
        ends.append([parameter.detach().clone() for parameter in parameters])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_what_a_step_refuses() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opt = bp.optim.SGHMC([used, unused], lr=0.1, num_data=10)
    used.sum().backward()
    with pytest.raises(ValueError, match=r"parameter '0\.1' \(2,\) has no gradient.*bp\.potential"):
        opt.step()
    (used.sum() + unused.sum()).backward()
    with pytest.raises(ValueError, match="before the first step"):
        opt.temperatures()
    with pytest.raises(ValueError, match="holds no random generators"):
        opt.load_state_dict(torch.optim.SGD([used, unused], lr=0.1).state_dict())
