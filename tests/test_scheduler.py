"""The scheduler loses nothing, whatever happens to the engines."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import cloudpickle
import psutil
import pytest
from helpers import cluster_processes, wait_until
from joblib.externals import loky

import mscourse
from mscourse import batch
from mscourse import scheduler as module
from mscourse.batch import BatchReport, Parcel, run_batch
from mscourse.lostanswers import LostAnswers
from mscourse.pools import pool_for
from mscourse.scheduler import MOST_DEATHS, Scheduler
from mscourse.source import Queue


def double(x):
    return 2 * x


def call_first(values, x):
    function, instance = values
    return function(x), type(instance).__name__


def nap(seconds, x):
    time.sleep(seconds)
    return x


def fail_on_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def die_on_three(x, folder):
    if x == 3:
        (Path(folder) / f"{time.time_ns()}").touch()
        # Else the answer of the item before may die with the engine, and that item take the blame.
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return x


def note_and_die_once(x, folder):
    """Leave a mark for each start; kill the engine the first time that item 3 is run."""
    mark = Path(folder) / f"{x}-{time.time_ns()}"
    mark.touch()
    time.sleep(0.01)
    if x == 3 and len(list(Path(folder).glob("3-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note_begin_and_end(x, folder):
    (folder / f"begun-{x}").touch()
    time.sleep(2)
    (folder / f"finished-{x}").touch()


class Outcomes(dict):
    """Collects what the scheduler reports, and refuses a second report of an item."""

    def __call__(self, ended):
        for item, value, failure, engine in ended:
            key = item[-1] if isinstance(item[-1], int) else item[0]
            assert key not in self, f"item {key} was reported twice"
            self[key] = (value, failure, engine)

    def values_of(self, n):
        return [self[key][0] for key in range(n)]


def run(function, items, engines, *, timeout_s=60, during=None):
    outcomes = Outcomes()
    scheduler = Scheduler(function, Queue(items), pool_for(engines), outcomes)
    scheduler.start()
    try:
        if during:
            during(scheduler, outcomes)
        assert scheduler.wait(timeout_s), f"{len(outcomes)} of {len(items)} after {timeout_s} s"
    finally:
        scheduler.abort()
    return outcomes


@pytest.fixture(params=["client", "direct view", "balanced view", "threads", "processes", "loky"])
def engines(request, client):
    if request.param == "client":
        yield client
    elif request.param == "direct view":
        yield client[:]
    elif request.param == "balanced view":
        yield client.load_balanced_view()
    elif request.param == "loky":
        executor = loky.ProcessPoolExecutor(2)
        yield executor
        executor.shutdown()
    else:
        kinds = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}
        with kinds[request.param](2) as executor:
            yield executor


def test_anything_that_runs_functions_will_do(engines):
    outcomes = run(double, [(x,) for x in range(500)], engines)
    assert outcomes.values_of(500) == [2 * x for x in range(500)]
    outcomes = run(fail_on_three, [(x,) for x in range(6)], engines)
    assert outcomes[3][:2] == (None, "ValueError: three")
    assert sum(failure is None for _, failure, _ in outcomes.values()) == 5


def test_what_only_this_script_has_travels_as_a_part_of_an_item(engines):
    """Also if some items share it: then it travels once."""
    shared = [lambda x: x + 1, type("OfAScript", (), {"__module__": "__main__"})()]
    items = [(shared, x) for x in range(40)]
    outcomes = run(call_first, items, engines)
    assert [value[0] for value in outcomes.values_of(40)] == list(range(1, 41))
    assert {value[1] for value in outcomes.values_of(40)} == {"OfAScript"}


def test_what_items_share_travels_once():
    shared = {"C": 1.0}
    one, other = pickle.loads(pickle.dumps(Parcel([(0, shared), (1, shared)])))
    assert one[1] is other[1]
    text = pickle.dumps(Parcel([(0, {"C": 1.0, "kernel": "rbf"})] * 100))
    assert len(text) < 1000


def test_only_the_engines_of_a_view_are_used(client):
    outcomes = run(nap, [(0.001, x) for x in range(50)], client[[1]])
    assert {engine for _, _, engine in outcomes.values()} == {1}
    outcomes = run(nap, [(0.001, x) for x in range(20)], client[0])
    assert {engine for _, _, engine in outcomes.values()} == {0}


def test_both_engines_work(client):
    outcomes = run(nap, [(0.01, x) for x in range(100)], client)
    shares = [sum(engine == e for _, _, engine in outcomes.values()) for e in client.ids]
    assert min(shares) > 20


def test_with_nothing_given_a_cluster_is_started_and_stopped():
    before = cluster_processes()
    assert run(double, [(0,), (1,)], None).values_of(2) == [0, 2]
    assert cluster_processes() <= before


def test_no_items_is_over_at_once(client):
    assert run(double, [], client) == {}


def test_short_items_share_messages_and_long_ones_travel_alone(client, monkeypatch):
    sizes = []
    send = module.Scheduler._send
    monkeypatch.setattr(
        module.Scheduler,
        "_send",
        lambda self, pool, engine, tasks: (
            sizes.append(len(tasks)),
            send(self, pool, engine, tasks),
        ),
    )
    run(double, [(x,) for x in range(10_000)], client)
    assert len(sizes) < 100
    sizes.clear()
    run(nap, [(0.25, x) for x in range(6)], client)
    assert sizes == [1] * 6


def test_the_client_keeps_nothing_of_finished_batches(client):
    before = len(client.results), len(client.metadata)
    run(nap, [(0.001, x) for x in range(500)], client)
    assert (len(client.results), len(client.metadata)) <= before


def test_a_killed_engine_loses_nothing(tmp_path):
    with mscourse.local_cluster(2) as client:
        outcomes = run(note_and_die_once, [(x, str(tmp_path)) for x in range(60)], client)
        assert outcomes.values_of(60) == list(range(60))
        assert len(client) == 1
        assert len(list(tmp_path.glob("3-*"))) == 2


def test_an_item_that_kills_engines_is_given_up_and_the_others_are_done(tmp_path):
    items = [(x, str(tmp_path)) for x in range(12)]
    outcomes = run(die_on_three, items, None, timeout_s=120)
    value, failure, _ = outcomes.pop(3)
    assert value is None
    assert len(list(tmp_path.iterdir())) == MOST_DEATHS
    assert f"{MOST_DEATHS} times" in failure
    assert {key: outcome[0] for key, outcome in outcomes.items()} == {
        x: x for x in range(12) if x != 3
    }


def test_an_engine_that_joins_is_used_at_once():
    with mscourse.local_cluster(1) as client:

        def join(scheduler, outcomes):
            client.cluster.start_engines_sync(n=1)
            client.wait_for_engines(2, timeout=30, interactive=False)

        outcomes = run(nap, [(0.05, x) for x in range(150)], client, during=join)
        assert {engine for _, _, engine in outcomes.values()} == {0, 1}


def test_without_engines_it_says_so_and_goes_on_when_one_joins():
    with mscourse.local_cluster(1) as client:
        outcomes = Outcomes()
        scheduler = Scheduler(
            nap, Queue([(0.02, x) for x in range(100)]), pool_for(client), outcomes
        )
        scheduler.start()
        assert scheduler.without_engines() is None
        os.kill(client[0].apply_sync(os.getpid), signal.SIGKILL)
        assert wait_until(lambda: scheduler.without_engines() is not None)
        for_s, what_to_do = scheduler.without_engines()
        assert for_s < 5
        assert "Start engines" in what_to_do
        client.cluster.start_engines_sync(n=1)
        assert scheduler.wait(30)
        assert scheduler.without_engines() is None
        assert outcomes.values_of(100) == list(range(100))


def test_no_engines_at_all_is_refused_at_once():
    with mscourse.local_cluster(1) as client:
        os.kill(client[0].apply_sync(os.getpid), signal.SIGKILL)
        deadline_s = time.monotonic() + 20
        while client.ids and time.monotonic() < deadline_s:
            time.sleep(0.05)
        with pytest.raises(mscourse.NoEnginesError, match="no engines to run on"):
            pool_for(client)


@pytest.mark.parametrize("engines", ["client", 2, [1, 2]])
def test_what_runs_no_functions_is_refused(engines):
    with pytest.raises(mscourse.ParameterError, match="Client or view"):
        pool_for(engines)


def test_an_abort_waits_for_nothing_and_leaves_the_engines_free(client, tmp_path):
    def abort(scheduler, outcomes):
        deadline_s = time.monotonic() + 20
        while not list(tmp_path.glob("begun-*")) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        scheduler.abort()
        finished_by_then.extend(tmp_path.glob("finished-*"))

    finished_by_then: list[Path] = []
    outcomes = run(note_begin_and_end, [(x, tmp_path) for x in range(40)], client, during=abort)
    assert not finished_by_then
    assert not outcomes
    run(double, [(1,), (2,), (3,), (4,)], client, timeout_s=30)
    # What was running came to its end; what waited behind it was never begun.
    assert len(list(tmp_path.glob("begun-*"))) <= 2
    assert not outcomes


def test_what_batches_have_in_common_is_sent_to_each_engine_once(client, monkeypatch):
    sizes = sizes_sent(client, monkeypatch)
    outcomes = run(_Large(), [(x,) for x in range(200)], client)
    assert outcomes.values_of(200) == list(range(200))
    assert len(sizes) > 10
    assert sum(size > _Large.n_bytes for size in sizes) == len(client)


def test_an_engine_that_has_forgotten_the_function_is_sent_it_again(client, monkeypatch):
    sizes = sizes_sent(client, monkeypatch)
    engine = client[client.ids[0]]

    large = _Large()
    for _ in range(2):
        outcomes = Outcomes()
        scheduler = Scheduler(large, Queue([(x,) for x in range(40)]), pool_for(engine), outcomes)
        scheduler.start()
        while not scheduler.is_over and len(outcomes) < 10:
            time.sleep(0.01)
        engine.apply_sync(_forget_functions)
        assert scheduler.wait(30)
        assert outcomes.values_of(40) == list(range(40))
    assert sum(size > large.n_bytes for size in sizes) > 2


def _forget_functions():
    batch._kept.clear()


class _Large:
    """A function that carries much."""

    n_bytes = 3_000_000

    def __init__(self):
        self.content = os.urandom(self.n_bytes)

    def __call__(self, x):
        time.sleep(0.01)
        return x


def sizes_sent(client, monkeypatch):
    """Give the list that the sizes of the messages will be in."""
    sizes = []
    send = client.send_apply_request

    def note(socket, f, args=None, kwargs=None, **rest):
        sizes.append(len(cloudpickle.dumps((args, kwargs))))
        return send(socket, f, args, kwargs, **rest)

    monkeypatch.setattr(client, "send_apply_request", note)
    return sizes


def test_work_that_no_engine_can_unpickle_is_one_error(client):
    outcomes = Outcomes()
    scheduler = Scheduler(_Unpicklable(), Queue([(1,)]), pool_for(client), outcomes)
    scheduler.start()
    with pytest.raises(mscourse.ClusterError, match=r"cannot run the work.*no_such_module"):
        scheduler.wait(20)
    assert not outcomes


def test_what_has_come_with_what_ends_all_counts():
    outcomes = Outcomes()
    scheduler = Scheduler(double, Queue([(1,), (2,)]), pool_for(_FirstFails()), outcomes)
    scheduler.start()
    with pytest.raises(mscourse.ClusterError, match=r"cannot run the work.*no numpy"):
        scheduler.wait(20)
    assert list(outcomes) == [2]


class _FirstFails(Executor):
    """Has done everything at once, but the first message could not be unpacked."""

    _max_workers = 2
    _n_sent = 0

    def submit(self, function, /, *args, **kwargs):
        self._n_sent += 1
        future: Future = Future()
        if self._n_sent == 1:
            future.set_exception(ImportError("no numpy"))
        else:
            future.set_result(function(*args, **kwargs))
        return future


def test_who_only_shares_a_worker_with_the_culprit_is_not_given_up():
    """Dask runs work where it likes, and a worker that dies takes all that it had along."""
    outcomes = Outcomes()
    with _OneBoat() as executor:
        scheduler = Scheduler(double, Queue([(i,) for i in range(8)]), pool_for(executor), outcomes)
        scheduler.start()
        assert scheduler.wait(60)
    failed = [key for key, (_, failure, _) in outcomes.items() if failure is not None]
    assert failed == [3]
    assert len(outcomes) == 8


class KilledWorker(Exception):  # noqa: N818
    """Called as Dask's."""


