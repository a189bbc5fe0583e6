"""The monitor sees what engines hold while they work, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import psutil
import pytest

import mscourse
from mscourse import memory, monitor
from mscourse.monitor import MemoryMonitor

MB = 1_000_000


def hold(n_bytes, gate):
    """Hold memory until the file is there. Runs on the engine, which cannot answer meanwhile."""
    import time
    from pathlib import Path

    import numpy as np

    held = np.ones(n_bytes // 8)
    Path(f"{gate}.held").touch()
    while not Path(gate).exists():
        time.sleep(0.01)
    return held.nbytes


def hold_until_seen(n_bytes):
    """Hold memory until the thread that watches from this very engine has seen it."""
    import time

    import numpy as np

    from mscourse import monitor

    held = np.ones(n_bytes // 8)
    (watch,) = monitor._watches.values()
    n_seen = len(watch.sampler.samples())
    while len(watch.sampler.samples()) < n_seen + 3:
        time.sleep(0.01)
    return held.nbytes


def die():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def until(condition):
    """Wait for what must come; the test's own time limit ends it if it does not."""
    while not condition():
        time.sleep(0.02)


def watchers():
    return [each for each in threading.enumerate() if each.name == "mscourse-memory"]


def n_watchers():
    import threading

    return sum(each.name == "mscourse-memory" for each in threading.enumerate())


@pytest.fixture
def elsewhere(monkeypatch):
    """Have the client believe that all engines are on another host than itself."""
    here = socket.gethostname()
    monkeypatch.setattr(monitor, "_this_host", lambda: "the client's own")
    return here


def assert_nobody_watches(client):
    assert not watchers()
    assert set(client[:].apply_sync(n_watchers)) == {0}


def test_memory_that_a_busy_engine_takes_is_seen(client, tmp_path):
    before = mscourse.engines_memory(client)
    with MemoryMonitor(client, period_s=0.02) as watching:
        work = client[0].apply_async(hold, 50 * MB, str(tmp_path / "gate"))
        until((tmp_path / "gate.held").exists)
        n_seen = len(watching.samples())
        until(lambda: len(watching.samples()) > n_seen + 2)
        (tmp_path / "gate").touch()
        work.get()
    peak = watching.peak()
    assert list(peak) == sorted(client.ids)
    assert peak[0].rss_bytes - before[0].rss_bytes > 49 * MB
    assert peak[1].rss_bytes - before[1].rss_bytes < 30 * MB  # the monitor's modules
    assert_nobody_watches(client)


def test_the_frame_has_a_row_for_each_engine_and_time(client):
    with MemoryMonitor(client) as watching:
        pass
    frame = watching.to_frame()
    assert list(frame.columns) == [
        "time_s", "host", "engine", "pid", "rss_bytes", "anonymous_bytes", "file_backed_bytes",
        "shared_bytes", "pss_bytes", "host_used_bytes", "host_available_bytes",
    ]  # fmt: skip
    assert set(frame["engine"]) == set(client.ids)
    assert set(frame["host"]) == {socket.gethostname()}
    assert (frame["time_s"] >= 0).all()
    total_bytes = psutil.virtual_memory().total
    assert (frame["host_used_bytes"] + frame["host_available_bytes"] == total_bytes).all()
    assert repr(watching).startswith(f"MemoryMonitor: {len(watching.samples())} samples of 2 proc")


