"""What a run refuses, reports and survives: arguments, starts, divergence, memory, signals."""

import logging
import os
import signal
import threading

import numpy as np
import pytest
import torch

import bnnpriors as bp
from bnnpriors import cost
from bnnpriors.samplers import HMC, SGLD

from .conjugate import regression, sample
from .samplers.targets import of_potential


class Interrupting(SGLD):
    """Sends this process a signal, once, at the seventh step."""

    number, at = signal.SIGINT, 7

    def step(self, target, state, streams):
        calls = self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        if calls == self.at:
            os.kill(os.getpid(), self.number)
        return super().step(target, state, streams)


def test_an_interrupt_in_memory_returns_the_draws_so_far():
    posterior, *_ = regression()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.warns(UserWarning, match="stopped at draw 7 of 50"):
        draws = sample(posterior, Interrupting(step_size=0.05), num_samples=50)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    whole = sample(posterior, SGLD(step_size=0.05), num_samples=50)
    assert torch.equal(draws.theta, whole.theta[:, :7])


class TwoSignals(Interrupting):
    """Another signal in the same step."""

    def step(self, target, state, streams):
        new = super().step(target, state, streams)
        if self.__dict__["calls"] == self.at:
            os.kill(os.getpid(), self.number)
        return new


def test_a_second_signal_interrupts_at_once():
    posterior, *_ = regression()
    with pytest.raises(KeyboardInterrupt):
        sample(posterior, TwoSignals(step_size=0.05), num_samples=50)


def test_outside_the_main_thread():
    posterior, *_ = regression()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(sample(posterior, SGLD(step_size=0.05), num_samples=5, num_chains=1))
    )
    thread.start()
    thread.join()
    assert found[0].theta.shape == (1, 5, 2)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_samples": 0}, "num_samples 0"),
        ({"num_samples": 1, "num_warmup": -1}, "num_warmup -1"),
        ({"num_samples": 1, "num_chains": 0}, "num_chains 0"),
        ({"num_samples": 1, "thin": 0}, "thin 0"),
        ({"num_samples": 1, "init": "zeros"}, "init 'zeros'"),
        ({"num_samples": 1, "resume": True}, "without a store"),
        ({"num_samples": 1, "seed": -1}, "seed -1"),
        ({"num_samples": 1, "chunk_size": 0}, "chunk_size 0"),
    ],
)
def test_bad_arguments(options, word):
    posterior, *_ = regression()
    with pytest.raises(ValueError, match=word):
        sample(posterior, SGLD(), **options)


@pytest.mark.usefixtures("as_a_user_meets_it")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_samples": 2.0}, ValueError, r"num_samples 2\.0 given, expected an integer from 1"),
        ({"thin": "2"}, ValueError, "thin '2' given, expected an integer from 1"),
        ({"seed": 0.5}, ValueError, r"seed 0\.5 given, expected an integer from 0"),
        ({"chunk_size": 1.5}, ValueError, r"chunk_size 1\.5 given, expected an integer from 1"),
        ({"sampler": SGLD}, TypeError, "SGLD'> given as sampler, expected an object with its settings"),
    ],
)
def test_unfit_arguments_leave_nothing_behind(tmp_path, options, error, message):
    posterior, *_ = regression()
    with pytest.raises(error, match=message):
        bp.sample(posterior, **{"sampler": SGLD(), "num_samples": 2, "store": tmp_path / "a"} | options)
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_counts_may_be_integers_of_numpy_and_torch(tmp_path):
    posterior, *_ = regression()
    names = ("num_samples", "num_warmup", "num_chains", "thin", "seed", "chunk_size")
    given = dict.fromkeys(names, np.int64(2))
    first = bp.sample(posterior, SGLD(), **given, store=tmp_path / "a", progress=False)
    plain = dict.fromkeys(names, 2)
    again = bp.sample(posterior, SGLD(), **plain, store=tmp_path / "a", resume=True, progress=False)
    assert torch.equal(first.theta, again.theta)
    assert sample(posterior, SGLD(), num_samples=torch.tensor(2)).num_draws == 2


def test_a_start_without_density_is_reported():
    posterior = of_potential(lambda x: torch.where(x < 0, torch.inf, x))
    with pytest.raises(bp.SamplingError, match=r"chains \[.*\] start where the potential is not finite"):
        sample(posterior, HMC(), num_samples=1, num_chains=10)


def test_divergence_is_reported_with_chains_and_temperature():
    posterior = of_potential(lambda x: x**4, temperature=[1e-3, 1.0])
    with pytest.raises(bp.SamplingError, match=r"chains \[.*temperatures .*left the finite numbers.*SGLD"):
        sample(posterior, SGLD(step_size=50.0), num_samples=100, num_chains=1)


def test_unwritten_samplers_say_what_is_missing():
    posterior, *_ = regression()
    with pytest.raises(NotImplementedError, match=r"Sampler has no init"):
        sample(posterior, bp.samplers.Sampler(), num_samples=1)


def test_too_much_memory_is_refused():
    posterior, *_ = regression()
    with pytest.raises(MemoryError, match="store='folder'"):
        sample(posterior, SGLD(), num_samples=10**13)


def test_memory_that_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "Path", lambda path: tmp_path / "absent")
    assert cost.free_memory() == float("inf")


def test_cost_is_known_and_logged(caplog):
    posterior, *_ = regression(batch_size=5)
    expected = bp.estimate(posterior, SGLD(), num_samples=10, num_warmup=20, thin=3)
    assert expected.gradient_evaluations == pytest.approx(50 * 5 / 20)
    assert expected.disk_bytes >= 10 * 4 * 2 * 8
    assert bp.estimate(posterior, SGLD(), num_samples=10**6, in_memory=False).memory_bytes < 10**9
    with caplog.at_level(logging.INFO, logger="bnnpriors"):
        sample(posterior, SGLD(), num_samples=2)
    assert "SGLD: 0.5 full-data gradients" in caplog.text
    assert cost.size(3 * 1024**5) == "3.07e+03 TiB"