class _OneBoat(Executor):
    """Three places on one worker, which dies of item 3."""

    _max_workers = 3

    def __init__(self):
        self._aboard: list[tuple[Future, object, tuple]] = []
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sail)
        self._thread.start()

    def submit(self, function, /, *args, **kwargs):
        future: Future = Future()
        with self._lock:
            self._aboard.append((future, function, args))
        return future

    def _sail(self):
        while not self._is_over.wait(0.05):
            with self._lock:
                aboard, self._aboard = self._aboard, []
            dies = any((3,) in items for _, _, (_, items) in aboard)
            for future, function, args in aboard:
                if dies:
                    future.set_exception(KilledWorker("gone"))
                else:
                    future.set_result(function(*args))

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._is_over.set()
        self._thread.join()


def test_an_end_that_fails_is_raised_and_not_waited_for():
    """As when a journal cannot be closed, since its disk has gone."""

    def on_over():
        raise OSError("stale file handle")

    with ThreadPoolExecutor(1) as executor:
        scheduler = Scheduler(double, Queue([(1,)]), pool_for(executor), Outcomes(), on_over)
        scheduler.start()
        with pytest.raises(OSError, match="stale"):
            scheduler.wait(20)


class _Unpicklable:
    def __reduce__(self):
        return (exec, ("import no_such_module",))


