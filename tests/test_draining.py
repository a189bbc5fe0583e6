"""An engine whose node is to go takes nothing more, and the search goes on elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import pytest
from helpers import wait_until
from sklearn.svm import SVC

import mscourse
from mscourse.batch import BatchReport, Pickled, run_batch
from mscourse.draining import NODE_FOLDER_VARIABLE, busy_engines, drain, is_draining, working
from mscourse.pools import ExecutorPool, IPyParallelPool
from mscourse.scheduler import Scheduler
from mscourse.source import Queue

GRID = {"C": [0.1, 10.0], "gamma": [1e-2, 1e-1]}
N_EVALUATIONS = 20


class SlowSVC(SVC):
    """Takes a while, so that a search is not over before something happens to it."""

    def fit(self, X, y):
        time.sleep(0.2)
        return super().fit(X, y)


def nap(x, seconds, folder):
    """Leave a mark of who has begun it, and when."""
    (folder / f"{x}-{os.getpid()}-{time.time_ns()}").touch()
    time.sleep(seconds)
    return x


def marks(folder):
    """Who has begun what, in the order of time: (item, pid, when)."""
    found = [tuple(int(part) for part in path.name.split("-")) for path in folder.iterdir()]
    return sorted(found, key=lambda mark: mark[2])


class Outcomes(dict):
    """Collects what the scheduler reports, and refuses a second report of an item."""

    def __call__(self, ended):
        for item, value, failure, engine in ended:
            assert item[0] not in self, f"item {item[0]} was reported twice"
            assert failure is None
            self[item[0]] = (value, engine)


@pytest.fixture
def items_folder(tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    return folder


class Nodes:
    """A cluster of this host, whose engines are told to be on two nodes."""

    def __init__(self, client, folders, environment):
        self.client = client
        self.folders = folders
        self._environment = environment

    def start_engine(self, node):
        """Start an engine on a node; give its number and its pid."""
        before = set(self.client.ids)
        self._environment.setenv(NODE_FOLDER_VARIABLE, str(self.folders[node]))
        self.client.cluster.start_engines_sync(n=1)
        self.client.wait_for_engines(len(before) + 1, timeout=30, interactive=False)
        (engine,) = set(self.client.ids) - before
        return engine, self.pid_of(engine)

    def pid_of(self, engine):
        return self.client[engine].apply_sync(os.getpid)


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    folders = [tmp_path / "node001", tmp_path / "node002"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv(NODE_FOLDER_VARIABLE, str(folders[0]))
    with mscourse.local_cluster(1) as client:
        yield Nodes(client, folders, monkeypatch)


@contextmanager
def running(function, items, pool):
    outcomes = Outcomes()
    scheduler = Scheduler(function, Queue(items), nullcontext(pool), outcomes)
    scheduler.start()
    try:
        yield scheduler, outcomes
    finally:
        scheduler.abort()


# -- on the node ---------------------------------------------------------------------------------


def test_without_a_node_nothing_of_this_applies(tmp_path, monkeypatch):
    monkeypatch.delenv(NODE_FOLDER_VARIABLE, raising=False)
    drain(tmp_path)
    with working():
        assert not is_draining()
        assert busy_engines(tmp_path) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["draining"]


def test_who_works_is_seen_and_who_has_died_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv(NODE_FOLDER_VARIABLE, str(tmp_path))
    assert not is_draining()
    with suppress(ZeroDivisionError), working():
        assert busy_engines(tmp_path) == {os.getpid()}
        drain(tmp_path)
        assert is_draining()
        1 / 0  # noqa: B018
    assert busy_engines(tmp_path) == set()
    drain(tmp_path)  # again
    dies = "import os\nfrom mscourse.draining import working\nwith working(): os._exit(0)"
    subprocess.run([sys.executable, "-c", dies], check=True)
    (tmp_path / "busy-body").touch()  # is none of these
    assert len(list(tmp_path.glob("busy-*"))) == 2
    assert busy_engines(tmp_path) == set()


def test_work_goes_on_where_its_mark_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv(NODE_FOLDER_VARIABLE, str(tmp_path / "missing"))
    with working():
        assert not is_draining()


def test_a_batch_gives_back_what_it_has_not_begun():
    function = Pickled.of(lambda x: 2 * x)
    items = [(x,) for x in range(5)]
    n_asked = iter(range(10))
    report = run_batch(function, items, lambda: next(n_asked) >= 2)
    assert report.outcomes == [(0, None), (2, None)]
    assert report.is_leaving
    # It is asked once more at the end; told then, it has done all, and is sent nothing more.
    n_asked = iter(range(10))
    report = run_batch(function, items, lambda: next(n_asked) >= 5)
    assert len(report.outcomes) == 5
    assert report.is_leaving
    assert not run_batch(function, items).is_leaving


def test_workers_of_an_executor_do_not_leave(tmp_path, monkeypatch):
    """They would be sent what they give back, for ever."""
    monkeypatch.setenv(NODE_FOLDER_VARIABLE, str(tmp_path))
    drain(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        pool = ExecutorPool(executor)
        pool.retire(0)
        assert pool.send(0, Pickled.of(abs), [(-1,)]).result().outcomes == [(1, None)]
        assert list(pool.engines()) == [0]


# -- on real engines -----------------------------------------------------------------------------


def test_a_search_goes_on_when_one_of_two_nodes_is_drained(nodes, client, digits_splits):
    undisturbed = mscourse.grid_search(SVC(), GRID, digits_splits, engines=client)
    assert undisturbed.wait(60)

    leaving, staying = nodes.pid_of(nodes.client.ids[0]), nodes.start_engine(1)[1]
    search = mscourse.grid_search(SlowSVC(), GRID, digits_splits, engines=nodes.client)
    assert wait_until(lambda: search.n_done >= 4)
    drain(nodes.folders[0])
    told_s = time.time()
    assert search.wait(60)

    evaluations = search.evaluations()
    counts = Counter((e.candidate, e.split) for e in evaluations)
    assert len(counts) == N_EVALUATIONS
    assert set(counts.values()) == {1}
    assert search.n_failed == 0
    for i in range(5):
        key = f"split{i}_test_score"
        np.testing.assert_array_equal(search.results()[key], undisturbed.results()[key])
    assert {e.pid for e in evaluations} == {leaving, staying}
    assert len(nodes.client) == 2  # it was not ended
    last_s = max(e.started_at_s for e in evaluations if e.pid == leaving)
    assert last_s < told_s + 0.15
    assert busy_engines(nodes.folders[0]) == set()


def test_a_long_batch_is_given_back_and_its_engine_is_idle_soon(nodes, items_folder):
    """The engine has a batch of many items under way, and another one that waits."""
    first = nodes.client.ids[0]
    pid = nodes.pid_of(first)
    pool = IPyParallelPool(nodes.client)
    items = [(x, 0.02, items_folder) for x in range(100)]
    with running(nap, items, pool) as (scheduler, outcomes):
        assert wait_until(lambda: len(outcomes) > 5)
        # Between two batches it is idle for a moment.
        assert wait_until(lambda: busy_engines(nodes.folders[0]) == {pid})
        drain(nodes.folders[0])
        told_ns = time.time_ns()
        assert wait_until(lambda: not busy_engines(nodes.folders[0]), timeout_s=2)
        assert not scheduler.wait(0.5)
        assert scheduler.n_engines == 0
        lack = scheduler.without_engines()
        assert lack is not None
        assert "Start engines" in lack[1]
        begun = marks(items_folder)
        assert begun[-1][2] < told_ns + 200_000_000
        assert len(begun) == len(outcomes) < 100
        # An engine that joins is used at once.
        second, second_pid = nodes.start_engine(1)
        assert scheduler.wait(60)
    assert [outcomes[x][0] for x in range(100)] == list(range(100))
    assert Counter(x for x, _, _ in marks(items_folder)) == dict.fromkeys(range(100), 1)
    of_second = [x for x, by, _ in marks(items_folder) if by == second_pid]
    # What was given back comes first, in its order.
    assert of_second == sorted(of_second)
    assert {engine for _, engine in outcomes.values()} == {first, second}
    assert busy_engines(nodes.folders[1]) == set()


def test_the_end_of_an_idle_engine_that_leaves_is_no_death(nodes, items_folder):
    _, staying = nodes.start_engine(1)
    first = nodes.client.ids[0]
    pid = nodes.pid_of(first)
    drain(nodes.folders[0])
    items = [(x, 0.05, items_folder) for x in range(30)]
    with running(nap, items, IPyParallelPool(nodes.client)) as (scheduler, outcomes):
        buried = []
        scheduler._bury = lambda *arguments: buried.append(arguments)
        assert wait_until(lambda: scheduler.n_engines == 1)
        os.kill(pid, signal.SIGTERM)
        assert scheduler.wait(60)
        assert wait_until(lambda: len(nodes.client) == 1)
    assert not buried
    assert len(outcomes) == 30
    assert {by for _, by, _ in marks(items_folder)} == {staying}


def test_what_an_engine_that_leaves_dies_of_is_done_again(nodes, items_folder):
    """The agent could not wait any longer."""
    first = nodes.client.ids[0]
    pid = nodes.pid_of(first)
    second, _ = nodes.start_engine(1)
    items = [(x, 1.5 if x == 0 else 0.1, items_folder) for x in range(20)]
    with running(nap, items, IPyParallelPool(nodes.client)) as (scheduler, outcomes):
        assert wait_until(lambda: any(x == 0 for x, _, _ in marks(items_folder)))
        (holder,) = {by for x, by, _ in marks(items_folder) if x == 0}
        node = 0 if holder == pid else 1
        drain(nodes.folders[node])
        time.sleep(0.2)
        assert busy_engines(nodes.folders[node]) == {holder}
        os.kill(holder, signal.SIGKILL)
        assert scheduler.wait(60)
    assert busy_engines(nodes.folders[node]) == set()
    assert len(outcomes) == 20
    assert outcomes[0][1] == (second if node == 0 else first)


# -- on engines of a script ----------------------------------------------------------------------


class ScriptedPool:
    """Engines that do nothing by themselves: the test answers for them."""

    shares_fate = False

    def __init__(self, *engines):
        self.alive = list(engines)
        self.retired = []
        self.sent = []

    def engines(self):
        return [each for each in self.alive if each not in self.retired]

    def send(self, engine, function, items):
        future = Future()
        self.sent.append((engine, items, future))
        return future

    def is_death(self, error):
        return isinstance(error, ConnectionError)

    def retire(self, engine):
        self.retired.append(engine)

    def replace(self, engine):
        if engine in self.alive:
            self.alive.remove(engine)

    def is_replacing(self):
        return False

    def is_gone(self):
        return False

    def why_empty(self):
        return "Wait."

    def was_cancelled(self, error):
        return False

    def cancel(self, engine, futures):
        pass

    def forget(self, future):
        pass

    def answer(self, n, *, n_done=None, is_leaving=False):
        _, items, future = self.sent[n]
        done = [(2 * item[0], None) for item in items[:n_done]]
        future.set_result(BatchReport(done, 0.001, is_leaving=is_leaving))

    def sent_items(self, n):
        return [item[0] for item in self.sent[n][1]]


def test_what_is_given_back_goes_first_together_and_to_others():
    pool = ScriptedPool("a")
    with running(abs, [(x,) for x in range(200)], pool) as (scheduler, outcomes):
        assert wait_until(lambda: len(pool.sent) == 2)
        pool.answer(0)  # by which it learns how long an item takes
        assert wait_until(lambda: len(pool.sent) == 3)
        pool.answer(1)
        assert wait_until(lambda: len(pool.sent) == 4)
        third, fourth = pool.sent_items(2), pool.sent_items(3)
        assert len(third) > 3
        pool.alive.append("b")
        assert wait_until(lambda: len(pool.sent) == 6)
        pool.answer(2, n_done=2, is_leaving=True)
        pool.answer(3, n_done=0, is_leaving=True)
        assert wait_until(lambda: pool.retired == ["a", "a"])
        n = 4
        while not scheduler.wait(0.02):
            if n < len(pool.sent):
                pool.answer(n)
                n += 1
    again = [x for n in range(6, len(pool.sent)) for x in pool.sent_items(n)]
    assert again[: len(third) - 2 + len(fourth)] == third[2:] + fourth
    assert len(pool.sent_items(6)) > 1
    assert {engine for engine, _, _ in pool.sent[4:]} == {"b"}
    assert len(outcomes) == 200


def test_to_give_back_is_no_guilt_and_does_not_clear_of_it():
    """What may have killed an engine goes on travelling alone, until it has killed three."""
    pool, ended = ScriptedPool("a"), []
    scheduler = Scheduler(abs, Queue([(x,) for x in range(60)]), nullcontext(pool), ended.extend)
    scheduler.start()

    def dies_of(n, *, next_engine):
        pool.alive = [next_engine]
        pool.sent[n][2].set_exception(ConnectionError("the engine has died"))

    try:
        assert wait_until(lambda: len(pool.sent) == 2)
        dies_of(0, next_engine="b")
        assert wait_until(lambda: len(pool.sent) == 3)
        assert pool.sent_items(2) == [0]
        pool.alive = ["c"]
        pool.answer(2, n_done=0, is_leaving=True)
        assert wait_until(lambda: len(pool.sent) == 4)
        assert pool.sent_items(3) == [1]  # was lost with it
        pool.answer(3)  # by which it learns how long an item takes
        assert wait_until(lambda: len(pool.sent) == 6)
        assert pool.sent_items(4) == [0]
        ahead = pool.sent_items(5)
        assert len(ahead) > 3
        pool.alive = ["d"]
        pool.answer(4, n_done=0, is_leaving=True)
        pool.answer(5, n_done=0, is_leaving=True)
        assert wait_until(lambda: len(pool.sent) == 8)
        assert (pool.sent_items(6), pool.sent_items(7)) == ([0], ahead)
        assert not ended[1:]
        dies_of(6, next_engine="e")
        assert wait_until(lambda: len(pool.sent) == 9)
        assert pool.sent_items(8) == [0]
        dies_of(8, next_engine="f")
        assert wait_until(lambda: len(ended) == 2)
        assert ended[1].item == (0,)
        assert "have died, 3 times" in ended[1].failure
    finally:
        scheduler.abort()


def test_what_is_given_back_by_an_engine_taken_for_dead_is_not_queued_twice():
    pool = ScriptedPool("a")
    with running(abs, [(0,), (1,)], pool) as (scheduler, outcomes):
        assert wait_until(lambda: len(pool.sent) == 2)
        (_, _, first), (_, _, second) = pool.sent
        pool.alive = []
        with scheduler._wake:  # both are seen together: the news of the death is first
            second.set_exception(ConnectionError("a was cut off"))
            first.set_result(BatchReport([], 0.0, is_leaving=True))
        assert wait_until(lambda: "a" in pool.retired)
        pool.alive = ["b"]
        n = 2
        while not scheduler.wait(0.05):
            if n < len(pool.sent):
                pool.answer(n)
                n += 1
    assert sorted(pool.sent_items(2) + pool.sent_items(3)) == [0, 1]
    assert len(pool.sent) == 4
    assert len(outcomes) == 2


def test_the_search_is_over_only_when_what_was_given_back_is_done():
    pool = ScriptedPool("a")
    with running(abs, [(0,)], pool) as (scheduler, outcomes):
        assert wait_until(lambda: len(pool.sent) == 1)
        pool.answer(0, n_done=0, is_leaving=True)
        assert not scheduler.wait(0.5)
        assert scheduler.without_engines() is not None
        pool.alive.append("b")
        assert wait_until(lambda: len(pool.sent) == 2)
        pool.answer(1)
        assert scheduler.wait(10)
    assert outcomes == {0: (0, "b")}
