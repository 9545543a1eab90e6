"""Kernel matrices in folders: the matrix that memory holds, after kills, damage and with other processes."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from bnnpriors import infinite
from bnnpriors.cluster import open_client
from bnnpriors.infinite import stored, tile_files, tile_work, tiles
from bnnpriors.store import StoreError

from .networks import inputs, model

COUNT, TILE = 11, 3
REPOSITORY = Path(__file__).resolve().parents[2]


def _kernel() -> infinite.InfiniteWidthKernel:
    return infinite.kernel(model("strided"))


def _store(
    path: Path, kernel: infinite.InfiniteWidthKernel | None = None, **options: object
) -> infinite.StoredGram:
    options = {"tile": TILE, "progress": False} | options
    return (kernel or _kernel()).gram(inputs("strided", COUNT), out=path, **options)  # type: ignore[call-overload,no-any-return]


def _in_memory(count: int, tile: int) -> torch.Tensor:
    """The matrix from its tiles; from blocks of another size it differs by rounding."""
    kernel, x = _kernel(), inputs("strided", count)
    whole = torch.empty(count, count, dtype=x.dtype)
    with torch.no_grad():
        for i in range(0, count, tile):
            for j in range(i, count, tile):
                block = kernel.matrix(x[i : i + tile], None if i == j else x[j : j + tile])
                whole[i : i + tile, j : j + tile] = block
                whole[j : j + tile, i : i + tile] = block.mT
    torch.testing.assert_close(whole, kernel.gram(x), rtol=1e-13, atol=0)
    return whole


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_symmetric_matrix(tmp_path: Path, dtype: torch.dtype) -> None:
    """Bit for bit that of memory, whole and in parts; the array itself has the upper tiles alone."""
    store = _store(tmp_path / "k", dtype=dtype)
    expected = _kernel().gram(inputs("strided", COUNT), dtype=dtype)
    assert store.is_complete
    assert (store.shape, store.dtype, store.is_symmetric) == ((COUNT, COUNT), dtype, True)
    again = infinite.open_gram(str(tmp_path / "k"))
    assert torch.equal(store.read(), expected)
    assert torch.equal(again.read(), expected)
    for rows, columns in (
        (slice(2, 9), slice(4, 5)),
        (slice(-2, None), slice(0, 4)),
        (slice(5, 5), slice(None)),
    ):
        assert torch.equal(store.read(rows, columns), expected[rows, columns])
    array = zarr.open_group(str(tmp_path / "k"), mode="r")["kernel"][:]  # type: ignore[index]
    assert np.isnan(array[TILE:, :TILE]).all()
    assert np.array_equal(np.triu(array), expected.triu().numpy())
    out = torch.zeros(COUNT, 2, dtype=torch.float64)
    assert store.read(columns=slice(3, 5), out=out) is out
    assert torch.equal(out, expected[:, 3:5].double())
    assert store.read(dtype=torch.float64).dtype == torch.float64


def test_two_sets_of_inputs(tmp_path: Path) -> None:
    kernel, x = _kernel(), inputs("strided", COUNT)
    store = kernel.gram(x[:4], x, out=tmp_path / "k", tile=3, progress=False)
    assert not store.is_symmetric
    assert torch.equal(store.read(), kernel.gram(x[:4], x))
    assert "4 × 11, torch.float64, 8 of 8 tiles" in repr(store)


def test_a_stored_matrix_serves_a_regression(tmp_path: Path) -> None:
    """By the numbers of its points, and rows and columns in any order."""
    store, kernel, x = _store(tmp_path / "k"), _kernel(), inputs("strided", COUNT)
    numbered = infinite.PrecomputedKernel(store)
    rows, columns = torch.tensor([7, 2, 2]), torch.tensor([0, 10, 5, 6])
    assert torch.equal(numbered.matrix(rows, columns), kernel.gram(x)[rows][:, columns])
    assert store[np.ix_(np.arange(0), np.arange(3))].shape == (0, 3)
    y, train, test = torch.arange(8.0), torch.arange(8), torch.arange(8, COUNT)
    stored_mean = infinite.GPRegression(numbered, train, y).predict(test).mean
    torch.testing.assert_close(
        stored_mean, infinite.GPRegression(kernel, x[:8], y).predict(x[8:]).mean, rtol=1e-9, atol=1e-9
    )


@pytest.mark.slow  # several processes
def test_kills_leave_no_tile_that_is_half_there(tmp_path: Path) -> None:
    """Six times SIGKILL while tiles are written, at moments that a seed chooses; then the rest, bit for bit that of memory."""
    script = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from tests.infinite import test_stored as here
from bnnpriors import infinite
path, random = Path(sys.argv[1]), random.Random(0)
def count():
    return int(np.load(path / "done.npy").sum()) if (path / "done.npy").exists() else 0
kills, counts = 0, []
while kills < 6:
    before = count()
    child = os.fork()
    if not child:
        here._store(path, tile=1, resume=True)
        os._exit(0)
    while count() < before + 1 and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    counts.append(count())
print(*counts)
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "k")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    counts = [int(word) for word in run.stdout.split()]
    assert counts == sorted(counts)
    assert 6 <= counts[-1] < COUNT * (COUNT + 1) // 2
    partial = infinite.open_gram(tmp_path / "k")
    expected = _in_memory(COUNT, 1)
    for i, j in partial.tiles():
        if partial.done[i, j]:
            assert float(partial.read(slice(i, i + 1), slice(j, j + 1))) == float(expected[i, j])
    with pytest.raises(StoreError, match=r"not computed yet.*resume=True"):
        partial.read()
    assert torch.equal(_store(tmp_path / "k", tile=1, resume=True).read(), expected)


def test_a_tile_counts_when_its_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between a tile and its record, the tile is computed again; those before are not."""
    real, seen = tile_files.write_record, []

    def third_fails(path: Path, done: np.ndarray) -> None:
        if done.sum() == 3:
            raise KeyboardInterrupt
        real(path, done)

    monkeypatch.setattr(tile_files, "write_record", third_fails)
    with pytest.raises(KeyboardInterrupt):
        _store(tmp_path / "k")
    assert int(infinite.open_gram(tmp_path / "k").done.sum()) == 2
    (tmp_path / "k" / "kernel" / "c" / "0" / "2").write_bytes(b"half a tile")
    monkeypatch.setattr(tile_files, "write_record", real)
    compute = tile_work.compute_tile
    monkeypatch.setattr(tile_work, "seconds_per_pair", lambda *given: 1e-6)
    monkeypatch.setattr(tile_work, "compute_tile", lambda *given: seen.append(given) or compute(*given))
    store = _store(tmp_path / "k", resume=True, tile=None)
    assert len(seen) == 10 - 2
    assert torch.equal(store.read(), _kernel().gram(inputs("strided", COUNT)))
    _store(tmp_path / "k", resume=True)
    assert len(seen) == 10 - 2


