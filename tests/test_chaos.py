"""A cluster and its driver that are killed again and again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bnnpriors as bp

from .stored_runs import assert_same

REPOSITORY = Path(__file__).resolve().parent.parent

KILLS = """
import asyncio, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import dask, distributed
from distributed import Scheduler, Worker
import bnnpriors as bp
from bnnpriors import programs, spread
from bnnpriors.samplers import GGMC

folder = Path(sys.argv[2])
dask.config.set({"temporary-directory": str(folder), "distributed.admin.log-format": "%(message)s"})
spread.CHECKPOINT_SECONDS = spread.SEGMENT_SECONDS = 0.0  # a mark, with its checkpoint, at every step
programs.trace = lambda function, args, compiled: function  # tracing would be most of the time
generator = torch.Generator().manual_seed(0)
x = torch.randn(15, 2, generator=generator)
model = bp.attach(torch.nn.Linear(2, 1), bp.priors.Normal())
post = bp.Posterior(model, bp.likelihoods.Gaussian(0.5), x, x.sum(1, keepdim=True), batch_size=5, temperature=[0.5, 1.0])
sampler = GGMC(step_size=0.05, steps_per_test=3, target_acceptance=0.7)
# torch loads much of itself here, once for all children
post.target(4, programs.Plan(1, 15, False)).value_and_gradient(torch.zeros(4, post.dim))

def fork(function):
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child

def run(path, **options):
    bp.sample(post, sampler, num_samples=50, num_warmup=60, num_chains=2, thin=4, store=path, resume=True, progress=False,
              compile=False, chunk_size=1, **options)

def schedule():
    async def main():
        async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
            (folder / "partial").write_text(scheduler.address)
            (folder / "partial").rename(folder / "address")
            await scheduler.finished()
    asyncio.run(main())

def work():
    async def main():
        async with Worker(address, nthreads=1, memory_limit=0, dashboard_address=":0", local_directory=str(folder)) as worker:
            await worker.finished()
    asyncio.run(main())

def drive():
    run(folder / "killed", executor="dask", scheduler=address)

def checkpoint():
    try:
        found = os.stat(folder / "killed" / "checkpoint.pt")
        return found.st_ino, found.st_mtime_ns
    except FileNotFoundError:
        return None

def until(condition):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 60, "the run stands still"
        time.sleep(0.001)

def status(child):
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else found.si_status

alone = fork(lambda: run(folder / "alone"))
assert os.waitpid(alone, 0)[1] == 0
scheduler = fork(schedule)
until((folder / "address").exists)
address = (folder / "address").read_text()
clock, start = random.Random(5), {"driver": drive, "first": work, "second": work}
running = {name: fork(function) for name, function in start.items()}
kills = {name: 0 for name in start}
try:
    while sum(kills.values()) < 50:
        name = clock.choice(["driver", "driver", "first", "second"])
        for _ in range(clock.randint(1, 3)):
            last = checkpoint()
            until(lambda: checkpoint() != last or status(running["driver"]) is not None)
        assert status(running["driver"]) is None, "the run ended before the kills did"
        time.sleep(clock.uniform(0.0, 0.02))
        os.kill(running[name], signal.SIGKILL)
        os.waitpid(running[name], 0)
        running[name], kills[name] = fork(start[name]), kills[name] + 1
    assert os.waitpid(running.pop("driver"), 0)[1] == 0
finally:
    for child in [scheduler, *running.values()]:
        os.kill(child, signal.SIGKILL)
print(*kills.values())
"""


@pytest.mark.slow
def test_workers_and_the_driver_are_killed_fifty_times(tmp_path):
    """SIGKILL at random moments, warm-up included: no draw is lost or there twice, for the store is that of one process that
    nothing disturbed."""
    (tmp_path / "kills.py").write_text(KILLS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BNNPRIORS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(tmp_path / "kills.py"), str(REPOSITORY), str(tmp_path)]
    options = {"env": environment, "start_new_session": True, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            output, errors = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-5000:]
    driver, first, second = map(int, output.split())
    assert driver + first + second == 50
    assert min(driver, first, second) > 5
    draws = bp.Draws.open(tmp_path / "killed")
    assert draws.num_draws == 50
    assert_same(draws, bp.Draws.open(tmp_path / "alone"))
