"""The store of a run: kills, signals, full disks, damage and other processes."""

import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import bnnpriors as bp
from bnnpriors import cost, run
from bnnpriors.samplers import HMC, SGLD
from bnnpriors.store import Store, StoreError, free_bytes

REPOSITORY = Path(__file__).resolve().parent.parent
META = {"format": 1, "layout": [["w", [3]]], "temperatures": [1.0], "num_chains": 2}


def posterior(scale=1.0, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(15, 2, generator=generator)
    model = bp.attach(torch.nn.Linear(2, 1), bp.priors.Normal(0.0, scale))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True), **options)


def sample(path, sampler=None, given=None, **options):
    """A short HMC run with warm-up and thinning."""
    options = {"num_samples": 20, "num_warmup": 10, "num_chains": 2, "thin": 2} | options
    sampler = sampler or HMC(step_size=0.05, num_steps=2)
    return bp.sample(given or posterior(), sampler, store=path, progress=False, **options)


def assert_same(ours, theirs):
    assert torch.equal(ours.theta, theirs.theta)
    assert set(ours.stats) == set(theirs.stats)
    for name in ours.stats:
        assert torch.equal(ours.stats[name], theirs.stats[name]), name
    for name in ours.tensor_stats:
        assert torch.equal(ours.tensor_stats[name], theirs.tensor_stats[name]), name


def row(value):
    return {"theta": np.full((2, 3), value, np.float32), "stats/figure": np.full(2, value)}


# The store itself


@pytest.mark.parametrize("folder", [True, False])
def test_create_append_commit_read(tmp_path, folder):
    store = Store.create(tmp_path / "runs" / "a" if folder else None, META)
    store.reserve(row(0.0), 10)
    for index in range(7):
        store.append(row(float(index)))
        if index == 3:
            store.commit({"state": torch.ones(2)})
    assert store.num_draws == 4
    assert store.names() == ["stats/figure", "theta"]
    np.testing.assert_array_equal(store.read("stats/figure", slice(None)), [[0, 1, 2, 3]] * 2)
    if folder:
        again = Store.open(tmp_path / "runs" / "a", writable=True)
        assert again.num_draws == 4, "draws after the commit do not count"
        assert torch.equal(again.checkpoint["state"], torch.ones(2))
        again.reserve(row(0.0), 12)
        for index in range(4, 12):
            again.append(row(float(index)))
        again.commit({})
        np.testing.assert_array_equal(again.read("stats/figure", slice(2, None)), [list(range(2, 12))] * 2)
        assert not list(tmp_path.glob("runs/.a.*")), "no partial folder is left"


def test_a_hundred_commits_across_chunks(tmp_path, monkeypatch):
    """Chunks of three draws, commits at every place in a chunk, a fresh object at every other commit."""
    monkeypatch.setattr("bnnpriors.store.CHUNK_BYTES", 3 * 24)
    path = tmp_path / "a"
    store = Store.create(path, META)
    store.reserve(row(0.0), 100)
    for index in range(100):
        store.append(row(float(index)))
        store.commit({})
        if index % 2:
            store = Store.open(path, writable=True)
            store.reserve(row(0.0), 100)
    np.testing.assert_array_equal(store.read("theta", slice(None))[0, :, 0], np.arange(100))
    assert store.group["theta"].chunks == (2, 3, 3)


def test_memory_is_flat_in_draws(tmp_path):
    """64 MiB of draws pass through a buffer of 8 MiB."""
    store = Store.create(tmp_path / "a", META)
    draw = {"theta": np.zeros((2, 2048), np.float32)}
    store.reserve(draw, 4096)
    assert sum(buffer.nbytes for buffer in store._buffers.values()) == 8 * 2**20
    tracemalloc.start()
    for _ in range(4096):
        store.append(draw)
    store.commit({})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_what_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="no store here"):
        Store.open(tmp_path / "absent")
    with pytest.raises(StoreError, match="not a store of bnnpriors"):
        Store.open(tmp_path)
    zarr.create_group(str(tmp_path / "other"))
    with pytest.raises(StoreError, match="store format None"):
        Store.open(tmp_path / "other")


