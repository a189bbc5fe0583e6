"""The joblib backend: scikit-learn's own tools on engines, without a copy of the data for each."""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, LinearSVC

import mscourse
import mscourse.joblib
from mscourse.engines import ask_engines

LARGE = np.arange(1_000_000.0).reshape(-1, 10)  # 8 MB


def on(engines, **options):
    return joblib.parallel_config("mscourse", engines=engines, **options)


def parallel(function, *arguments):
    return joblib.Parallel()(joblib.delayed(function)(each) for each in arguments)


def double(x):
    return 2 * x


def test_results_come_in_their_order(client):
    with on(client):
        assert parallel(double, *range(300)) == [2 * x for x in range(300)]
        assert parallel(double) == []
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(1) == 1


def test_results_can_be_taken_one_by_one(client):
    with on(client):
        tasks = (joblib.delayed(double)(x) for x in range(50))
        assert list(joblib.Parallel(return_as="generator")(tasks)) == [2 * x for x in range(50)]


def look_at(array):
    before = mscourse.process_memory().anonymous_bytes
    total = float(array.sum())
    grown = (mscourse.process_memory().anonymous_bytes or 0) - (before or 0)
    return total, type(array).__name__, getattr(array, "mode", None), grown, os.getpid()


def test_a_large_array_is_mapped_and_a_small_one_is_sent(client):
    with on(client):
        looks = parallel(look_at, *[LARGE] * 8, LARGE[:10])
    *large, small = looks
    assert {total for total, *_ in large} == {LARGE.sum()}
    assert {(kind, mode) for _, kind, mode, _, _ in large} == {("memmap", "c")}
    assert max(grown for *_, grown, _ in large) < LARGE.nbytes / 2
    assert len({pid for *_, pid in large}) == 2
    assert small[:2] == (LARGE[:10].sum(), "ndarray")
    with on(client, least_mapped_bytes=100):
        assert parallel(look_at, LARGE[:10])[0][1] == "memmap"


def overwrite(array):
    array[:] = 0
    return float(array.sum())


def test_what_a_task_writes_reaches_nobody(client):
    array = LARGE.copy()
    with on(client):
        assert parallel(overwrite, array, array) == [0, 0]
        assert parallel(look_at, array)[0][0] == LARGE.sum()
    assert array.sum() == LARGE.sum()


