"""Chains spread over the processes of a cluster: the same draws, stops, errors, and what is refused."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from distributed import KilledWorker, LocalCluster

import bnnpriors as bp
from bnnpriors import SamplingError, grouping, sampling, segments, spread
from bnnpriors.cluster import open_client
from bnnpriors.grouping import divide, processes, spread_plan
from bnnpriors.programs import Plan
from bnnpriors.samplers import GGMC, HMC, SGLD, ChEES
from bnnpriors.store import Store

from .stored_runs import assert_same, posterior, sample

SAMPLERS = {
    "HMC": (HMC(step_size=0.05, num_steps=2), None),
    "GGMC": (GGMC(step_size=0.05, steps_per_test=3, target_acceptance=0.7), 5),
    "SGLD": (SGLD(step_size=0.05), 5),
}
FIXED = {"compile": False, "chunk_size": 2}


class Coupled(SGLD):
    """A step of a chain looks at the others of its rung."""

    independent_chains = False

    def step(self, target, state, streams):
        new, info = super().step(target, state, streams)
        theta = new.theta.clone()
        for temperature in target.temperature.unique():
            rung = target.temperature == temperature
            theta[rung] += 0.1 * (new.theta[rung].mean(0) - new.theta[rung])
        return new._replace(theta=theta), info


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers, threads of this process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Many marks in a short run, and a checkpoint at each."""
    monkeypatch.setattr(spread, "SEGMENT_SECONDS", 0.02)
    monkeypatch.setattr(spread, "CHECKPOINT_SECONDS", 0.0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_draws_of_one_process(tmp_path, address, name):
    """Bit for bit with every figure, in memory and on disk, for a ladder whose groups end inside a rung."""
    sampler, batch_size = SAMPLERS[name]
    given = posterior(batch_size=batch_size, temperature=[0.5, 1.0])
    options = {"sampler": sampler, "given": given, "num_chains": 3, "num_warmup": 30, **FIXED}
    alone = sample(None, **options)
    there = {"executor": "dask", "scheduler": address}
    assert_same(sample(None, **options, **there), alone)
    stored = sample(tmp_path / "a", **options, **there)
    assert_same(stored, alone)
    assert_same(bp.Draws.open(tmp_path / "a"), alone)


def test_one_executor_goes_on_where_the_other_stopped(tmp_path, address):
    options = {"num_chains": 5, **FIXED}
    there = {"executor": "dask", "scheduler": address}
    whole = sample(None, num_samples=40, **options)
    sample(tmp_path / "a", **options)
    assert_same(sample(tmp_path / "a", num_samples=40, resume=True, **options, **there), whole)
    sample(tmp_path / "b", **options, **there)
    assert_same(sample(tmp_path / "b", num_samples=40, resume=True, **options), whole)


def test_a_store_begun_with_threads_goes_on(tmp_path, address, monkeypatch):
    """Groups are then those of the threads, whose calls they repeat."""
    monkeypatch.setattr(sampling, "choose_plan", lambda *_, **__: Plan(2, 15, False, workers=2))
    whole = sample(None, num_chains=5, num_samples=40)
    sample(tmp_path / "a", num_chains=5)
    there = {"executor": "dask", "scheduler": address}
    assert_same(sample(tmp_path / "a", num_chains=5, num_samples=40, resume=True, **there), whole)


def test_a_store_whose_chains_met_in_warm_up_goes_on(tmp_path, address, monkeypatch):
    """Begun with threads, which share the chains after warm-up, and continued by processes, which have whole rungs."""
    monkeypatch.setattr(sampling, "choose_plan", lambda *_, **__: Plan(2, 15, False, workers=2))
    options = {"sampler": ChEES(step_size=0.05, num_steps=3), "num_chains": 4, "num_warmup": 30}
    options["given"] = posterior(temperature=[0.5, 1.0])
    whole = sample(None, num_samples=40, **options)
    sample(tmp_path / "a", **options)
    there = {"executor": "dask", "scheduler": address}
    assert_same(sample(tmp_path / "a", num_samples=40, resume=True, **options, **there), whole)


def test_chains_that_depend_on_each_other_stay_together(address):
    given = posterior(batch_size=5, temperature=[0.5, 1.0, 2.0])
    options = {"sampler": Coupled(step_size=0.05), "given": given, "num_chains": 4, **FIXED}
    assert_same(sample(None, **options, executor="dask", scheduler=address), sample(None, **options))


def test_processes_of_their_own():
    """A cluster on this machine, started for the run, with one chain a process."""
    options = {"num_chains": 2, "num_samples": 5, "num_warmup": 30, "compile": False, "chunk_size": 1}
    assert_same(sample(None, executor="dask", **options), sample(None, **options))


def test_an_interrupt(tmp_path, address, monkeypatch):
    """What all groups have reached is kept: returned where it is in memory, and gone on with from the disk."""

    class Slow(SGLD):
        def step(self, target, state, streams):
            time.sleep(0.002)
            return super().step(target, state, streams)

    options = {"sampler": Slow(step_size=0.05), "num_chains": 4, "num_samples": 300, **FIXED}
    whole = sample(None, **options)
    real, kept = spread.SpreadRun._keep, []

    def keep(self, stretches):
        real(self, stretches)
        kept.append(self.store._written)
        if kept[-1] and not kept[-2]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(spread.SpreadRun, "_keep", keep)
    with pytest.warns(UserWarning, match="of 300; these draws are returned"):
        part = sample(None, **options, executor="dask", scheduler=address)
    assert 0 < part.num_draws < 300
    assert torch.equal(part.theta, whole.theta[:, : part.num_draws])
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "a", **options, executor="dask", scheduler=address)
    assert 0 < bp.Draws.open(tmp_path / "a").num_draws < 300
    monkeypatch.setattr(spread.SpreadRun, "_keep", real)
    there = {"executor": "dask", "scheduler": address}
    assert_same(sample(tmp_path / "a", resume=True, **options, **there), whole)


