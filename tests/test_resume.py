"""Runs that stop, by a signal, a kill or a full disk, and go on as if they had not."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import zarr

import bnnpriors as bp
from bnnpriors import run
from bnnpriors.samplers import HMC, SGLD
from bnnpriors.store import StoreError

from .stored_runs import assert_same, posterior, sample

REPOSITORY = Path(__file__).resolve().parent.parent


def test_a_store_holds_what_memory_holds(tmp_path):
    stored = sample(tmp_path / "a")
    assert_same(stored, sample(None))
    assert_same(bp.Draws.open(tmp_path / "a"), stored)


def test_an_existing_path_needs_resume(tmp_path):
    sample(tmp_path / "a")
    with pytest.raises(StoreError, match="exists: pass resume=True"):
        sample(tmp_path / "a")


def test_resume_starts_where_there_is_nothing(tmp_path):
    assert_same(sample(tmp_path / "a", resume=True), sample(None))


def test_resume_of_a_finished_run_changes_nothing(tmp_path):
    first = sample(tmp_path / "a")
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "a").rglob("c/*") if f.is_file()}
    assert_same(sample(tmp_path / "a", resume=True), first)
    assert files == {f: f.stat().st_mtime_ns for f in files}


def test_more_samples(tmp_path):
    sample(tmp_path / "a")
    assert_same(sample(tmp_path / "a", resume=True, num_samples=70), sample(None, num_samples=70))


def test_another_configuration_is_refused_with_the_differences(tmp_path):
    sample(tmp_path / "a")
    changes = (
        ({"seed": 1}, "seed: the store has 0, this run 1"),
        ({"num_warmup": 11}, "num_warmup: the store has 10, this run 11"),
        ({"thin": 1}, "thin"),
        ({"num_chains": 3}, "num_chains"),
        ({"init": "model"}, "init"),
        ({"sampler": HMC(step_size=0.06, num_steps=2)}, r"sampler.*0\.05.*0\.06"),
        ({"given": posterior(scale=2.0)}, "priors"),
        ({"given": posterior(temperature=0.5)}, r"temperatures: the store has \[1\.0\], this run \[0\.5\]"),
        ({"given": posterior(tempering="likelihood")}, "tempering"),
    )
    for options, line in changes:
        with pytest.raises(StoreError, match=rf"another configuration:\n(.*\n)*.*{line}"):
            sample(tmp_path / "a", resume=True, **options)
    other = posterior()
    other.data.x[0, 0] += 1
    with pytest.raises(StoreError, match="data"):
        sample(tmp_path / "a", resume=True, given=other)
    both = {"seed": 1, "thin": 1}
    with pytest.raises(StoreError, match=r"thin(.*\n)*.*seed|seed(.*\n)*.*thin"):
        sample(tmp_path / "a", resume=True, **both)


def test_a_change_of_threads_is_told(tmp_path):
    sample(tmp_path / "a")
    store = zarr.open_group(str(tmp_path / "a"))
    store.attrs["threads"] = 77
    with pytest.warns(UserWarning, match=r"begun with \{'threads': 77\}"):
        sample(tmp_path / "a", resume=True)


class Interrupting(SGLD):
    """A signal in one step."""

    number, at = signal.SIGINT, 25

    def step(self, target, state, streams):
        calls = self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        if calls == self.at:
            os.kill(os.getpid(), self.number)
        return super().step(target, state, streams)


class EarlyInterrupting(Interrupting):
    """The same in warm-up."""

    at = 4


class Terminating(Interrupting):
    """SIGTERM, as a batch system sends it."""

    number = signal.SIGTERM


@pytest.mark.parametrize(("kind", "kept"), [(Interrupting, 7), (EarlyInterrupting, 0), (Terminating, 7)])
def test_interrupt_leaves_a_store_to_resume(tmp_path, kind, kept, caplog, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "a", kind(step_size=0.05))
    assert f"stopped at draw {kept} of 20" in caplog.text
    part, whole = bp.Draws.open(tmp_path / "a"), sample(None, SGLD(step_size=0.05))
    assert part.num_draws == kept
    if kept:
        assert torch.equal(part.theta, whole.theta[:, :kept])
    else:
        with pytest.raises(StoreError, match="no draws yet"):
            _ = part.theta
    monkeypatch.setattr(kind, "at", None)
    assert_same(sample(tmp_path / "a", kind(step_size=0.05), resume=True), whole)


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import bnnpriors as bp
from bnnpriors import programs, run, sampling
from bnnpriors.samplers import GGMC, HMC
from bnnpriors.store import Store

run.CHECKPOINT_SECONDS = run.MEET_SECONDS = 0.0
if sys.argv[2] == "threads":
    sampling.choose_plan = lambda *_, **__: programs.Plan(1, 4, False, workers=2)
elif sys.argv[2] == "ahead":
    sampling.choose_plan = lambda *_, **__: programs.Plan(3, 15, False, ahead=True)
else:
    programs.trace = lambda function, args, compiled: function  # tracing would be most of the time
generator = torch.Generator().manual_seed(0)
x = torch.randn(15, 2, generator=generator)
model = bp.attach(torch.nn.Linear(2, 1), bp.priors.Normal())
batch_size, sampler = {
    "HMC": (None, HMC(step_size=0.05, num_steps=2)),
    "GGMC": (5, GGMC(step_size=0.05, steps_per_test=3, target_acceptance=0.7)),
    "threads": (5, GGMC(step_size=0.05, steps_per_test=3, target_acceptance=0.7)),
    "ahead": (5, GGMC(step_size=0.05)),
}[sys.argv[2]]
post = bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True), batch_size=batch_size)
# torch loads much of itself here, once for all children
post.target(3, programs.Plan(1, 4, False)).value_and_gradient(torch.zeros(3, post.dim))
killed, alone = sys.argv[3:]

def start(path):
    child = os.fork()
    if child == 0:
        bp.sample(post, sampler, num_samples=30, num_warmup=40, num_chains=3, thin=2, store=path, resume=True, progress=False)
        os._exit(0)
    return child

def checkpoint():
    try:
        return os.stat(killed + "/checkpoint.pt").st_ino
    except FileNotFoundError:
        return 0

def runs(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

assert os.waitpid(start(alone), 0)[1] == 0
clock = random.Random(3)
while True:
    last, left, child = checkpoint(), clock.randint(1, 15), start(killed)
    while left and runs(child):
        time.sleep(0.0002)
        left, last = left - (checkpoint() != last), checkpoint()
    time.sleep(clock.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status), "the run failed after a kill"
    print(Store.open(Path(killed)).checkpoint["iteration"])
"""