def test_the_tools_of_scikit_learn_give_the_same(client):
    X, y = load_digits(return_X_y=True)
    X, y = np.tile(X, (2, 1)), np.tile(y, 2)  # 1.8 MB: it is mapped
    grid = {"var_smoothing": [1e-9, 1e-3, 1e-1]}
    forest = RandomForestClassifier(20, random_state=0)
    alone = GridSearchCV(GaussianNB(), grid).fit(X, y)
    expected = cross_val_score(SVC(), X, y), forest.fit(X, y).predict(X[:100])
    with on(client):
        together = GridSearchCV(GaussianNB(), grid, n_jobs=-1).fit(X, y)
        scores = cross_val_score(SVC(), X, y, n_jobs=-1)
        predicted = forest.set_params(n_jobs=-1).fit(X, y).predict(X[:100])
    for key in ("split0_test_score", "mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(together.cv_results_[key], alone.cv_results_[key])
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(predicted, expected[1])


def test_more_tools_of_scikit_learn_give_the_same(client):
    X, y = load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    fitted = GaussianNB().fit(X, y)

    def results():
        importances = permutation_importance(fitted, X, y, n_repeats=2, random_state=0, n_jobs=-1)
        voting = VotingClassifier([("bayes", GaussianNB()), ("svc", SVC())], n_jobs=-1)
        one_by_one = OneVsRestClassifier(LinearSVC(random_state=0), n_jobs=-1)
        return (
            importances.importances,
            voting.fit(X, y).predict(X),
            one_by_one.fit(X / 16, y).predict(X / 16),
        )

    with on(client):
        together = results()
    with joblib.parallel_config("sequential"):
        alone = results()
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def kinds(X):
    if sparse.issparse(X):
        return [type(each).__name__ for each in (X.data, X.indices)]
    base = X.to_numpy()
    while isinstance(base, np.ndarray):
        base = base.base
    return [type(base).__name__]


def test_what_a_sparse_matrix_and_a_frame_are_made_of_is_mapped(client):
    matrix = sparse.random(20_000, 500, density=0.05, format="csr", random_state=0)
    pandas = pytest.importorskip("pandas")
    with on(client):
        assert parallel(kinds, matrix, matrix) == [["memmap", "memmap"]] * 2
        assert parallel(kinds, pandas.DataFrame(LARGE), matrix)[0] == ["mmap"]


def count_files(array):
    return len(list(Path(array.filename).parent.iterdir()))


def test_the_file_of_an_array_goes_when_nobody_needs_it(client):
    with on(client, least_mapped_bytes=1000):
        tasks = (joblib.delayed(count_files)(np.full(1000, i)) for i in range(60))
        most = max(joblib.Parallel(batch_size=1)(tasks))
        assert most < 30  # each of 60 arrays is another one, and few are under way at a time
        assert max(parallel(count_files, *[LARGE] * 20)) == 1


def speak(x):
    sys.stdout.write(f"spoken {x}\n")
    warnings.warn("warned", RuntimeWarning, stacklevel=1)
    return x


def test_what_tasks_print_and_warn_of_is_so_here(client, capsys):
    with on(client), pytest.warns(RuntimeWarning, match="warned") as warned:
        assert parallel(speak, *range(5)) == list(range(5))
    assert len(warned) == 5
    assert sorted(capsys.readouterr().out.split()) == sorted(["spoken"] * 5 + list("01234"))
    assert Path(warned[0].filename) == Path(__file__)
    with on(client), warnings.catch_warnings(record=True) as once:
        warnings.simplefilter("default")
        parallel(speak, *range(5))
    assert len(once) == 1


class BrokenPipe(io.StringIO):
    def write(self, text):
        raise BrokenPipeError("nobody reads")


@pytest.mark.parametrize(
    ("stdout", "says"),
    [(io.TextIOWrapper(io.BytesIO(), "ascii"), "can't encode"), (BrokenPipe(), "nobody reads")],
)
def test_what_cannot_be_printed_here_harms_no_task(client, monkeypatch, stdout, says):
    backend = mscourse.joblib.EnginesBackend(client)
    backend.start_call()
    monkeypatch.setattr(sys, "stdout", stdout)
    assert backend.submit(lambda: sys.stdout.write("naïve")).result(timeout=10) == 5
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match=f"cannot be printed here: .*{says}"):
        backend.stop_call()


def test_whatever_ends_the_scheduler_is_told_to_who_waits(client, monkeypatch):
    def leave(*_):
        raise SystemExit("enough")

    backend = mscourse.joblib.EnginesBackend(client)
    monkeypatch.setattr(mscourse.joblib._Call, "_take_in", leave)
    backend.start_call()
    with pytest.raises(SystemExit, match="enough"):
        backend.submit(os.getpid).result(timeout=10)
    backend.stop_call()


def where(_):
    return os.getpid()


def test_a_single_engine_is_an_engine(client):
    with on(client[[0]]):
        assert set(parallel(where, 1, 2, 3)) == {ask_engines(client, os.getpid)[0]}


def test_what_is_submitted_after_the_end_of_the_engines_is_told_so():
    with mscourse.local_cluster(1) as client:
        backend = mscourse.joblib.EnginesBackend(client)
        backend.start_call()
        client.close()
        first = backend.submit(where)
        with pytest.raises(mscourse.NoEnginesError, match="client is closed"):
            first.result(timeout=10)
        with pytest.raises(mscourse.NoEnginesError, match="client is closed"):
            backend.submit(where).result(timeout=10)
        backend.stop_call()


class UnreadableError(Exception):
    """Can be pickled, but not read."""

    def __reduce__(self):
        return int, ("not a number",)


def return_something_unreadable(_):
    return UnreadableError()


def test_what_cannot_be_read_is_raised(client):
    with on(client), pytest.raises(ValueError, match="invalid literal") as caught:
        parallel(return_something_unreadable, 1, 2)
    assert "what engine" in "".join(caught.value.__notes__)


class TwoPartError(Exception):
    """Is made of two things, and pickled with its message alone."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


class TwoPartWarning(UserWarning):
    """The same, as a warning."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


def warn_in_two_parts(x):
    warnings.warn(TwoPartWarning("a leak", "the seam"), stacklevel=1)
    if x < 0:
        raise TwoPartError("a fire", "the stove")
    return x