def test_a_closed_client_is_told():
    with mscourse.local_cluster(1) as client:
        scheduler = Scheduler(
            nap, Queue([(0.1, x) for x in range(99)]), pool_for(client), Outcomes()
        )
        scheduler.start()
        time.sleep(0.3)
    with pytest.raises(mscourse.ClusterError, match="closed"):
        scheduler.wait(20)


def test_a_controller_that_dies_is_told(monkeypatch):
    monkeypatch.setattr("mscourse.controller._ASK_AFTER_SILENCE_S", 0.5)
    monkeypatch.setattr("mscourse.controller._ANSWER_WITHIN_S", 2)
    with mscourse.local_cluster(1) as client:
        scheduler = Scheduler(
            nap, Queue([(1.5, x) for x in range(99)]), pool_for(client), Outcomes()
        )
        scheduler.start()
        time.sleep(3)  # longer than the silence: the controller is asked, and answers
        assert not scheduler.wait(0)
        controller = psutil.Process(client.cluster.controller.pid)
        for process in [*controller.children(recursive=True), controller]:
            process.kill()
        with pytest.raises(mscourse.NoEnginesError, match="controller does not answer"):
            scheduler.wait(30)


def test_a_broken_executor_is_told(tmp_path):
    with ProcessPoolExecutor(1) as executor:
        scheduler = Scheduler(
            die_on_three,
            Queue([(x, str(tmp_path)) for x in range(9)]),
            pool_for(executor),
            Outcomes(),
        )
        scheduler.start()
        with pytest.raises(mscourse.ClusterError, match="worker of the executor died"):
            scheduler.wait(30)


