"""How a run is evaluated: the fixed rule, measured figures that are remembered, and answers that do not depend on it."""

import json

import pytest
import torch

import bnnpriors as bp
from bnnpriors import planning, timings
from bnnpriors.planning import choose_plan, default_plan
from bnnpriors.programs import Plan
from bnnpriors.timings import cache_folder
from bnnpriors.tracing import CompileError

LONG = (1000.0, 0.0)


def regression(net=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, 3, generator=generator)
    net = net or torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    return bp.Posterior(
        bp.attach(net, bp.priors.Normal()), bp.likelihoods.Gaussian(1.0), x, x.sum(1, keepdim=True)
    )


class Opaque(torch.nn.Module):
    """A network that is not a chain of dense layers."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        return torch.stack([self.layer(x), x[:, :1]]).sum(0)


class Recurrent(torch.nn.Module):
    """A network that `vmap` cannot batch."""

    def __init__(self):
        super().__init__()
        self.cell = torch.nn.LSTM(3, 2, batch_first=True)
        self.head = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.head(self.cell(x[:, None].expand(-1, 2, -1))[0][:, -1])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNPRIORS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "plans"


@pytest.fixture
def measured(monkeypatch):
    """Figures in place of a clock, where one thread and the BLAS win, and a list of what was asked for."""
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(planning, "onednn_pays", lambda: True)

    def figure(posterior, theta, plan, kind, repeats):
        asked.append((plan.chunk_size, plan.compiled, repeats))
        seconds = {1: 3.0, 8: 2.0, 12: 1.0, 5: 4.0, 6: 1.5}[plan.chunk_size]
        return 1.0, seconds * (0.5 if plan.compiled else 1.0) + plan.onednn

    monkeypatch.setattr(timings, "measure", figure)
    return asked


def test_fixed_rule():
    assert default_plan(regression(), 20) == Plan(8, 70, False)
    assert default_plan(regression(), 3).chunk_size == 3
    assert default_plan(regression(Opaque()), 20).chunk_size == 1
    assert default_plan(regression(), 20, 100).chunk_size == 20
    with pytest.raises(ValueError, match="chunk_size 0"):
        default_plan(regression(), 20, 0)


def test_blocks_bound_the_activations(monkeypatch):
    monkeypatch.setattr(planning, "BLOCK_BYTES", 1)
    assert default_plan(regression(), 20).block_size == 32


def test_short_runs_measure_nothing(cache, measured):
    posterior = regression()
    theta = torch.zeros(12, posterior.dim)
    monkeypatched = choose_plan(posterior, theta, (1.0, 0.0), chunk_size=None, compile=None)
    assert monkeypatched == default_plan(posterior, 12)
    assert [repeats for *_, repeats in measured] == [1], "one timing tells whether the run is short"
    assert not cache.exists()


def test_fixed_choices_are_not_measured(cache, measured):
    posterior = regression()
    plan = choose_plan(posterior, torch.zeros(12, posterior.dim), (1e9, 0.0), chunk_size=5, compile=True)
    assert (plan.chunk_size, plan.compiled) == (5, True)
    assert measured == []


def test_long_runs_measure_once(cache, measured):
    posterior = regression()
    theta = torch.zeros(12, posterior.dim)
    first = choose_plan(posterior, theta, LONG, chunk_size=None, compile=None)
    assert first == Plan(6, 70, True, workers=2), "compiled programs share the chains"
    files = list(cache.iterdir())
    assert len(files) == 1
    assert len(json.loads(files[0].read_text())) == 7
    measured.clear()
    assert choose_plan(posterior, theta, LONG, chunk_size=None, compile=None) == first
    assert [repeats for *_, repeats in measured] == [1], "figures come from the cache; the program is built"
    short = choose_plan(posterior, theta, (1.0, 0.0), chunk_size=None, compile=None)
    assert short == default_plan(posterior, 12), "a short run is the same whatever the cache holds"


def test_a_damaged_cache_is_measured_again(cache, measured):
    posterior = regression()
    theta = torch.zeros(12, posterior.dim)
    first = choose_plan(posterior, theta, LONG, chunk_size=None, compile=None)
    for damage in ("{", "[]", '{"8/70/False": 0.5}', '{"8/70/False": "ab"}'):
        next(cache.iterdir()).write_text(damage)
        assert choose_plan(posterior, theta, LONG, chunk_size=None, compile=None) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, measured):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNNPRIORS_CACHE", str(tmp_path / "file"))
    posterior = regression()
    plan = choose_plan(posterior, torch.zeros(12, posterior.dim), LONG, chunk_size=None, compile=None)
    assert plan.chunk_size == 6


def test_user_fixes_one_choice(cache, measured):
    posterior = regression()
    theta = torch.zeros(12, posterior.dim)
    assert choose_plan(posterior, theta, LONG, chunk_size=5, compile=None).chunk_size == 5
    assert not choose_plan(posterior, theta, LONG, chunk_size=None, compile=False).compiled
    assert choose_plan(posterior, theta, LONG, chunk_size=None, compile=True).compiled


def test_minibatch_samplers_are_timed_on_minibatches(cache, monkeypatch):
    kinds = []

    def figure(posterior, theta, plan, kind, repeats):
        kinds.append(kind)
        return 1.0, 1.0

    monkeypatch.setattr(timings, "measure", figure)
    monkeypatch.setattr(planning, "onednn_pays", lambda: False)
    data = regression().data
    posterior = bp.Posterior(regression().model, bp.likelihoods.Gaussian(1.0), data.x, data.y, batch_size=7)
    theta = torch.zeros(2, posterior.dim)
    choose_plan(posterior, theta, (0.0, 1000.0), chunk_size=None, compile=None)
    assert set(kinds) == {"estimate"}
    choose_plan(posterior, theta, (10.0, 1000.0), chunk_size=None, compile=None)
    assert set(kinds) == {"estimate", "exact"}


def test_long_runs_of_a_network_that_cannot_be_batched(cache, monkeypatch):
    monkeypatch.setattr(planning, "MEASURE_ABOVE", 0.0)
    posterior = regression(Recurrent())
    theta = torch.randn(3, posterior.dim, generator=torch.Generator().manual_seed(0))
    plan = choose_plan(posterior, theta, LONG, chunk_size=None, compile=False)
    assert posterior.target(3, plan).potential(theta).isfinite().all()


def test_a_plan_that_fails_is_never_chosen(cache, monkeypatch):
    def figure(posterior, theta, plan, kind, repeats):
        if plan.chunk_size > 1 and repeats > 1:
            raise RuntimeError("Batching rule not implemented")
        return 1.0, 1.0

    monkeypatch.setattr(timings, "measure", figure)
    posterior = regression()
    theta = torch.zeros(12, posterior.dim)
    assert choose_plan(posterior, theta, LONG, chunk_size=None, compile=False).chunk_size == 1


def test_no_compiler_leaves_the_programs_uncompiled(cache, monkeypatch, caplog):
    def figure(posterior, theta, plan, kind, repeats):
        if plan.compiled:
            raise CompileError("install a C++ compiler")
        return 1.0, 1.0

    monkeypatch.setattr(timings, "measure", figure)
    posterior = regression()
    theta = torch.zeros(2, posterior.dim)
    assert not choose_plan(posterior, theta, LONG, chunk_size=None, compile=None).compiled
    assert "uncompiled" in caplog.text


def test_a_compiler_that_broke_since_it_was_timed_stops_no_run(cache, monkeypatch, caplog):
    posterior = regression()
    theta = torch.zeros(2, posterior.dim)
    monkeypatch.setattr(timings, "measure", lambda *given: (1.0, 0.5 if given[2].compiled else 1.0))
    assert choose_plan(posterior, theta, LONG, chunk_size=None, compile=None).compiled

    def broken(posterior, theta, plan, kind, repeats):
        if plan.compiled:
            raise CompileError("install a C++ compiler")
        return 1.0, 1.0

    monkeypatch.setattr(timings, "measure", broken)
    assert not choose_plan(posterior, theta, LONG, chunk_size=None, compile=None).compiled
    assert "uncompiled" in caplog.text


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNPRIORS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


@pytest.mark.parametrize("net", [None, Opaque()])
@pytest.mark.parametrize(
    "plan", [Plan(1, 70, False), Plan(3, 70, False), Plan(7, 16, False), Plan(2, 1, False)]
)
def test_the_plan_changes_rounding_alone(net, plan):
    posterior = regression(net)
    theta = torch.randn(7, posterior.dim, generator=torch.Generator().manual_seed(1))
    value, gradient = posterior.target(7, Plan(7, 70, False)).value_and_gradient(theta)
    other, other_gradient = posterior.target(7, plan).value_and_gradient(theta)
    torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-4, atol=1e-4)
    alone = posterior.target(7, plan).potential(theta)
    torch.testing.assert_close(alone, other, rtol=1e-6, atol=1e-6)