@pytest.mark.parametrize("kind", ["HMC", "GGMC", "threads", "ahead"])
def test_killed_at_random_moments(tmp_path, kind):
    """SIGKILL every few steps, in warm-up and after it, at any place in a commit: theta and figures are those of the run that
    was left alone."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BNNPRIORS_CACHE": str(tmp_path / "cache")}
    (tmp_path / "kills.py").write_text(KILLS)
    command = [
        sys.executable,
        str(tmp_path / "kills.py"),
        str(REPOSITORY),
        kind,
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    reached = list(map(int, done.stdout.split()))
    assert any(iteration < 40 for iteration in reached), "no kill fell into warm-up"
    assert any(40 < iteration < 100 for iteration in reached), "no kill fell into sampling"
    draws = bp.Draws.open(tmp_path / "a")
    assert draws.num_draws == 30
    assert_same(draws, bp.Draws.open(tmp_path / "b"))


def full_disk(monkeypatch, after):
    """Chunks can be written `after` times, then the disk is full."""
    count = 0
    real = zarr.storage.LocalStore.set

    async def write(self, key, value):
        nonlocal count
        if "/c/" in key:
            count += 1
            if count > after:
                raise OSError(errno.ENOSPC, "No space left on device")
        await real(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", write)


def test_full_disk_keeps_what_was_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        full_disk(patch, after=100)
        with pytest.raises(StoreError, match=r"the disk is full.*make room.*resume=True"):
            sample(tmp_path / "a")
    part = bp.Draws.open(tmp_path / "a")
    whole = sample(None)
    assert 0 < part.num_draws < 20
    assert torch.equal(part.theta, whole.theta[:, : part.num_draws])
    assert_same(sample(tmp_path / "a", resume=True), whole)


def test_full_disk_at_the_checkpoint(tmp_path, monkeypatch):
    real, calls = torch.save, []

    def save(value, file, *args, **kwargs):
        if "num_draws" in value:
            calls.append(value["num_draws"])
            if len(calls) > 15:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(value, file, *args, **kwargs)

    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(StoreError, match="the disk is full"):
            sample(tmp_path / "a")
    assert bp.Draws.open(tmp_path / "a").num_draws == calls[-2]
    assert_same(sample(tmp_path / "a", resume=True), sample(None))