def test_no_thread_is_left(client):
    run(double, [(1,)], client)
    time.sleep(0.1)
    assert not [t for t in threading.enumerate() if t.name == "mscourse-scheduler"]


class SlowNewsPool:
    """An engine that dies while an answer of it is on its way, and another one that joins then."""

    shares_fate = False

    def __init__(self):
        self.alive = ["a"]
        self.sent = []

    def engines(self):
        return list(self.alive)

    def send(self, engine, function, items):
        future = Future()
        self.sent.append((engine, items, future))
        if engine == "b":
            future.set_result(run_batch(function, items))
        return future

    def is_death(self, error):
        return isinstance(error, ConnectionError)

    def replace(self, engine):
        self.alive = ["b"]

    def is_replacing(self):
        return not self.alive

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


def test_an_answer_that_comes_after_the_news_of_a_death_counts_once():
    pool, outcomes = SlowNewsPool(), Outcomes()
    scheduler = Scheduler(double, Queue([(x,) for x in range(6)]), nullcontext(pool), outcomes)
    scheduler.start()
    assert wait_until(lambda: len(pool.sent) == 2)  # one runs, one waits
    (_, first, answer), (_, _, news) = pool.sent
    pool.alive = []  # so that the answer is the first to come back
    news.set_exception(ConnectionError("the engine has died"))
    answer.set_result(BatchReport([(2 * first[0][0], None)], 0.01))
    assert scheduler.wait(10)
    assert outcomes.values_of(6) == [2 * x for x in range(6)]