class Uneven:
    """A client whose second worker is done at once, and whose first only when everything waits for it."""

    status = "running"

    def __init__(self):
        self.held = []

    def nthreads(self):
        return {"first": 1, "second": 1}

    def submit(self, function, *args, **_):
        if function is bytes:
            return args[0]
        future = SimpleNamespace(result=lambda: function(*args))
        is_slow = args[2].chains.start == 0
        future.add_done_callback = lambda tell: self.held.append((tell, future)) if is_slow else tell(future)
        return future

    def cancel(self, futures):
        pass

    def release(self):
        tell, future = self.held.pop()
        tell(future)


def test_a_group_that_is_ahead_waits_and_no_checkpoint_has_what_only_it_has_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "SEGMENT_SECONDS", 0.0)
    options = {"sampler": SGLD(step_size=0.05), "num_chains": 4, **FIXED}
    whole, client, real, ahead = sample(None, **options), Uneven(), spread.SpreadRun._wait, []

    def wait(self):
        if self._done.empty():
            client.release()
            ahead.append(self._reached[1] - self._reached[0])
        if len(ahead) == 25:
            os.kill(os.getpid(), signal.SIGINT)
        real(self)

    monkeypatch.setattr(spread.SpreadRun, "_wait", wait)
    monkeypatch.setattr(sampling, "open_client", lambda *_, **__: nullcontext(client))
    monkeypatch.setattr(sampling, "count_workers", lambda _: 2)
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "a", executor="dask", **options)
    assert ahead[:20] == [spread.AHEAD + 1] * 20
    assert bp.Draws.open(tmp_path / "a").num_draws == 7
    assert_same(sample(tmp_path / "a", resume=True, **options), whole)


def test_a_scheduler_that_goes_away(tmp_path, monkeypatch):
    """The error says how to go on, whatever the client raises when it is to call off what is under way."""

    class Gone(Uneven):
        def nthreads(self):
            if self.held:
                raise OSError("closed")
            return super().nthreads()

        def cancel(self, futures):
            raise OSError("closed")

    monkeypatch.setattr(sampling, "open_client", lambda *_, **__: nullcontext(Gone()))
    monkeypatch.setattr(sampling, "count_workers", lambda _: 2)
    with pytest.raises(
        SamplingError, match=r"the connection to the scheduler is lost \(closed\); run again with resume=True"
    ):
        sample(tmp_path / "a", num_chains=4, executor="dask", **FIXED)


def test_errors_of_a_worker_arrive_with_the_numbers_of_the_chains(tmp_path, address):
    class Lost(SGLD):
        """The last of five chains."""

        def step(self, target, state, streams):
            new, info = super().step(target, state, streams)
            return new._replace(theta=new.theta / (target.temperature[:, None] != 4.0)), info

    given = posterior(temperature=[0.5, 1.0, 2.0, 3.0, 4.0])
    options = {"sampler": Lost(step_size=0.05), "given": given, "num_chains": 1, **FIXED}
    with pytest.raises(
        SamplingError, match=r"chains \[4\] \(temperatures \[4\.0\]\) left the finite numbers by step \d"
    ):
        sample(tmp_path / "a", **options, executor="dask", scheduler=address)
    with pytest.raises(SamplingError, match=r"chains \[(0|1, 2)\] start where"):
        sample(None, given=posterior(scale=1e30), num_chains=3, executor="dask", scheduler=address)


def test_an_error_of_the_users_own_arrives(address):
    class Failing(SGLD):
        def step(self, target, state, streams):
            raise ArithmeticError("on a worker")

    with pytest.raises(ArithmeticError, match="on a worker"):
        sample(None, Failing(step_size=0.1), executor="dask", scheduler=address)


