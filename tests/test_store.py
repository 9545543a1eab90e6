"""The store of a run: its arrays, checksums, damage, and other processes."""

import json
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
import zarr

import bnnpriors as bp
from bnnpriors import cost
from bnnpriors.disk import free_bytes
from bnnpriors.store import Store, StoreError

from .stored_runs import assert_same, sample

META = {"format": 1, "layout": [["w", [3]]], "temperatures": [1.0], "num_chains": 2}


def row(value):
    return {"theta": np.full((2, 3), value, np.float32), "stats/figure": np.full(2, value)}


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
        store.close()
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
            store.close()
            store = Store.open(path, writable=True)
            store.reserve(row(0.0), 100)
    np.testing.assert_array_equal(store.read("theta", slice(None))[0, :, 0], np.arange(100))
    assert store.group["theta"].chunks == (2, 3, 3)


def test_memory_is_flat_in_draws(tmp_path):
    """128 MiB of draws pass through two buffers of 8 MiB, one being filled and one being written."""
    store = Store.create(tmp_path / "a", META)
    draw = {"theta": np.zeros((2, 2048), np.float32)}
    store.reserve(draw, 8192)
    assert sum(buffer.nbytes for buffer in store._buffers.values()) == 8 * 2**20
    tracemalloc.start()
    for _ in range(8192):
        store.append(draw)
    store.commit({})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 * 2**20


def held(monkeypatch):
    """Chunks and checkpoints are written when the event that this returns is set; what is written is noted."""
    allowed, written = threading.Event(), []
    flush, conclude = Store._flush, Store._conclude

    def slow_flush(self, name, stop, values):
        allowed.wait(10)
        flush(self, name, stop, values)
        written.append((name, stop))

    def slow_conclude(self, checkpoint):
        allowed.wait(10)
        conclude(self, checkpoint)
        written.append(("checkpoint", checkpoint["num_draws"]))

    monkeypatch.setattr(Store, "_flush", slow_flush)
    monkeypatch.setattr(Store, "_conclude", slow_conclude)
    monkeypatch.setattr("bnnpriors.store.CHUNK_BYTES", 3 * 24)
    return allowed, written


def test_a_run_goes_on_while_a_chunk_is_written(tmp_path, monkeypatch):
    allowed, written = held(monkeypatch)
    store = Store.create(tmp_path / "a", META)
    store.reserve({"theta": row(0.0)["theta"]}, 9)
    for index in range(5):
        store.append({"theta": np.full((2, 3), index, np.float32)})
    assert not written
    allowed.set()
    store.commit({})
    assert written == [("theta", 3), ("theta", 5), ("checkpoint", 5)]
    np.testing.assert_array_equal(store.read("theta", slice(None))[0, :, 0], np.arange(5))


def test_a_checkpoint_comes_after_its_draws_and_is_of_its_moment(tmp_path, monkeypatch):
    """A commit that does not wait holds the draws before it, whatever is appended meanwhile."""
    allowed, written = held(monkeypatch)
    store = Store.create(tmp_path / "a", META)
    store.reserve(row(0.0), 9)
    store.append(row(0.0))
    store.commit({"state": torch.ones(1)}, wait=False)
    store.append(row(1.0))
    assert store.num_draws == 0
    assert store.checkpoint is None
    allowed.set()
    store.close()
    assert written == [("theta", 1), ("stats/figure", 1), ("checkpoint", 1)]
    again = Store.open(tmp_path / "a")
    assert again.num_draws == 1
    np.testing.assert_array_equal(again.read("theta", slice(None))[0, :, 0], [0])


def test_no_checkpoint_counts_draws_that_could_not_be_written(tmp_path, monkeypatch):
    """The failure of the thread is raised by the next call that writes, and that call writes nothing."""
    monkeypatch.setattr("bnnpriors.store.CHUNK_BYTES", 3 * 24)

    def fail(self, name, stop, values):
        raise StoreError("the disk is full")

    store = Store.create(tmp_path / "a", META)
    store.reserve(row(0.0), 9)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_flush", fail)
        for index in range(3):
            store.append(row(float(index)))
        store._background._job.exception()
    with pytest.raises(StoreError, match="disk is full"):
        store.commit({})
    store.close()
    assert Store.open(tmp_path / "a").num_draws == 0


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