def test_damage_is_found(tmp_path: Path) -> None:
    store = _store(tmp_path / "k")
    file = tmp_path / "k" / "kernel" / "c" / "0" / "1"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"tile \(0, 1\) is damaged"):
        store.read()
    store.read(slice(0, 3), slice(0, 3))
    file.unlink()
    with pytest.raises(StoreError, match=r"file of tile \(0, 1\) is missing"):
        store.read()
    (tmp_path / "k" / "done.npy").write_bytes(b"")
    with pytest.raises(StoreError, match=r"done\.npy is damaged"):
        infinite.open_gram(tmp_path / "k")
    with pytest.raises(StoreError, match="no kernel matrix here"):
        infinite.open_gram(tmp_path / "other")


def test_another_matrix_is_refused_with_the_differences(tmp_path: Path) -> None:
    x = inputs("strided", COUNT)
    store = _store(tmp_path / "k")
    with pytest.raises(StoreError, match="exists: pass resume=True"):
        _store(tmp_path / "k")
    for options, message in (
        ({"kernel": _kernel().set(bias_variance=0.2)}, "hyperparameters: the store has"),
        ({"kernel": infinite.kernel(model("strided"), mean_terms=False)}, "program"),
        ({"dtype": torch.float32}, "inputs.*\n.*dtype"),
        ({"tile": 4}, "tiles of 3 rows and tile=4"),
    ):
        with pytest.raises(StoreError, match=message):
            _store(tmp_path / "k", resume=True, **options)
    with pytest.raises(StoreError, match=r"another kernel matrix.*\n.*inputs"):
        _kernel().gram(x + 1, out=tmp_path / "k", resume=True)
    store.check_made_of(tiles.fingerprint(_kernel(), x, None))
    with pytest.raises(StoreError, match="other inputs"):
        store.check_made_of(tiles.fingerprint(_kernel(), x, x))
    holder = stored.StoredGram.begin(
        tmp_path / "k",
        store.shape,
        store.dtype,
        None,
        tiles.fingerprint(_kernel(), x, None),
        is_symmetric=True,
        resume=True,
    )
    with pytest.raises(StoreError, match="another process is writing"):
        _store(tmp_path / "k", resume=True)
    holder.close()
    _store(tmp_path / "k", resume=True)