def test_what_cannot_be_sent_is_told_before_processes_start(monkeypatch):
    class Holder(SGLD):
        def __init__(self):
            super().__init__(step_size=0.1)
            self.__dict__["lock"] = threading.Lock()

    monkeypatch.setattr(sampling, "open_client", lambda *_, **__: pytest.fail("a cluster was started"))
    with pytest.raises(TypeError, match=r"cannot be pickled \(.*lock.*\): keep open files"):
        sample(None, Holder(), executor="dask")


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="executor 'threads' given, expected None or 'dask'"):
        sample(None, executor="threads")
    with pytest.raises(ValueError, match="without an executor; pass executor='dask'"):
        sample(None, scheduler="tcp://127.0.0.1:1")

    class Exchanging(SGLD):
        independent_chains = independent_rungs = False

    with pytest.raises(ValueError, match="Exchanging exchanges states between temperatures"):
        sample(None, Exchanging(), posterior(temperature=[0.5, 1.0]), executor="dask")


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(grouping, "WAIT_SECONDS", 0.1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(SamplingError, match="has no workers: start some, such as `dask worker inproc"),
    ):
        sample(None, executor="dask", scheduler=cluster.scheduler_address)


DEATHS = KilledWorker("task", SimpleNamespace(address="tcp://1.2.3.4"), 3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DEATHS, "worker after worker died with chains 2 to 3 after step 7"),
        (spread.CancelledError("task"), "the scheduler gave up a task"),
    ],
)
def test_a_cluster_that_cannot_go_on(error, words):
    class Lost:
        def result(self):
            raise error

    run = spread.SpreadRun.__new__(spread.SpreadRun)
    run.chains, run.marks, run._reached = [slice(0, 2), slice(2, 4)], [0, 7], [1, 1]
    run.store = SimpleNamespace(path=Path("a"))
    with pytest.raises(SamplingError, match=rf"{words}.*resume=True to continue"):
        run._result(1, Lost())


def test_groups_are_cut_between_calls():
    assert divide(10, Plan(2, 1, False), 1, 3) == [slice(0, 2), slice(2, 6), slice(6, 10)]
    assert divide(5, Plan(2, 1, False), 1, 9) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert divide(5, Plan(8, 1, False), 1, 2) == [slice(0, 5)]
    assert divide(12, Plan(2, 1, False), 4, 2) == [slice(0, 4), slice(4, 12)]
    assert divide(12, Plan(3, 1, False), 4, 2) == [slice(0, 12)]
    assert divide(5, Plan(2, 1, False, workers=2), 1, 4) == [slice(0, 2), slice(2, 5)]


def test_the_plan_is_one_that_can_be_shared():
    x = torch.ones(4, 2)
    model = bp.attach(bp.models.mlp(2, 1, hidden=(3,)), bp.priors.Normal())
    given = bp.Posterior(model, bp.likelihoods.Gaussian(), x, x[:, :1], temperature=[0.5, 1.0, 2.0])
    theta = given.current().repeat(12, 1)
    options = {"gradients": (10.0, 0.0), "compile": None}
    threads = torch.get_num_threads()
    assert spread_plan(given, SGLD(), theta, workers=3, chunk_size=None, **options).chunk_size == 4
    assert spread_plan(given, SGLD(), theta, workers=3, chunk_size=7, **options).chunk_size == 7
    assert spread_plan(given, Coupled(), theta, workers=2, chunk_size=None, **options).chunk_size == 4
    assert torch.get_num_threads() == threads


def test_no_more_processes_than_groups(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    ladder = posterior(temperature=[0.5, 1.0])
    assert processes(ladder, SGLD(), 4) == 8
    assert processes(ladder, Coupled(), 4) == 2
    assert processes(ladder, SGLD(), 100) == 64


def test_each_worker_takes_the_gpu_at_its_number(monkeypatch):
    """Of those that it sees; without a GPU this holds the arithmetic alone."""
    import distributed

    chosen = []
    storage = SimpleNamespace(cuda=chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in (0, 3, "host-a"):
        monkeypatch.setattr(distributed, "get_worker", lambda name=name: SimpleNamespace(name=name))
        segments._own_device(storage, "cuda:0")
    assert chosen == [0, 1, 0]
    assert segments._own_device(storage, "cpu") is storage


def test_a_first_segment_is_short_and_later_ones_take_seconds(monkeypatch, address):
    """Marks, with what bounds them: seconds, and bytes of draws."""
    monkeypatch.setattr(spread, "SEGMENT_SECONDS", 2.0)
    with open_client(address) as client:
        given = posterior()
        streams = sampling.Streams(0, [(0, 0)], dtype=given.dtype, device=given.device)
        run = spread.SpreadRun(
            client, 1, b"", given, SGLD(), Plan(1, 15, False), streams, Store.create(None, {"format": 1}),
            given.current()[None], sampling.Schedule(10, 1000, 5),
        )  # fmt: skip
        assert run._next_mark() == 1
        run._pace = 100.0
        assert run._next_mark() == 200
        monkeypatch.setattr(spread, "SEGMENT_BYTES", 2 * 4 * given.dim)
        assert run._next_mark() == 10
        run.marks = [5000]
        assert run._next_mark() == 5010
