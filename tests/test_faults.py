"""What evaluations, disks and files may do to a running search, on real engines."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import wait_until
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

import mscourse
from mscourse import timelimit

GRID = {"C": [0.1, 1, 10, 100], "gamma": [1e-3, 1e-2]}
DEEDS = ("nan", "writes", "moves", "meddles", "leaves", "nothing")


class Rogue(ClassifierMixin, BaseEstimator):
    """Does something that it should not, if the deed is not "nothing"."""

    def __init__(self, deed="nothing", seconds=0.0):
        self.deed = deed
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        self.sum_ = float(X.sum())
        self.state_ = (str(Path.cwd()), np.geterr(), len(warnings.filters), np.random.rand())
        match self.deed:
            case "writes":
                X[:] = -1
                y[:] = 0
            case "moves":
                # Elsewhere than it is, also if it has been moved before.
                os.chdir("/usr" if Path.cwd() == Path("/") else "/")
            case "meddles":
                np.seterr(all="raise")
                warnings.simplefilter("error")
                np.random.seed(0)
            case "leaves":
                sys.exit(3)
        return self

    def score(self, X, y):
        return float("nan") if self.deed == "nan" else self.sum_ + X.sum()


class Tells(Rogue):
    """Scores by what it finds in its process; equal for all if nothing is left there."""

    def score(self, X, y):
        return float(zlib.crc32(repr(self.state_[:3]).encode()))


# Whose scores are those of one that does nothing, if nothing is left of the others.
JUDGED = {Rogue: {"nothing"}, Tells: {"writes", "moves", "meddles", "nothing"}}


def table(search):
    return {
        name: column.tolist()
        for name, column in search.results().items()
        if "time" not in name and name != "params"
    }


def undisturbed(splits, client):
    search = mscourse.grid_search(SVC(), GRID, splits, engines=client)
    assert search.wait(60)
    return table(search)


# -- evaluations that misbehave --------------------------------------------------------------------


class Panic(BaseException):
    """What extensions in Rust raise is no `Exception`, either."""


class Panicking(Rogue):
    def fit(self, X, y):
        match self.deed:
            case "panics":
                raise Panic("index out of bounds")
            case "is interrupted":
                raise KeyboardInterrupt
        return super().fit(X, y)


@pytest.mark.parametrize("of_threads", [False, True])
def test_what_is_no_exception_fails_one_evaluation_too(digits_splits, client, of_threads):
    deeds = ["nothing", "panics", "is interrupted"]
    with ThreadPoolExecutor(2) as threads:
        search = mscourse.grid_search(
            Panicking(), {"deed": deeds}, digits_splits, engines=threads if of_threads else client
        )
        assert search.wait(60)
    failed = {(e.params["deed"], e.error) for e in search.evaluations() if e.error}
    assert failed == {
        ("panics", "Panic: index out of bounds"),
        ("is interrupted", "KeyboardInterrupt: "),
    }
    assert (search.n_done, search.n_failed) == (15, 10)


def test_what_one_evaluation_does_is_not_felt_by_the_next(digits_splits):
    with mscourse.local_cluster(2) as fresh:  # on others, somebody may have left something
        for estimator in (Rogue(), Tells()):
            alone = mscourse.grid_search(estimator, {}, digits_splits, engines=fresh)
            assert alone.wait(30)
            expected = {e.split: e.test_score for e in alone.evaluations()}
            search = mscourse.grid_search(
                estimator, {"deed": list(DEEDS) * 3}, digits_splits, engines=fresh
            )
            assert search.wait(60)
            found = [e for e in search.evaluations() if e.params["deed"] in JUDGED[type(estimator)]]
            assert len(found) == 3 * len(JUDGED[type(estimator)]) * len(digits_splits)
            assert all(e.test_score == expected[e.split] for e in found)


def test_each_deed_ends_where_it_was_done(digits_splits, client):
    grid = {"deed": list(DEEDS)}
    search = mscourse.grid_search(Rogue(), grid, digits_splits, engines=client)
    assert search.wait(60)
    by_deed = {}
    for e in search.evaluations():
        by_deed.setdefault(e.params["deed"], []).append(e)
    assert {e.error for e in by_deed["leaves"]} == {"SystemExit: 3"}
    assert all(np.isnan(e.test_score) and e.error is None for e in by_deed["nan"])
    assert search.best_params["deed"] not in ("nan", "leaves")
    digits_splits.verify()  # what was written into the map is not in the file


class HangsWhenRead:
    """As a function whose module waits for ever when it is imported."""

    def __reduce__(self):
        return time.sleep, (60,)


def test_an_import_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(timelimit, "_LOAD_S", 1.0)
    with pytest.raises(timelimit.StoppedError, match=r"not imported after 1\.5 s") as caught:
        timelimit.call(HangsWhenRead(), (), 0.5)
    assert 1.5 <= caught.value.elapsed_s < 30


def test_what_takes_too_long_is_killed(tmp_path):
    """It would go on for ever beside those that come after it."""

    def work():
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    with pytest.raises(timelimit.StoppedError, match="not done after 1 s"):
        timelimit.call(work, (), 1.0)
    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: not psutil.pid_exists(pid))


# -- engines that come and go ----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["busy", "idle"])
def test_the_death_of_an_engine_changes_nothing(digits_splits, client, which):
    expected = undisturbed(digits_splits, client)
    with mscourse.local_cluster(3) as own:
        pids = own[:].apply_sync(os.getpid)
        if which == "idle":
            os.kill(pids[0], signal.SIGKILL)  # before anything runs; nobody has noticed yet
        search = mscourse.grid_search(SVC(), GRID, digits_splits, engines=own)
        if which == "busy":
            assert wait_until(lambda: search.n_done > 3)
            os.kill(pids[0], signal.SIGKILL)
        assert search.wait(60)
    assert table(search) == expected
    assert search.n_failed == 0
    assert len({(e.candidate, e.split) for e in search.evaluations()}) == search.n_done == 40


def test_what_somebody_aborts_is_done_all_the_same(digits_splits, client):
    grid = {"seconds": np.linspace(0.2, 0.21, 8)}
    search = mscourse.grid_search(Rogue(), grid, digits_splits, engines=client)
    assert wait_until(lambda: search.n_done > 2)
    client.abort()
    assert search.wait(60)
    assert (search.n_done, search.n_failed) == (40, 0)


def test_an_abort_tells_each_engine_once(digits_splits, client, monkeypatch):
    """Else each engine would be told of the work of all others, and keep that for good."""
    told = []
    monkeypatch.setattr(client, "abort", lambda ids, targets, block: told.append((targets, ids)))
    search = mscourse.grid_search(
        Rogue(), {"seconds": [0.5, 0.51, 0.52]}, digits_splits, engines=client
    )
    assert wait_until(lambda: len(client.outstanding) == 4)
    search.abort()
    assert sorted((engine, len(ids)) for engine, ids in told) == [(0, 2), (1, 2)]


def test_when_all_engines_die_it_is_told_and_goes_on_with_new_ones(digits_splits, client):
    expected = undisturbed(digits_splits, client)
    with mscourse.local_cluster(2) as own:
        search = mscourse.grid_search(SVC(), GRID, digits_splits, engines=own)
        for pid in own[:].apply_sync(os.getpid):
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: search._scheduler.without_engines() is not None)
        assert "There has been no engine for" in repr(search)
        start_s = time.monotonic()
        with (
            pytest.warns(RuntimeWarning, match="no engine left.*Start engines") as told,
            pytest.raises(mscourse.NoEnginesError, match="no engine for"),
        ):
            search.wait(30, patience_s=2.0)
        assert len(told) == 1  # and not at each look
        assert time.monotonic() - start_s < 10
        own.cluster.start_engines_sync(n=2)
        assert wait_until(lambda: search._scheduler.without_engines() is None)
        assert search.wait(60)
        assert "no engine" not in repr(search)
    assert table(search) == expected


def test_what_is_added_when_there_are_no_engines_is_added_when_there_are(
    digits_splits, client, tmp_path
):
    expected = undisturbed(digits_splits, client)
    with mscourse.local_cluster(1) as own:
        search = mscourse.grid_search(
            SVC(), GRID | {"C": [0.1]}, digits_splits, engines=own, journal=tmp_path / "x.journal"
        )
        assert search.wait(60)
        (pid,) = own[:].apply_sync(os.getpid)
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not own.ids)
        for _ in range(2):
            with pytest.raises(mscourse.NoEnginesError, match="no engines to run on"):
                search.add(GRID)
        assert (search.n_done, search.n_total, len(search.candidates)) == (10, 10, 2)
        own.cluster.start_engines_sync(n=1)
        own.wait_for_engines(1, timeout=60)
        assert search.add(GRID) == 6
        assert search.wait(60)
    assert search.n_done == search.n_total == 40
    assert table(search) == expected


def test_a_new_cluster_goes_on_where_the_controller_died(
    digits_splits, client, tmp_path, monkeypatch
):
    monkeypatch.setattr("mscourse.controller._ASK_AFTER_SILENCE_S", 0.5)
    monkeypatch.setattr("mscourse.controller._ANSWER_WITHIN_S", 1.5)
    expected = undisturbed(digits_splits, client)
    launch = partial(
        mscourse.grid_search, SVC(), GRID, digits_splits, journal=tmp_path / "x.journal"
    )
    with mscourse.local_cluster(2) as own:
        search = launch(engines=own)
        assert wait_until(lambda: search.n_done > 3)
        # Its schedulers are processes of their own, and would go on without it.
        controller = psutil.Process(own.cluster.controller.pid)
        for process in [*controller.children(recursive=True), controller]:
            process.kill()
        with pytest.raises(mscourse.NoEnginesError, match="controller does not answer"):
            search.wait(60)
        assert search.n_done < search.n_total
    with mscourse.local_cluster(2) as other:
        again = launch(engines=other)
        assert again.n_done >= search.n_done > 3
        assert again.wait(60)
    assert table(again) == expected


# -- files -----------------------------------------------------------------------------------------


def _delete(path):
    path.unlink()


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _alter_one_bit(path):
    with path.open("r+b") as file:
        file.seek(-5000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param(_delete, "is gone", marks=pytest.mark.long),
        pytest.param(_truncate, "torn", marks=pytest.mark.long),
        (_alter_one_bit, "was written to while"),
    ],
)
def test_data_that_are_harmed_under_a_search_end_it(digits, tmp_path, harm, says):
    X, y = digits
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="digits", cv=3, random_state=0)
    journal = tmp_path / "search.journal"
    grid = {"seconds": list(np.linspace(0.02, 0.03, 60))}
    # Engines that read a file while it is truncated die of it; those of its own are replaced.
    launch = partial(mscourse.grid_search, Rogue(), grid, journal=journal)
    search = launch(splits=splits)
    assert wait_until(lambda: search.n_done > 20)
    (data,) = tmp_path.glob("digits/X-*.npy")
    harm(data)
    with pytest.raises(mscourse.DamagedSplitsError, match=f"On .*{data.name}.*{says}"):
        search.wait(60)
    assert 20 < search.n_done < search.n_total
    with pytest.raises(mscourse.SplitsError):
        splits.verify()
    # No candidate is blamed; with whole data the rest is done.
    assert mscourse.read_journal(journal).n_failed == search.n_failed == 0
    mended = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="digits", cv=3, random_state=0)
    again = launch(splits=mended)
    assert again.n_done >= search.n_done
    assert again.wait(60)


def test_a_full_disk_while_persisting_leaves_what_was_there(digits, tmp_path):
    X, y = digits
    before = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="digits", cv=3)
    program = """
        import resource, sys
        import numpy as np
        import mscourse

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
        try:
            mscourse.persist_cv_splits(
                np.zeros((600, 64)), folder=sys.argv[1], name="digits", cv=3
            )
        except mscourse.SplitsError as error:
            print(error)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "could not be written" in ended.stdout
    assert "What was there before is unchanged" in ended.stdout
    before.verify()
    assert {path.suffix for path in (tmp_path / "digits").iterdir()} == {".npy", ".json"}
    assert len(list((tmp_path / "digits").iterdir())) == 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000  # only there