def test_free_bytes_of_a_path_to_come(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0


# Runs with a store


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
    """SIGINT in one step."""

    at = 25

    def step(self, target, state, streams):
        calls = self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        if calls == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(target, state, streams)


class EarlyInterrupting(Interrupting):
    """The same in warm-up."""

    at = 4


@pytest.mark.parametrize(("kind", "kept"), [(Interrupting, 7), (EarlyInterrupting, 0)])
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
from bnnpriors import programs, run
from bnnpriors.samplers import GGMC, HMC
from bnnpriors.store import Store

run.CHECKPOINT_SECONDS = 0.0
programs.trace = lambda function, args, compiled: function  # tracing would be most of the time
generator = torch.Generator().manual_seed(0)
x = torch.randn(15, 2, generator=generator)
model = bp.attach(torch.nn.Linear(2, 1), bp.priors.Normal())
batch_size, sampler = {
    "HMC": (None, HMC(step_size=0.05, num_steps=2)),
    "GGMC": (5, GGMC(step_size=0.05, steps_per_test=3, target_acceptance=0.7)),
}[sys.argv[2]]
post = bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True), batch_size=batch_size)
post.target(3).value_and_gradient(torch.zeros(3, post.dim))  # torch loads much of itself here, once for all children
killed, alone = sys.argv[3:]

def run(path):
    child = os.fork()
    if child == 0:
        bp.sample(post, sampler, num_samples=60, num_warmup=40, num_chains=3, store=path, resume=True, progress=False)
        os._exit(0)
    return child

def checkpoint():
    try:
        return os.stat(killed + "/checkpoint.pt").st_ino
    except FileNotFoundError:
        return 0

def runs(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

assert os.waitpid(run(alone), 0)[1] == 0
clock = random.Random(3)
while True:
    last, left, child = checkpoint(), clock.randint(1, 8), run(killed)
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


@pytest.mark.parametrize("kind", ["HMC", "GGMC"])
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
    assert draws.num_draws == 60
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


def test_a_disk_too_small_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "free_bytes", lambda path: 1000)
    with pytest.raises(StoreError, match=r"the draws need .* and the disk has 1e\+03 B free"):
        sample(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_flipped_byte_is_found(tmp_path):
    sample(tmp_path / "a")
    file = next(f for f in (tmp_path / "a" / "theta" / "c").rglob("*") if f.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    draws = bp.Draws.open(tmp_path / "a")
    with pytest.raises(StoreError, match=r"'theta' has a corrupted chunk among draws 0 to 20"):
        _ = draws.theta
    assert draws.stats["acceptance"].shape == (2, 20), "what is whole can be read"


def test_a_missing_chunk_is_found(tmp_path):
    sample(tmp_path / "a")
    next(f for f in (tmp_path / "a" / "stats" / "acceptance" / "c").rglob("*") if f.is_file()).unlink()
    draws = bp.Draws.open(tmp_path / "a")
    with pytest.raises(StoreError, match="chunk of array 'stats/acceptance' is missing"):
        _ = draws.stats["acceptance"]


def test_damaged_metadata_and_checkpoint(tmp_path):
    sample(tmp_path / "a")
    checkpoint = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    (tmp_path / "a" / "checkpoint.pt").write_bytes(checkpoint[:100])
    with pytest.raises(StoreError, match=r"checkpoint\.pt is damaged"):
        bp.Draws.open(tmp_path / "a")
    with pytest.raises(StoreError, match=r"checkpoint\.pt is damaged"):
        sample(tmp_path / "a", resume=True)
    (tmp_path / "a" / "checkpoint.pt").write_bytes(checkpoint)
    (tmp_path / "a" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="metadata is damaged"):
        bp.Draws.open(tmp_path / "a")


def test_another_process_that_writes_is_respected(tmp_path):
    sample(tmp_path / "a")
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StoreError, match="another process is writing"):
            sample(tmp_path / "a", resume=True)
        assert bp.Draws.open(tmp_path / "a").num_draws == 20, "reading needs no lock"
        other.stdin.close()
        other.wait()
    assert_same(sample(tmp_path / "a", resume=True), sample(None))


class Unpicklable(torch.nn.Linear):
    """A module that holds an open function."""

    def __init__(self):
        super().__init__(2, 1)
        self.hook = lambda x: x


def test_a_model_that_cannot_be_pickled_is_told(tmp_path):
    x = torch.ones(4, 2)
    given = bp.Posterior(bp.attach(Unpicklable(), bp.priors.Normal()), bp.likelihoods.Gaussian(), x, x[:, :1])
    with pytest.warns(UserWarning, match="cannot be pickled"):
        stored = sample(tmp_path / "a", given=given)
    alone = bp.Draws.open(tmp_path / "a")
    assert torch.equal(alone.theta, stored.theta)
    with pytest.raises(StoreError, match="holds no model"):
        alone.predict(x)
    whole = bp.Draws.open(tmp_path / "a", posterior=given)
    assert torch.equal(whole.predict(x).mean, stored.predict(x).mean)


def test_attributes_are_plain_json(tmp_path):
    sample(tmp_path / "a")
    attributes = json.loads((tmp_path / "a" / "zarr.json").read_text())["attributes"]
    assert attributes["layout"] == [["weight", [1, 2]], ["bias", [1]]]
    assert attributes["identity"]["seed"] == 0