def test_the_cost_is_known_before_the_first_tile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11 rows in tiles of 3: 10 tiles, 66 pairs, and a disk of 10 · 3² · 8 bytes."""
    monkeypatch.setattr(tile_work, "seconds_per_pair", lambda *given: 60.0)
    monkeypatch.setattr(tile_work, "compute_tile", lambda *given: pytest.fail("a tile was computed"))
    with caplog.at_level(logging.INFO, logger="bnnpriors"), pytest.raises(pytest.fail.Exception):
        _store(tmp_path / "k")
    assert "10 tiles, 66 pairs at 6e+07 µs: about 66 min for 1 process" in caplog.text
    assert "720 B on the disk" in caplog.text
    monkeypatch.setattr(tile_work, "free_bytes", lambda path: 719)
    with pytest.raises(StoreError, match=r"need 720 B and the disk has 719 B free"):
        _store(tmp_path / "k", resume=True)
    monkeypatch.setattr(tile_work, "free_bytes", lambda path: 720)
    monkeypatch.setattr(tile_work, "free_memory", lambda: 1.0)
    with pytest.raises(MemoryError, match="lower tile or memory"):
        _store(tmp_path / "k", resume=True)
    assert [tile_work.duration(t) for t in (5.0, 3600.0, 7300.0)] == ["5 s", "60 min", "2 h 02 min"]


def test_the_time_of_a_pair_is_that_of_a_block_that_takes_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that ticks .01 s for each row: 32 rows are the first to take .3 s, and the first 8 are not timed."""
    now, sizes = [0.0], []

    def compute(kernel: object, rows: np.ndarray, *given: object) -> None:
        sizes.append(len(rows))
        now[0] += 0.01 * len(rows)

    monkeypatch.setattr(tile_work, "compute_tile", compute)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    place = torch.device("cpu")
    assert tile_work.seconds_per_pair(_kernel(), np.zeros((1000, 2)), 2**20, place) == pytest.approx(
        0.32 / 32**2
    )
    assert sizes == [8, 8, 16, 32]
    assert tile_work.seconds_per_pair(_kernel(), np.zeros((3, 2)), 2**20, place) == pytest.approx(0.03 / 9)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiles before are safe, and a run with room goes on."""
    import errno

    real, calls = tile_files.flush, []

    def full(path: Path) -> None:
        calls.append(path)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path)

    monkeypatch.setattr(tile_files, "flush", full)
    with pytest.raises(StoreError, match=r"the disk is full.*resume=True"):
        _store(tmp_path / "k")
    monkeypatch.setattr(tile_files, "flush", real)
    assert int(infinite.open_gram(tmp_path / "k").done.sum()) == 3
    assert _store(tmp_path / "k", resume=True).is_complete


def test_what_no_folder_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, x = _kernel(), inputs("strided", COUNT)
    for options, message in (
        ({"tile": 0}, "tile 0 given"),
        ({"workers": 0}, "workers 0"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "workers 2 and scheduler"),
    ):
        with pytest.raises(ValueError, match=message):
            _store(tmp_path / "k", **options)
    with pytest.raises(ValueError, match="expected one at least"):
        kernel.gram(x[:0], out=tmp_path / "k")
    with pytest.raises(ValueError, match="expects 2 channels"):
        kernel.gram(x[:, :1], out=tmp_path / "k")
    with pytest.raises(ValueError, match="NaN"):
        kernel.gram(x / 0, out=tmp_path / "k")
    assert not (tmp_path / "k").exists()
    monkeypatch.setattr(tile_work, "seconds_per_pair", lambda *given: 1.0)
    monkeypatch.setattr(tile_work, "compute_tile", lambda *given: np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"tile \(0, 0\) of the kernel has NaN"):
        _store(tmp_path / "k")
    store = infinite.open_gram(tmp_path / "k")
    with pytest.raises(ValueError, match="without a step"):
        store.read(slice(0, 9, 2))
    with pytest.raises(ValueError, match=r"out \(2, 2\)"):
        store.read(out=torch.zeros(2, 2))


@pytest.mark.slow  # processes that import torch
def test_other_processes_and_their_end(tmp_path: Path) -> None:
    """Two workers share the tiles; one is killed on the way, and the matrix is that of this process, bit for bit."""
    count = 40
    with open_client(workers=2) as client:
        victim = next(iter(client.run(os.getpid).values()))

        def kill() -> None:
            while (
                not (tmp_path / "k" / "done.npy").exists()
                or not infinite.open_gram(tmp_path / "k").done.any()
            ):
                time.sleep(0.005)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        store = _kernel().gram(
            inputs("strided", count),
            out=tmp_path / "k",
            tile=2,
            scheduler=client.scheduler.address,
            progress=False,
        )
        killer.join()
    assert torch.equal(store.read(), _in_memory(count, 2))