class CutsItsOwnData(ClassifierMixin, BaseEstimator):
    """Has a file cut in the middle of a page while it is fitted, and reads zeros from there on."""

    def __init__(self, path="", n_bytes=0):
        self.path = path
        self.n_bytes = n_bytes

    def fit(self, X, y):
        os.truncate(self.path, self.n_bytes)
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return float(X.sum())


@pytest.mark.parametrize("restores", [False, True])
def test_an_evaluation_whose_data_are_cut_meanwhile_is_not_believed(client, tmp_path, restores):
    X = np.ones((30, 2))
    splits = mscourse.persist_cv_splits(
        X, np.arange(30) % 2, folder=tmp_path, name="small", cv=3, random_state=0
    )
    (data,) = tmp_path.glob("small/X-*.npy")
    n_bytes = data.stat().st_size
    grid = {"n_bytes": [n_bytes if restores else n_bytes - 100], "path": [str(data)]}
    if restores:  # the same length again, but zeros at the end
        os.truncate(data, n_bytes - 100)
        os.truncate(data, n_bytes)
    search = mscourse.grid_search(CutsItsOwnData(), grid, splits, engines=client)
    with pytest.raises(mscourse.DamagedSplitsError, match=r"torn|was written to while"):
        search.wait(30)
    assert search.n_done == 0