def test_what_is_said_so_that_it_cannot_be_read_costs_neither_result_nor_message(client):
    with on(client), pytest.warns(UserWarning, match="TwoPartWarning: a leak at the seam"):
        assert parallel(warn_in_two_parts, *range(4)) == [0, 1, 2, 3]
    with on(client), pytest.raises(RuntimeError, match="TwoPartError: a fire at the stove"):
        parallel(warn_in_two_parts, -1)


@pytest.mark.timeout(60)
def test_a_late_task_that_cannot_be_pickled_is_told(client):
    arguments = [threading.Lock() if x == 25 else x for x in range(30)]
    with on(client), pytest.raises(TypeError, match="cannot pickle"):
        parallel(str, *arguments)


def leave(x):
    sys.exit(f"task {x} has had enough")


def test_a_task_that_leaves_does_not_make_its_client_leave(client):
    with on(client), pytest.raises(RuntimeError, match="SystemExit: task 1 has had enough"):
        parallel(leave, 1)


class UnspeakableError(Exception):
    def __init__(self, a, b):
        super().__init__(threading.Lock())


def fail(x):
    if x == 3:
        raise KeyError("not three")
    if x == 4:
        raise UnspeakableError(1, 2)
    return x


def test_what_a_task_raises_is_raised_here_and_the_next_call_works(client):
    with on(client):
        with pytest.raises(KeyError, match="not three") as caught:
            parallel(fail, *range(4))
        assert "in fail" in "".join(caught.value.__notes__)
        with pytest.raises(RuntimeError, match="UnspeakableError"):
            parallel(fail, 4)
        assert parallel(fail, 5) == [5]
        with joblib.Parallel() as reused:
            with pytest.raises(KeyError):
                reused(joblib.delayed(fail)(x) for x in range(9))
            # joblib itself may hand out, first, what it had prefetched for the call before.
            assert reused(joblib.delayed(fail)(x) for x in range(3))[-3:] == [0, 1, 2]


def nap(x):
    time.sleep(0.05)
    return x


@pytest.mark.long
def test_an_engine_may_die(tmp_path):
    with mscourse.local_cluster(2) as client, on(client):
        pids = ask_engines(client, os.getpid)
        threading.Timer(0.5, os.kill, (pids[0], signal.SIGKILL)).start()
        assert parallel(nap, *range(40)) == list(range(40))
        assert client.ids == [1]


def in_the_main_thread(_):
    return threading.current_thread() is threading.main_thread(), os.getpid()


def nested(_):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(in_the_main_thread)(x) for x in range(4))


def test_what_is_nested_runs_on_its_engine_one_by_one(client):
    with on(client):
        for places in parallel(nested, 1, 2):
            assert len(places) == 4
            [(is_main, pid)] = set(places)
            assert is_main
            assert pid in ask_engines(client, os.getpid).values()


def test_an_executor_will_do():
    with ThreadPoolExecutor(2) as executor, on(executor):
        assert parallel(double, 1, 2, 3) == [2, 4, 6]


def test_no_file_and_no_thread_is_left(client):
    with on(client):
        parallel(look_at, LARGE)
    time.sleep(0.5)
    assert not list(Path(tempfile.gettempdir()).glob("mscourse-joblib-*"))
    assert not [each for each in threading.enumerate() if each.name == "mscourse-scheduler"]


def test_without_engines_it_says_what_to_give():
    with pytest.raises(mscourse.ParameterError, match=r"needs engines: .with mscourse.local_clu"):
        joblib.parallel_config("mscourse")
    with pytest.raises(mscourse.ParameterError, match="engines must be"):
        joblib.parallel_config("mscourse", engines=4)
    with on(ThreadPoolExecutor(1)), pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel(n_jobs=0)(joblib.delayed(double)(x) for x in range(2))


def length_and_type(array):
    return len(array), type(array[0]).__name__


def test_large_arrays_of_objects_travel(client):
    """They cannot be mapped from a file: what they hold is elsewhere in memory."""
    large = np.array([{}] * 200_000, dtype=object)  # 1.6 MB, larger than what is mapped
    with on(client):
        assert parallel(length_and_type, large) == [(200_000, "dict")]


def test_a_call_within_the_generator_of_a_call_is_told(client):
    """joblib submits tasks without saying of which call."""

    def tasks():
        for x in range(3):
            (inner,) = parallel(double, x)
            yield joblib.delayed(double)(inner)

    with on(client):
        with pytest.raises(mscourse.ParameterError, match="Make a list of what this one gives"):
            joblib.Parallel()(tasks())
        assert parallel(double, *range(5)) == [0, 2, 4, 6, 8]
