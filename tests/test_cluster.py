"""Work on several processes."""

import builtins
import os

import pytest

from bnnpriors.cluster import open_client


def test_a_local_cluster_has_the_processes_that_are_asked_for_and_ends():
    with open_client(workers=2) as client:
        addresses = list(client.scheduler_info()["workers"])
        processes = client.run(os.getpid)
        assert len(addresses) == 2
        assert os.getpid() not in processes.values()
        with open_client(client.scheduler.address) as second:
            assert second.submit(sum, [1, 2]).result() == 3
    assert client.status == "closed"


def test_no_scheduler_at_the_address():
    with pytest.raises(OSError, match="Timed out"), open_client("tcp://127.0.0.1:9"):
        pass


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "distributed":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"bnnpriors\[dask\]"), open_client():
        pass
