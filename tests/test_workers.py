"""Threads that share the chains: the same draws, clean settings afterwards, and errors that arrive."""

import threading

import pytest
import torch
import zarr
from threadpoolctl import threadpool_info

import bnnpriors as bp
from bnnpriors import programs, run, sampling, workers
from bnnpriors.grouping import fitting, later_parts
from bnnpriors.programs import Plan
from bnnpriors.samplers import GGMC, HMC, SGLD, ChEES, Cyclical
from bnnpriors.workers import onednn_pays, parts, working

from .stored_runs import assert_same, posterior, sample

SAMPLERS = {
    "HMC": HMC(step_size=0.05, num_steps=3),
    "GGMC": GGMC(step_size=0.05, steps_per_test=2, target_acceptance=0.8),
    "SGLD": SGLD(step_size=0.02),
}


def with_plan(monkeypatch, **changes):
    """Runs take this plan."""
    plan = Plan(8, 15, False)._replace(**changes)
    monkeypatch.setattr(sampling, "choose_plan", lambda *_, **__: plan)


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("steps_per_test", [None, 1, 3])
def test_noise_drawn_ahead_is_the_same_noise(tmp_path, monkeypatch, batch_size, steps_per_test):
    """Bit for bit, tests of uniform numbers between included, and also where a run stops and goes on."""
    given, sampler = posterior(batch_size=batch_size), GGMC(step_size=0.05, steps_per_test=steps_per_test)
    with_plan(monkeypatch)
    alone = sample(None, sampler, given, num_samples=40)
    with_plan(monkeypatch, ahead=True)
    assert_same(sample(None, sampler, given, num_samples=40), alone)
    sample(tmp_path / "a", sampler, given)
    assert_same(sample(tmp_path / "a", sampler, given, num_samples=40, resume=True), alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_threads_change_nothing(monkeypatch, name):
    options = {"num_chains": 5, "num_warmup": 30, "thin": 3}
    given = posterior(batch_size=4 if name == "SGLD" else None)
    alone = sample(None, SAMPLERS[name], given, **options)
    with_plan(monkeypatch, workers=2)
    shared = sample(None, SAMPLERS[name], given, **options)
    torch.testing.assert_close(shared.theta, alone.theta, rtol=1e-3, atol=1e-3)
    assert set(shared.stats) == set(alone.stats)
    for figure in alone.stats:
        torch.testing.assert_close(
            shared.stats[figure].double(), alone.stats[figure].double(), rtol=0.01, atol=0.01
        )


def test_a_ladder_is_shared_too(monkeypatch):
    given = posterior(temperature=[0.1, 1.0, 10.0])
    alone = sample(None, given=given, num_chains=1)
    with_plan(monkeypatch, workers=2)
    torch.testing.assert_close(
        sample(None, given=given, num_chains=1).theta, alone.theta, rtol=1e-3, atol=1e-3
    )


def test_resume_with_threads_is_bit_for_bit(tmp_path, monkeypatch):
    with_plan(monkeypatch, workers=2)
    whole = sample(None, num_chains=3, num_samples=40)
    sample(tmp_path / "a", num_chains=3)
    assert_same(sample(tmp_path / "a", num_chains=3, num_samples=40, resume=True), whole)


class Coupled(SGLD):
    independent_chains = False


def test_samplers_that_couple_chains_get_one_thread(tmp_path, monkeypatch):
    with_plan(monkeypatch, workers=2)
    sample(tmp_path / "a", Coupled(step_size=0.02))
    assert zarr.open_group(str(tmp_path / "a")).attrs["plan"][3] == 1


COUPLED = {
    "ChEES": ChEES(step_size=0.05, num_steps=3),
    "dense": HMC(step_size=0.05, num_steps=3, metric="dense"),
    "wrapped": Cyclical(HMC(step_size=0.05, num_steps=3, metric="dense"), 4),
}


@pytest.mark.parametrize("temperature", [1.0, [0.5, 2.0]], ids=["one", "ladder"])
@pytest.mark.parametrize("name", COUPLED)
def test_threads_take_over_after_a_warm_up_of_all_chains(tmp_path, monkeypatch, name, temperature):
    """Bit for bit as in one thread, with every figure, in one run and in one that is stopped and goes on."""
    given = posterior(temperature=temperature)
    options = {"sampler": COUPLED[name], "given": given, "num_chains": 4, "num_warmup": 25, "num_samples": 6}
    with_plan(monkeypatch, chunk_size=2)
    alone = sample(None, **options)
    with_plan(monkeypatch, chunk_size=2, workers=2)
    groups, seen = run.Run._record, set()

    def record(self):
        seen.add((len(self.groups), tuple(len(group.state.theta) for group in self.groups)))
        groups(self)

    monkeypatch.setattr(run.Run, "_record", record)
    assert_same(sample(None, **options), alone)
    sample(tmp_path / "a", **options | {"num_samples": 3})
    assert_same(sample(tmp_path / "a", **options, resume=True), alone)
    assert seen == {(2, (2, 2) if temperature == 1.0 else (4, 4))}


def test_threads_share_the_gradients_of_a_warm_up(monkeypatch):
    """Chunks of chains in both threads."""
    threads, evaluate = set(), programs.Programs._blocks

    def counted(self, theta, *rest):
        threads.add((len(theta), *threading.current_thread().name.split("_")))
        return evaluate(self, theta, *rest)

    monkeypatch.setattr(programs.Programs, "_blocks", counted)
    with_plan(monkeypatch, chunk_size=2, workers=2)
    sample(None, COUPLED["dense"], num_chains=4, num_warmup=25, num_samples=1, thin=1)
    pools = {name: {rest[0] for _, other, *rest in threads if other == name} for _, name, *_ in threads}
    assert {"0", "1"} in pools.values()
    with working(Plan(1, 1, False, workers=3)) as pool:
        assert pool.share(lambda item: item**2, range(7)) == [n**2 for n in range(7)]
        with pytest.raises(ZeroDivisionError):
            pool.share(lambda item: 1 / item, [1, 2, 0])


def test_calls_of_a_ladder_hold_whole_rungs_or_parts_of_one():
    assert fitting(Plan(8, 15, False), 12).chunk_size == 6
    assert fitting(Plan(8, 15, False), 1).chunk_size == 8
    chees, plan = COUPLED["ChEES"], Plan(8, 15, False, workers=2)
    assert later_parts(36, plan, chees, 3) == [slice(0, 36)], "calls would have other chains"
    assert later_parts(36, plan._replace(chunk_size=6), chees, 3) == [slice(0, 12), slice(12, 36)]
    assert later_parts(20, plan, chees, 1) == [slice(0, 8), slice(8, 20)]
    assert later_parts(20, plan, Coupled(), 1) == [slice(0, 20)]


@pytest.mark.parametrize("block_size", [15, 7])
def test_a_network_that_cannot_be_traced_runs_one_call_at_a_time(monkeypatch, block_size):
    class Branching(torch.nn.Linear):
        """Control flow that depends on the weights; `functional_call` swaps its parameters in place."""

        def forward(self, x):
            return super().forward(x) if self.weight.sum() > -1e9 else x

    x = torch.randn(15, 2, generator=torch.Generator().manual_seed(0))
    model = bp.attach(Branching(2, 1), bp.priors.Normal())
    given = bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True))
    with_plan(monkeypatch, chunk_size=1, block_size=block_size)
    alone = sample(None, given=given, num_chains=3)
    with_plan(monkeypatch, chunk_size=1, block_size=block_size, workers=2)
    assert torch.equal(sample(None, given=given, num_chains=3).theta, alone.theta)


