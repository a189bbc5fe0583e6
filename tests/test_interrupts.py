"""Ctrl-C, a kill, a clock that jumps: what users do, and what is done to them, ends no search."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from helpers import wait_until
from jupyter_client.manager import KernelManager
from sklearn.svm import SVC

import mscourse

GRID = {"C": [0.1, 1.0, 10.0], "gamma": [1e-2, 1e-1]}

# Two engines, and a search of 30 evaluations on them.
SEARCH = """
import contextlib, os, sys, time
import mscourse
from mscourse.engines import ask_engines
from sklearn.svm import SVC

class SlowSVC(SVC):
    def fit(self, X, y):
        time.sleep(NAP_S)
        return super().fit(X, y)

splits = mscourse.open_splits(FOLDER, "digits")
cluster = contextlib.ExitStack()
client = cluster.enter_context(mscourse.local_cluster(2))
pids = ask_engines(client, os.getpid)
search = mscourse.grid_search(SlowSVC(), GRID, splits, engines=client)
"""


def search_code(splits, nap_s=0.1):
    code = SEARCH.replace("NAP_S", str(nap_s)).replace("GRID", repr(GRID))
    return code.replace("FOLDER", repr(str(splits.folder.parent)))


class Slow(SVC):
    def fit(self, X, y):
        time.sleep(0.1)
        return super().fit(X, y)


@pytest.fixture
def surroundings(tmp_path):
    """An environment by which all that comes of a process is known, and its temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), "IPYTHONDIR": str(tmp_path / "ipython")}
    yield environment, folder
    for process in processes_in(folder):
        process.kill()


def processes_in(folder):
    """All processes that use a temporary folder, and so did what started them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def nothing_is_left(folder, timeout_s):
    """Whether soon no process and no file is left of a cluster."""
    return wait_until(lambda: not processes_in(folder) and not list(folder.iterdir()), timeout_s)


@contextmanager
def script(code, environment):
    """Run a script as a terminal does: in a process group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def expect(process, line):
    """Read what a script says next."""
    said = process.stdout.readline().strip()
    if said != line:
        process.kill()
        pytest.fail(f"{said!r} instead of {line!r}\n{process.stderr.read()}")


def ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)


def test_ctrl_c_ends_a_wait_and_not_the_search(surroundings, digits_splits):
    environment, folder = surroundings
    code = search_code(digits_splits) + textwrap.dedent("""
        while True:
            print("waiting", flush=True)
            try:
                search.wait()
                break
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        assert search.n_done == 30 and search.n_failed == 0, search
        assert ask_engines(client, os.getpid) == pids
        cluster.close()
        print("done", flush=True)
    """)
    with script(code, environment) as process:
        expect(process, "waiting")
        for _ in range(2):
            time.sleep(0.3)
            ctrl_c(process)
            expect(process, "interrupted")
            expect(process, "waiting")
        expect(process, "done")
        assert process.wait(20) == 0, process.stderr.read()
        assert process.stderr.read() == ""
    assert nothing_is_left(folder, timeout_s=0)


@pytest.mark.parametrize("n_times", [1, 3])
def test_ctrl_c_ends_a_script_that_does_not_catch_it_and_all_it_has_started(
    surroundings, digits_splits, n_times
):
    environment, folder = surroundings
    # The engines are in the middle of something that takes long.
    code = search_code(digits_splits, nap_s=60) + textwrap.dedent("""
        with cluster:
            print("waiting", flush=True)
            search.wait()
    """)
    with script(code, environment) as process:
        expect(process, "waiting")
        time.sleep(0.3)
        for _ in range(n_times):
            ctrl_c(process)
            time.sleep(0.2)
        assert process.wait(8) == -signal.SIGINT  # as the shell wants it, so that a loop ends too
        assert "KeyboardInterrupt" in process.stderr.read()
    # An impatient user gets the prompt back at once; the rest ends a little later.
    assert nothing_is_left(folder, timeout_s=5 if n_times > 1 else 0)