def test_without_a_client_this_process_and_its_children():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with MemoryMonitor(period_s=0.02) as watching:
            mine = np.ones(50 * MB // 8)
            until(lambda: {os.getpid(), child.pid} <= watching.peak().keys())
            n_seen = len(watching.samples())
            until(lambda: len(watching.samples()) > n_seen)
        child.communicate()
    assert watching.to_frame()["engine"].isna().all()
    assert watching.peak()[os.getpid()].rss_bytes > mine.nbytes
    assert not watchers()


@pytest.fixture
def own_client():
    """A cluster of its own, for a test that harms the engines."""
    with mscourse.local_cluster(2) as client:
        yield client


def test_engines_die_and_join(own_client):
    client = own_client
    with MemoryMonitor(client, period_s=0.02) as watching:
        client[0].apply_async(die)
        until(lambda: client.ids == [1])
        client.cluster.start_engines_sync(n=1)
        until(lambda: 2 in watching.peak())
        n_seen = len(watching.samples())
        until(lambda: len(watching.samples()) > n_seen)
    frame = watching.to_frame()
    last = frame[frame["time_s"] == frame["time_s"].max()]
    assert set(frame["engine"]) == {0, 1, 2}
    assert set(last["engine"]) == {1, 2}
    assert_nobody_watches(client)


def test_a_client_that_is_closed_meanwhile(client):
    second = client.cluster.connect_client_sync()
    second.wait_for_engines(2, interactive=False)
    with MemoryMonitor(second, period_s=0.02) as watching:
        until(watching.peak)
        second.close()
        n_seen = len(watching.samples())
        until(lambda: len(watching.samples()) > n_seen + 2)
    assert list(watching.peak()) == sorted(client.ids)
    assert not watchers()


def test_an_engine_watches_another_host_even_while_it_is_busy_itself(
    client, elsewhere, monkeypatch
):
    monkeypatch.setattr(monitor, "_VISIT_PERIOD_S", 0.05)
    before = mscourse.engines_memory(client)
    with MemoryMonitor(client, period_s=0.02) as watching:
        # It is told of the others between two things that it does.
        until(lambda: set(watching.peak()) == set(client.ids))
        client[0].apply_sync(hold_until_seen, 50 * MB)
    frame = watching.to_frame()
    assert set(frame["host"]) == {elsewhere}
    assert set(frame["engine"]) == set(client.ids)
    assert watching.peak()[0].rss_bytes - before[0].rss_bytes > 49 * MB
    assert_nobody_watches(client)


def test_another_host_is_watched_as_long_as_an_engine_lives_there(
    own_client, elsewhere, monkeypatch
):
    monkeypatch.setattr(monitor, "_VISIT_PERIOD_S", 0.05)

    def watch_to_the_end():
        with watching:
            until(lambda: list(watching.peak()) == [0, 1])
            os.kill(watching.peak()[0].pid, signal.SIGKILL)
            until(lambda: own_client.ids == [1])
            n_seen = len(watching.to_frame())
            until(lambda: len(watching.to_frame()) > n_seen)
            os.kill(watching.peak()[1].pid, signal.SIGKILL)
            until(lambda: own_client.ids == [])

    watching = MemoryMonitor(own_client, period_s=0.02)
    with pytest.warns(UserWarning, match=r"last samples .* missing: engine 1, which watched it"):
        watch_to_the_end()
    assert not watchers()


def test_where_the_system_tells_only_the_rss(monkeypatch):
    mpl.use("agg")
    monkeypatch.setattr(memory, "_from_smaps", lambda pid: None)
    with MemoryMonitor() as watching:
        pass
    record = watching.peak()[os.getpid()]
    assert record.anonymous_bytes is None
    assert watching.plot().get_ylabel() == "RSS (MB), shared pages in each"
    plt.close("all")


def test_a_long_record_is_thinned_out(monkeypatch):
    monkeypatch.setattr(monitor, "_MOST_SAMPLES", 4)
    with MemoryMonitor(period_s=0.001) as watching:
        until(lambda: watching._sampler.period_s > 0.002)
    assert 2 <= len(watching.samples()) <= 4
    times = [sample.at_s for sample in watching.samples()]
    assert times == sorted(times)


def test_what_is_no_client_and_no_period(client):
    with pytest.raises(mscourse.ParameterError, match="client must be an ipyparallel Client"):
        MemoryMonitor(client[:])
    with pytest.raises(mscourse.ParameterError, match="period_s must be a positive number"):
        MemoryMonitor(period_s=0)
    with MemoryMonitor() as watching:
        pass
    with pytest.raises(mscourse.ParameterError, match="make another"), watching:
        pass
