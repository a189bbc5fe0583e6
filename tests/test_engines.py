"""Local clusters start, answer and stop, whatever happens inside the block."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers import cluster_processes, wait_until

import mscourse
from mscourse import controller, guard
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


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_hold_up_the_end():
    with mscourse.local_cluster(1):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        start_s = time.monotonic()
    ended_after_s = time.monotonic() - start_s
    child.kill()
    child.join()
    assert ended_after_s < 30


FORKS = """
import os, sys, warnings
import mscourse
warnings.simplefilter("ignore")  # of threads at a fork
with mscourse.local_cluster(1) as client:
    child = os.fork()
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
    print(len(mscourse.engine_hosts(client)))
"""


def test_a_forked_child_that_leaves_the_block_ends_nothing():
    told = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert (told.stdout, told.stderr) == ("1\n", "")


def test_a_cluster_whose_guard_was_killed_ends_all_the_same():
    before = cluster_processes()
    with mscourse.local_cluster(1) as own:
        words = {str(Path(guard.__file__)), own.cluster.profile_dir}
        (its_guard,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if words <= {*(process.info["cmdline"] or ())}
        ]
        its_guard.kill()
        its_guard.wait()
    assert cluster_processes() <= before


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
        assert wait_until(lambda: not client.ids)
        with pytest.raises(mscourse.NoEnginesError):  # listed a moment ago, and forgotten by now
            ask_engines(client, os.getpid, targets=[1])
        with pytest.raises(mscourse.NoEnginesError, match="ipcluster engines"):
            mscourse.engine_hosts(client)
    with pytest.raises(mscourse.NoEnginesError, match="The client is closed"):
        mscourse.engine_hosts(client)


def test_a_question_that_raises_names_the_engine(client):
    with pytest.raises(mscourse.ClusterError, match=r"Engine 0 cannot answer.*not today"):
        ask_engines(client, fail)


def test_a_controller_that_dies_is_told_and_not_waited_for(monkeypatch):
    monkeypatch.setattr("mscourse.controller._ASK_AFTER_SILENCE_S", 0.5)
    monkeypatch.setattr("mscourse.controller._ANSWER_WITHIN_S", 2)
    with mscourse.local_cluster(1) as client:
        process = psutil.Process(client.cluster.controller.pid)
        for each in [*process.children(recursive=True), process]:
            each.kill()
        with pytest.raises(mscourse.ClusterError, match="controller does not answer"):
            mscourse.engine_hosts(client)


def test_a_question_whose_answer_is_lost_is_not_waited_for(client, monkeypatch):
    monkeypatch.setattr("mscourse.lostanswers._ASK_PERIOD_S", 0.3)
    handlers, lost = client._queue_handlers, []
    handle = handlers["apply_reply"]
    monkeypatch.setitem(handlers, "apply_reply", lambda m: handle(m) if lost else lost.append(m))
    with pytest.raises(mscourse.ClusterError, match=r"lost on its way.*Ask again"):
        ask_engines(client, os.getpid)
    assert client.wait(timeout=10)  # for nothing
    ids = {message["parent_header"]["msg_id"] for message in lost}
    for message in lost:  # it comes after all
        handlers["apply_reply"](message)
    assert len(ids) == 1
    assert not ids & client.results.keys()
    assert len(ask_engines(client, os.getpid)) == len(client.ids)


class Question:
    """One to a controller; this test decides whether it is answered."""

    def __init__(self, client):
        self.is_open = True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    clock = SimpleNamespace(now_s=0.0, monotonic=lambda: clock.now_s)
    monkeypatch.setattr(controller, "time", clock)
    monkeypatch.setattr(controller, "ControllerQuestion", Question)
    return clock


def looks(watch, clock, seconds):
    """Look every half second for a while; tell what was found each time."""
    found = []
    for _ in range(int(2 * seconds)):
        clock.now_s += 0.5
        found.append(watch.is_silent())
    return found


def test_a_client_that_was_paused_blames_nobody(clock):
    watch = controller.ControllerWatch(None)
    clock.now_s = 40.0  # it had no time to ask
    assert not any([watch.is_silent(), *looks(watch, clock, 15)])
    clock.now_s += 40.0  # the question is open, and its answer may wait to be read
    assert not any([watch.is_silent(), *looks(watch, clock, 15)])
    watch._question.is_open = False
    assert not any(looks(watch, clock, 15))
    assert looks(watch, clock, 30)[-1]  # nothing came of the next question


def test_what_an_engine_sends_is_as_good_as_an_answer(clock):
    watch = controller.ControllerWatch(None)
    assert not any(looks(watch, clock, 25))
    watch.heard()
    assert not any(looks(watch, clock, 25))
    assert looks(watch, clock, 10)[-1]