class CrowdedPool(SlowNewsPool):
    """Many engines, which are done at once, and say that each item took 1/128 of a second."""

    def __init__(self, n_engines):
        super().__init__()
        self.alive = list(range(n_engines))

    def send(self, engine, function, items):
        future = Future()
        self.sent.append((engine, items, future))
        future.set_result(BatchReport([(x, None) for (x,) in items], len(items) / 128))
        return future


@pytest.mark.parametrize(
    ("n_engines", "most", "least"), [(2, 25, 1), (50, 25, 1), (100, 51, 2), (200, 102, 5)]
)
def test_messages_grow_with_the_engines_that_one_client_must_feed(n_engines, most, least):
    """0.2 s of work each, or 4 ms per engine if that is more; at the end a twentieth of that."""
    pool, n_ended = CrowdedPool(n_engines), []
    n_items = 2 * n_engines * (1 + most) + 10 * most
    scheduler = Scheduler(
        double,
        Queue([(x,) for x in range(n_items)]),
        nullcontext(pool),
        lambda ended: n_ended.append(len(ended)),
    )
    scheduler.start()
    assert scheduler.wait(60)
    assert sum(n_ended) == n_items
    sizes = [len(items) for _, items, _ in pool.sent]
    assert set(sizes[: 2 * n_engines]) == {1}  # nothing was known of durations
    known = sizes[2 * n_engines :]
    assert known[0] == max(known) == most
    assert min(known[:-1]) == least  # the last one has what is left


class DeadlyPool(SlowNewsPool):
    """One engine after the other: the next joins when one has died.

    The first is told by the test when to die. Of the next ones, `n_deaths` die of item 1.
    """

    def __init__(self, n_deaths):
        super().__init__()
        self.n_deaths = n_deaths

    def send(self, engine, function, items):
        future = Future()
        self.sent.append((engine, items, future))
        if items == [(1,)] and engine != "a" and self.n_deaths:
            self.n_deaths -= 1
            future.set_exception(ConnectionError("the engine has died"))
        elif engine != "a":
            future.set_result(run_batch(function, items))
        return future

    def replace(self, engine):
        self.alive = [chr(ord(engine) + 1)]


@pytest.mark.parametrize("n_deaths", [2, 3])
def test_to_wait_on_an_engine_that_dies_is_no_guilt(n_deaths):
    pool, outcomes = DeadlyPool(n_deaths), Outcomes()
    scheduler = Scheduler(double, Queue([(0,), (1,)]), nullcontext(pool), outcomes)
    scheduler.start()
    assert wait_until(lambda: len(pool.sent) == 2)  # item 0 runs, item 1 waits
    pool.sent[0][2].set_exception(ConnectionError("the engine has died"))
    assert scheduler.wait(10)
    failed = [key for key, (_, failure, _) in outcomes.items() if failure is not None]
    assert failed == ([] if n_deaths < 3 else [1])
    assert len(outcomes) == 2


