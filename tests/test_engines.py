"""Local clusters start, answer and stop, whatever happens inside the block."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import psutil
import pytest
from helpers import cluster_processes

import mscourse
from mscourse.engines import ask_engines


def environment(name):
    return os.environ.get(name)


def fail():
    raise ValueError("not today")


def test_everything_stops_at_the_end_also_after_an_exception():
    before = cluster_processes()
    folders = set(Path(tempfile.gettempdir()).glob("mscourse-cluster-*"))

    def fail_inside():
        with mscourse.local_cluster(1) as client:
            assert len(client) == 1
            assert len(cluster_processes() - before) >= 2  # the controller and the engine
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert cluster_processes() <= before
    assert set(Path(tempfile.gettempdir()).glob("mscourse-cluster-*")) <= folders


def test_engines_run_blas_on_as_many_threads_as_asked(client):
    assert set(ask_engines(client, environment, "OMP_NUM_THREADS").values()) == {"1"}
    with mscourse.local_cluster(1, threads_per_engine=3) as own:
        assert ask_engines(own, environment, "OPENBLAS_NUM_THREADS") == {0: "3"}


def test_a_cluster_that_cannot_start_says_what_its_log_says(monkeypatch):
    before = cluster_processes()
    monkeypatch.setattr("mscourse.engines._HEARTBEAT_PERIOD_MS", "never")
    monkeypatch.setattr("mscourse.engines._START_TIMEOUT_S", 5)
    with (
        pytest.raises(mscourse.ClusterError, match=r"did not start(.|\n)*never"),
        mscourse.local_cluster(1),
    ):
        pass
    assert cluster_processes() <= before


def test_hosts_and_their_engines(client):
    hosts = mscourse.engine_hosts(client)
    assert list(hosts) == client.ids
    assert mscourse.one_engine_per_host(client) == {hosts[0]: 0}


def test_an_engine_that_dies_is_left_out_and_none_is_an_error():
    with mscourse.local_cluster(2) as client:
        pids = ask_engines(client, os.getpid)
        os.kill(pids[0], signal.SIGKILL)
        assert ask_engines(client, os.getpid, targets=[0, 1]) == {1: pids[1]}
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(mscourse.NoEnginesError):
            ask_engines(client, os.getpid, targets=[1])
        with pytest.raises(mscourse.NoEnginesError, match="ipcluster engines"):
            mscourse.engine_hosts(client)


def test_a_question_that_raises_names_the_engine(client):
    with pytest.raises(mscourse.ClusterError, match=r"Engine 0 cannot answer.*not today"):
        ask_engines(client, fail)


def test_a_controller_that_dies_is_told_and_not_waited_for(monkeypatch):
    monkeypatch.setattr("mscourse.engines._ASK_AFTER_SILENCE_S", 0.5)
    monkeypatch.setattr("mscourse.engines._ANSWER_WITHIN_S", 2)
    with mscourse.local_cluster(1) as client:
        controller = psutil.Process(client.cluster.controller.pid)
        for process in [*controller.children(recursive=True), controller]:
            process.kill()
        with pytest.raises(mscourse.ClusterError, match="controller does not answer"):
            mscourse.engine_hosts(client)