def test_nothing_outlives_a_script_that_is_killed(surroundings, digits_splits):
    environment, folder = surroundings
    code = search_code(digits_splits, nap_s=60) + 'print("waiting", flush=True)\nsearch.wait()\n'
    with script(code, environment) as process:
        expect(process, "waiting")
        time.sleep(0.3)
        assert len(processes_in(folder)) > 4  # the controller, the engines and their nannies
        process.kill()
        assert process.wait(5) == -signal.SIGKILL
    assert nothing_is_left(folder, timeout_s=10)


def test_nothing_outlives_a_script_that_is_killed_and_was_forked(surroundings, digits_splits):
    environment, folder = surroundings
    code = search_code(digits_splits) + textwrap.dedent("""
        import warnings
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        search.wait()
        time.sleep(60)
    """)
    with script(code, environment) as process:
        child = psutil.Process(int(process.stdout.readline()))
        try:
            process.kill()
            assert wait_until(lambda: processes_in(folder) == [child], timeout_s=10)
        finally:
            child.kill()


@pytest.fixture
def kernel(surroundings):
    """A notebook's kernel: gives its manager, and what runs a cell and gives how it ended."""
    environment, _ = surroundings
    manager = KernelManager()
    manager.start_kernel(env=environment)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def reply_to(client, message_id, timeout_s=60):
    while True:
        reply = client.get_shell_msg(timeout=timeout_s)
        if reply["parent_header"].get("msg_id") == message_id:
            return reply["content"]


def run_cell(client, code):
    return reply_to(client, client.execute(code))


def test_a_cell_that_waits_may_be_interrupted_and_the_next_waits_again(
    kernel, surroundings, digits_splits
):
    manager, client = kernel
    assert run_cell(client, search_code(digits_splits))["status"] == "ok"
    # Else the kernel drops the cells that are sent to it just then.
    waiting = client.execute("search.wait()", stop_on_error=False)
    with pytest.raises(queue.Empty):
        client.get_shell_msg(timeout=0.5)
    manager.interrupt_kernel()
    assert reply_to(client, waiting, 30)["ename"] == "KeyboardInterrupt"
    content = run_cell(client, "assert search.wait() and search.n_done == 30")
    assert content["status"] == "ok", content
    content = run_cell(client, "assert ask_engines(client, os.getpid) == pids")
    assert content["status"] == "ok", content
    # To restart the kernel is how users end what they have started.
    manager.restart_kernel(now=True)
    _, folder = surroundings
    assert wait_until(lambda: not list(folder.glob("mscourse-*")), timeout_s=10)


def test_to_abort_and_to_close_twice_does_no_harm(digits_splits):
    with mscourse.local_cluster(1) as client:
        search = mscourse.grid_search(Slow(), GRID, digits_splits, engines=client)
        search.abort()
        n_done = search.n_done
        search.abort()
        assert not search.wait()
        assert search.n_done == n_done < search.n_total
        client.close()
        client.close()
        search.abort()


DAY_S = 24 * 3600.0


def test_a_clock_that_jumps_changes_nothing(client, digits_splits, monkeypatch):
    undisturbed = mscourse.grid_search(SVC(), GRID, digits_splits, engines=client)
    assert undisturbed.wait(30)
    search = mscourse.grid_search(Slow(), GRID, digits_splits, engines=client)
    now_s = time.time
    for days in (3, 400, -400, -3):
        n_done = search.n_done
        monkeypatch.setattr(time, "time", lambda days=days: now_s() + days * DAY_S)
        assert wait_until(lambda n_done=n_done: search.n_done >= n_done + 2)
    assert search.wait(30)
    for days, within_s in ((400, 60), (-400, 0.8)):  # while somebody waits
        again = mscourse.grid_search(Slow(), GRID, digits_splits, engines=client)
        monkeypatch.setattr(time, "time", now_s)
        jumped = {"name": "time", "value": lambda days=days: now_s() + days * DAY_S}
        jump = threading.Timer(0.3, monkeypatch.setattr, [time], jumped)
        jump.start()
        start_s = time.monotonic()
        assert again.wait(within_s) == (days > 0)
        assert time.monotonic() - start_s < 20
        jump.join()
        assert again.wait(60)
    for key in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.results()[key], undisturbed.results()[key])
    assert all(0 < e.fit_time_s < 10 for e in search.evaluations())