def test_a_likelihood_that_cannot_be_traced_runs_one_call_at_a_time(monkeypatch):
    """Groups of one and of two chains call two programs, which share one module."""

    class Checked:
        def log_prob(self, outputs, y):
            if (y < -1e9).any():
                raise ValueError("y")
            return -((outputs - y) ** 2).sum(-1)

    x = torch.randn(15, 2, generator=torch.Generator().manual_seed(0))
    model = bp.attach(bp.models.mlp(2, 1, hidden=(3,)), bp.priors.Normal())
    given = bp.Posterior(model, Checked(), x, x.sum(1, keepdim=True))
    with_plan(monkeypatch, workers=1)
    alone = sample(None, given=given, num_chains=3, num_samples=60)
    with_plan(monkeypatch, workers=2)
    shared = sample(None, given=given, num_chains=3, num_samples=60)
    torch.testing.assert_close(shared.theta, alone.theta, rtol=1e-2, atol=1e-2)


def test_errors_of_a_thread_arrive(monkeypatch):
    class Failing(SGLD):
        def step(self, target, state, streams):
            raise ArithmeticError("in a thread")

    with_plan(monkeypatch, workers=2)
    with pytest.raises(ArithmeticError, match="in a thread"):
        sample(None, Failing(step_size=0.1))


def test_settings_are_undone():
    threads = torch.get_num_threads()
    with working(Plan(1, 1, False, workers=3)) as pool:
        assert torch.get_num_threads() == 1
        assert pool.map(lambda _: torch.get_num_threads(), range(6)) == [1] * 6
    assert torch.get_num_threads() == threads

    def fail():
        with working(Plan(1, 1, False, workers=2)) as pool:
            pool.map({}.__getitem__, [1])

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == threads
    with working(Plan(1, 1, False)) as pool:
        assert pool.map(lambda _: threading.current_thread(), range(2)) == [threading.main_thread()] * 2


@pytest.mark.parametrize("plan", [Plan(1, 1, False, workers=2), Plan(1, 1, False, ahead=True)])
def test_products_in_other_threads_use_one_thread(plan):
    """torch sets a thread's count at its first own parallel operation; a product of the BLAS would come before with OpenMP's."""

    def teams(_: object) -> set[int]:
        return {
            one["num_threads"]
            for one in threadpool_info()
            if one["user_api"] == "openmp" and "torch" in one["filepath"]
        }

    with working(plan) as workers:
        found = workers.spare.submit(teams, 0).result() if plan.ahead else workers.map(teams, [0])[0]
    assert found == {1}


def test_parts():
    assert parts(5, 2) == [slice(0, 2), slice(2, 5)]
    assert parts(2, 4) == [slice(0, 1), slice(1, 2)]


def test_onednn_is_float32(monkeypatch):
    """Where the switch is taken its products are those of float32; where they would not be, it is refused."""
    a, b = torch.randn(64, 300), torch.randn(300, 50)
    if onednn_pays():
        with working(Plan(1, 1, False, onednn=True)):
            torch.testing.assert_close(a @ b, (a.double() @ b.double()).float(), rtol=1e-4, atol=1e-4)
        assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"
    monkeypatch.setattr(workers, "_onednn", lambda enabled: _rounding())
    assert not onednn_pays.__wrapped__()


class _rounding:
    """Products in bfloat16, as on a processor with AMX units."""

    def __enter__(self):
        self.product = torch.Tensor.__matmul__
        torch.Tensor.__matmul__ = lambda a, b: (
            self.product(a.bfloat16(), b.bfloat16()).to(a.dtype)
            if a.dtype == torch.float32
            else self.product(a, b)
        )

    def __exit__(self, *_):
        torch.Tensor.__matmul__ = self.product