def test_the_last_items_wait_for_an_engine():
    pool, outcomes = SlowNewsPool(), Outcomes()
    scheduler = Scheduler(double, Queue([(0,)]), nullcontext(pool), outcomes)
    scheduler.start()
    assert wait_until(lambda: len(pool.sent) == 1)
    pool.replace = lambda engine: setattr(pool, "alive", [])
    pool.sent[0][2].set_exception(ConnectionError("the engine has died"))
    assert wait_until(lambda: not pool.alive)
    assert not scheduler.wait(0.5)
    pool.alive = ["b"]
    assert scheduler.wait(10)
    assert outcomes.values_of(1) == [0]


class GonePool(SlowNewsPool):
    """Its first engine goes between the look at who is there and the message."""

    def send(self, engine, function, items):
        if engine == "a":
            self.alive = ["b"]
            raise IndexError("no engine a")
        return super().send(engine, function, items)


def test_an_engine_that_goes_just_before_it_is_sent_work_costs_nothing():
    outcomes = Outcomes()
    scheduler = Scheduler(
        double, Queue([(x,) for x in range(6)]), nullcontext(GonePool()), outcomes
    )
    scheduler.start()
    assert scheduler.wait(10)
    assert outcomes.values_of(6) == [2 * x for x in range(6)]


def two_answers_are_lost(client, monkeypatch):
    """Lose the next two answers; give the list that they will be in."""
    monkeypatch.setattr("mscourse.lostanswers._ASK_PERIOD_S", 0.3)
    handlers = client._queue_handlers
    handle = handlers["apply_reply"]
    lost = []

    def lose_two(message):
        (lost.append if len(lost) < 2 else handle)(message)

    monkeypatch.setitem(handlers, "apply_reply", lose_two)
    return lost


def test_work_whose_answer_was_lost_is_done_again(client, monkeypatch):
    lost = two_answers_are_lost(client, monkeypatch)
    outcomes = run(double, [(x,) for x in range(50)], client)
    assert len(lost) == 2
    assert outcomes.values_of(50) == [2 * x for x in range(50)]


def test_work_whose_answer_was_lost_leaves_nothing_at_the_client(client, monkeypatch):
    """Nobody waits for it any more, and it is not kept if it comes after all."""
    lost = two_answers_are_lost(client, monkeypatch)
    run(double, [(x,) for x in range(50)], client)
    ids = {message["parent_header"]["msg_id"] for message in lost}
    assert len(ids) == 2
    assert not ids & client.outstanding
    assert not any(ids & waiting for waiting in client._outstanding_dict.values())
    for message in lost:
        client._queue_handlers["apply_reply"](message)
    assert not ids & client.results.keys()


def test_what_is_missing_once_may_be_on_its_way():
    """Only what the controller does not know twice in a row is lost, and the oldest of it."""
    answers, futures = LostAnswers(None), [Future(), Future()]
    for future in futures:
        answers.sent(0, future)
    answers._asked_of = {0: futures}
    assert answers._compare({0: {"queue": 1, "tasks": 0}}) == []
    assert answers._compare({0: {"queue": 1, "tasks": 1}}) == []
    assert answers._compare({0: {"queue": 0, "tasks": 1}}) == []
    assert answers._compare({0: {"queue": 1, "tasks": 0}}) == [futures[0]]


def test_work_that_takes_long_is_not_taken_for_lost(client, monkeypatch, tmp_path):
    monkeypatch.setattr("mscourse.lostanswers._ASK_PERIOD_S", 0.1)
    run(note_begin_and_end, [(x, tmp_path) for x in range(8)], client)
    assert len(list(tmp_path.glob("begun-*"))) == 8
